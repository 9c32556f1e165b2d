"""The demo as `make demo` runs it, in a checkout of its own and on free ports."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sisock.testing.fixtures import free_ports

ROOT = Path(__file__).parents[1]
_COME_UP_S = 170.0


@dataclass(frozen=True)
class RunningDemo:
    """A demo that runs, for programs that are started beside it."""

    checkout: Path
    """What looks like a checkout: `examples/` and `.venv/`; README's snippets work in this folder as they stand."""
    environment: dict[str, str]
    """The environment of a terminal there, in which nothing says where the site is."""

    def run(self, command: list[str] | str, timeout_s: float = 120.0) -> "subprocess.CompletedProcess[str]":
        """Run a program, or a shell's command line, and return what it left."""
        return subprocess.run(
            command,
            shell=isinstance(command, str),
            cwd=self.checkout,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def start(self, command: list[str] | str) -> "subprocess.Popen[str]":
        """Start a program, or a shell's command line, that runs until Ctrl-C; use it in a ``with`` block."""
        return subprocess.Popen(
            command if isinstance(command, list) else ["sh", "-c", f"exec {command}"],
            cwd=self.checkout,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Ctrl-C must be heard also where the tests themselves run in the background.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
        )


@contextmanager
def running_demo(checkout: Path) -> Iterator[RunningDemo]:
    """Run the demo in a folder that is made to look like a checkout."""
    shutil.copytree(ROOT / "examples", checkout / "examples", ignore=shutil.ignore_patterns(".sisock", "secrets.yaml"))
    (checkout / ".venv").symlink_to(sys.prefix)
    runtime = checkout / "runtime"
    runtime.mkdir(mode=0o700)
    site = checkout / "examples" / "demo" / "site.yaml"
    router, rawsocket, gateway = free_ports(3)
    text = site.read_text()
    assert "  port: 8080\n" in text, "the demo's router has another port"
    text = text.replace("  port: 8080\n", f"  port: {router}\n  rawsocket_port: {rawsocket}\n")
    site.write_text(re.sub(r"^gateway:\n", f"gateway:\n  port: {gateway}\n", text, flags=re.M))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("WAMP_", "SISOCK_"))}
    environment |= {"XDG_RUNTIME_DIR": str(runtime), "NO_COLOR": "1"}
    log = checkout / "demo.log"
    with log.open("w") as output:
        command = [".venv/bin/sisock", "demo", "examples/demo"]
        demo = subprocess.Popen(command, cwd=checkout, env=environment, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + _COME_UP_S
        while "Data flows." not in log.read_text():
            assert demo.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield RunningDemo(checkout, environment)
    finally:
        demo.send_signal(signal.SIGINT)
        try:
            status = demo.wait(60.0)
        except subprocess.TimeoutExpired:
            demo.kill()
            raise
    assert status == 0, log.read_text()
    assert " warning: " not in log.read_text()
