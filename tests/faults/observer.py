"""What is seen of a site from outside: its memory, whether it says that it is ready, how its nodes are, watermarks."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import psutil

from sisock.errors import SisockError
from tests.faults.site import FaultSite

_LOOK_S = 0.25
MB = 1e6


@dataclass(slots=True)
class Seen:
    """What was seen in a span of time; times are of the monotonic clock."""

    ready: list[tuple[float, bool, float]] = field(default_factory=list)
    """When, whether `/healthz` and `/readyz` were 200, and after how many seconds both were answered."""
    states: dict[str, list[tuple[float, str]]] = field(default_factory=lambda: defaultdict(list))
    """When, and the gateway's state of a node, by node: live, stale, gone."""
    health: dict[str, list[tuple[float, str]]] = field(default_factory=lambda: defaultdict(list))
    """When, and the health that a node reported of itself, by node."""
    peak: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Most memory of a part, MB."""
    last: dict[str, float] = field(default_factory=dict)
    """The memory of a part when it was looked at last, MB."""
    backwards: list[str] = field(default_factory=list)
    """Watermarks that went back."""


class Observer:
    """Looks at a site again and again, in threads of its own."""

    def __init__(self, site: FaultSite) -> None:
        self._site, self._stop = site, threading.Event()
        self._watermarks: dict[str, float] = {}
        self._resets: dict[str, int] = {}
        self.seen = Seen()
        self._threads = [
            threading.Thread(target=self._repeat, args=(look,), daemon=True)
            for look in (self._look_at_memory, self._ask_whether_ready, self._ask_for_states, self._ask_nodes)
        ]

    def __enter__(self) -> "Observer":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def begin(self) -> None:
        """Forget what was seen, but for the watermarks."""
        self.seen = Seen()

    def get(self, path: str, timeout_s: float = 2.0) -> Any:
        """Ask the gateway; raises OSError or ValueError when it does not answer."""
        url = f"http://127.0.0.1:{self._site.ports['gateway']}{path}"
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            return json.load(answer)

    def _repeat(self, look: Any) -> None:
        while not self._stop.wait(_LOOK_S):
            look()

    def _look_at_memory(self) -> None:
        sums: dict[str, float] = defaultdict(float)
        for name, process in self._site.processes():
            try:
                sums[name] += process.memory_info().rss / MB
            except psutil.NoSuchProcess:
                continue
        seen = self.seen
        for name, size in sums.items():
            seen.peak[name] = max(seen.peak[name], size)
            seen.last[name] = size

    def _ask_whether_ready(self) -> None:
        began = time.monotonic()
        try:
            self.get("/healthz")
            self.get("/readyz")
            ready = True
        except (OSError, ValueError):
            ready = False
        self.seen.ready.append((began, ready, time.monotonic() - began))

    def _ask_for_states(self) -> None:
        began = time.monotonic()
        try:
            for node in self.get("/api/v1/nodes"):
                self.seen.states[node["name"]].append((began, node["state"]))
        except (OSError, ValueError):
            return  # which `ready` tells

    def _ask_nodes(self) -> None:
        """Ask the nodes themselves, until the router is lost."""
        try:
            with self._site.consumer(timeout_s=1.0) as consumer:
                while not self._stop.wait(_LOOK_S):
                    for node in self._site.nodes:
                        self.take(node, consumer)
        except SisockError:
            return  # once more, with another connection

    def take(self, node: str, consumer: Any) -> None:
        began = time.monotonic()
        try:
            status = consumer.status(node)
        except SisockError:
            return  # a node that does not answer is a matter of its state
        self.seen.health[node].append((began, (status.get("health") or {}).get("state", "none")))
        for timeline, about in status.get("timelines", {}).items():
            final = about.get("finalized_until")
            key = f"{node}/{timeline}"
            reset = about.get("reset", 0)
            if reset > self._resets.get(key, 0):
                self._watermarks.pop(key, None)  # it has gone back, and says so
            self._resets[key] = reset
            before = self._watermarks.get(key, -float("inf"))
            if final is not None and final < before:
                self.seen.backwards.append(f"{key} went back by {before - final:.3f} s")
            self._watermarks[key] = max(before, final if final is not None else before)
