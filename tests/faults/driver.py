"""Injecting faults into a site, one after the other, with the same five checks after each."""

import contextlib
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sisock.consumer import BlockingConsumer
from sisock.errors import SisockError
from tests.faults.journal import Audit, Journal, audit
from tests.faults.observer import Observer
from tests.faults.registry import Fault, Moment, NotPossible, Outcome
from tests.faults.site import FaultSite, remove

# Seconds after which a site that does not recover is given up; a recorder may take so long to have fetched all.
_PATIENCE_S = 60.0
_TICK_S = 0.05
# Intervals that are asked for before and after a fault, of each node.
_QUESTIONS = 5
_LONGEST_S = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a node answered for an interval that was final."""

    node: str
    start: float
    end: float
    t: np.ndarray
    numbers: np.ndarray


class Driver:
    """A running site and its instrument's journals; open it with `driver`.

    Parameters
    ----------
    site : FaultSite
    observer : Observer
    slack : float
        By which `RECOVERY_S` is multiplied, where machines are slow or busy.
    """

    def __init__(self, site: FaultSite, observer: Observer, slack: float = 1.0) -> None:
        self.site, self.observer, self.slack = site, observer, slack
        self.journals = {node: Journal(site.folder / f"{node}.journal") for node in (*site.numbered, "udp")}
        # Reading a history for the first time imports what is needed for that, 60 MB, which no fault is to be blamed for.
        self.is_warm = False
        self._known: dict[str, set[int]] = {node: set() for node in site.nodes}  # numbers whose loss was reported

    def run(self, kind: type[Fault], repeat: int, seed: int) -> Outcome:
        """Inject a fault, heal it, and check."""
        outcome, began = Outcome(kind.name, repeat, seed), time.monotonic()
        chance = random.Random(f"{seed} {kind.name} {repeat}")
        fault = kind(self.site, chance)
        try:
            if not self.is_warm:
                self._answers(chance)
                time.sleep(1.0)  # until the memory has been looked at
                self.is_warm = True
            fault.prepare()
            before = self._answers(chance)
            memory = dict(self.observer.seen.last)
            self.observer.begin()
            moment = Moment(time.monotonic())
            try:
                fault.inject()
                time.sleep(fault.hold_s)
            finally:
                fault.heal()
            moment.ended = time.monotonic()
            outcome.recovery_s = self.recover()
            if outcome.recovery_s > fault.recovery_s * self.slack:
                outcome.violations.append(f"recovered after {outcome.recovery_s:.1f} s")
            if complaint := fault.complaint(self.observer.seen, moment):
                outcome.violations.append(complaint)
            self._compare(before, fault, outcome)
            self._audit(fault, outcome)
            outcome.violations += fault.violations()
            outcome.violations += sorted(set(self.observer.seen.backwards))
            self._weigh(memory, fault, outcome)
        except NotPossible as error:
            outcome.not_run = str(error)
            with contextlib.suppress(TimeoutError):  # the next fault reports what does not work
                self.recover()
        except (SisockError, TimeoutError, OSError) as error:
            outcome.violations.append(f"{type(error).__name__}: {error}"[:500])
        outcome.seconds = time.monotonic() - began
        return outcome

    def recover(self) -> float:
        """Block until all works, and return after how many seconds.

        Raises
        ------
        TimeoutError
            If it does not; the text names what does not work.
        """
        began, wall = time.monotonic(), time.time()
        while missing := self._missing(wall):
            if time.monotonic() - began > _PATIENCE_S:
                raise TimeoutError(f"not recovered after {_PATIENCE_S:g} s: {missing}")
            time.sleep(_TICK_S)
        return time.monotonic() - began

    def _missing(self, since: float) -> str | None:
        """Return what does not work; None if all does. New samples are those of after `since`, in UNIX seconds."""
        for node in self.site.numbered:
            self.journals[node].read()
            # What was stamped by a clock that was ahead is not new.
            if not since <= self.journals[node].newest <= time.time() + 1.0:
                return f"{node} acknowledges nothing"
        try:
            self.observer.get("/readyz")
            states = {node["name"]: node["state"] for node in self.observer.get("/api/v1/nodes")}
        except (OSError, ValueError) as error:
            return f"the gateway is not ready ({error})"
        if wrong := [
            f"{node} is {states.get(node)}" for node in self.site.nodes if states.get(node) not in ("live", "online")
        ]:
            return "in the gateway " + ", ".join(wrong)
        try:
            with self.site.consumer(timeout_s=1.0) as consumer:
                for node in self.site.nodes:
                    status = consumer.status(node)
                    health = (status.get("health") or {}).get("state", "ok")
                    if health not in ("ok", "live"):
                        return f"{node} reports {status['health']}"
        except SisockError as error:
            return error.message
        return None

    # The checks

    def _answers(self, chance: random.Random) -> list[Answer]:
        """Ask all numbered nodes for intervals that are final."""
        answers = []
        with self.site.consumer() as consumer:
            for node in self.site.numbered:
                about = consumer.status(node)["timelines"]["numbers"]
                if about["oldest"] is None or about["finalized_until"] is None:
                    continue
                for _ in range(_QUESTIONS):
                    start = chance.uniform(about["oldest"], about["finalized_until"])
                    end = min(start + chance.uniform(0.0, _LONGEST_S), about["finalized_until"])
                    answers.append(Answer(node, start, end, *_read(consumer, node, start, end)[:2]))
        return answers

    def _compare(self, before: Sequence[Answer], fault: Fault, outcome: Outcome) -> None:
        example = ""
        with self.site.consumer() as consumer:
            for answer in before:
                t, numbers, _, gaps = _read(consumer, answer.node, answer.start, answer.end)
                if np.array_equal(t, answer.t) and np.array_equal(numbers, answer.numbers):
                    continue
                kept, known = np.isin(answer.t, t), np.isin(t, answer.t)
                gone, new = answer.t[~kept], int((~known).sum())
                outside = [each for each in gone if not any(start <= each <= end for start, end in gaps)]
                other = not np.array_equal(numbers[known], answer.numbers[kept])
                if not fault.may_leave_gaps or outside or new or other:
                    outcome.changed += 1
                    example = f"{answer.node} from {answer.start:.3f} to {answer.end:.3f}: {len(gone)} samples are gone"
                    example += f", {len(outside)} of them in no gap of {gaps}, {new} are new"
                    example += ", values are others" if other else ""
        if outcome.changed:
            outcome.violations.append(f"{outcome.changed} answers that were final have changed, such as {example}")

    def _audit(self, fault: Fault, outcome: Outcome) -> None:
        for node in self.site.numbered:
            found = self._audited(node, node, "")
            self._judge(node, found, fault, outcome)
        if "recorder" in self.site.nodes:
            for node in self.site.numbered:
                found = self._when_recorded(node)
                self._judge(f"recorder::{node}", found, fault, outcome)

    def _judge(self, node: str, found: Audit, fault: Fault, outcome: Outcome) -> None:
        known = self._known.setdefault(node, set())
        lost = set(found.lost.tolist()) - known
        known |= lost
        excused = found.in_gaps if fault.may_leave_gaps else 0
        outcome.lost += max(0, len(lost) - excused)
        outcome.doubled += found.doubled
        if len(lost) > excused:
            outcome.violations.append(f"{node} lost {len(lost) - excused} acknowledged samples, such as {min(lost)}")
        if found.doubled:
            outcome.violations.append(f"{node} has {found.doubled} samples twice")
        if found.wrong:
            outcome.violations.append(f"{node} serves {found.wrong} samples that were never sent so")

    def _audited(self, node: str, server: str, prefix: str, before: float = np.inf) -> Audit:
        """Compare what `server` has of the stream of `node` with what was acknowledged."""
        self.journals[node].read()
        # What was stamped by a clock that is ahead is not served among what was measured now.
        acknowledged = self.journals[node].acknowledged(min(before, time.time() + 1.0))
        if not len(acknowledged.t):
            return Audit(acknowledged.numbers, 0, 0, 0)
        ends = float(acknowledged.t.min()), float(np.nextafter(acknowledged.t.max(), np.inf))
        with self.site.consumer(30.0) as consumer:
            served = _read(consumer, server, *ends, prefix=prefix)
        return audit(acknowledged, *served)

    def _when_recorded(self, node: str) -> Audit:
        """Wait until the recorder has what the node has final now, and compare."""
        self.journals[node].read()
        until = min(self.journals[node].final, time.time())
        deadline = time.monotonic() + _PATIENCE_S
        with self.site.consumer() as consumer:
            while time.monotonic() < deadline:
                about = consumer.status("recorder")["timelines"].get(f"{node}::numbers", {})
                if (about.get("finalized_until") or 0.0) >= until:
                    break
                time.sleep(_TICK_S)
        return self._audited(node, "recorder", f"{node}::", until)

    def _weigh(self, before: dict[str, float], fault: Fault, outcome: Outcome) -> None:
        seen = self.observer.seen
        for name, size in before.items():
            outcome.peak_mb[name] = round(seen.peak.get(name, size) - size, 1)
            outcome.after_mb[name] = round(seen.last.get(name, size) - size, 1)
            if name not in fault.weighed:
                continue
            if outcome.peak_mb[name] > fault.peak_mb:
                outcome.violations.append(f"{name} grew by {outcome.peak_mb[name]:.0f} MB")
            elif outcome.after_mb[name] > fault.after_mb:
                outcome.violations.append(f"{name} kept {outcome.after_mb[name]:.0f} MB")


def _read(
    consumer: BlockingConsumer, node: str, start: float, end: float, prefix: str = ""
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[tuple[float, float]]]:
    """Return times, numbers, texts and gaps of a numbered stream."""
    names = [f"{prefix}number", f"{prefix}text"]
    if not start < end:
        return np.empty(0), np.empty(0), np.empty(0, object), []
    data = consumer.data(node, names, start, end)
    samples = data.timelines.get(f"{prefix}numbers")
    if samples is None:
        return np.empty(0), np.empty(0), np.empty(0, object), []
    # Where all samples of an interval are lost, there are gaps alone.
    numbers, texts = (samples.columns.get(name, np.empty(0)) for name in names)
    return samples.t, numbers, texts, samples.gaps


@contextlib.contextmanager
def driver(slack: float = 1.0, nodes: tuple[str, ...] | None = None) -> Iterator[Driver]:
    """Provide a driver with a site that runs; nothing is left of it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="sisock-faults-"))
    try:
        with FaultSite(folder, nodes) if nodes else FaultSite(folder) as site, Observer(site) as observer:
            running = Driver(site, observer, slack)
            try:
                running.recover()
            except TimeoutError as error:
                raise TimeoutError(f"{error}\n{site.log()}") from error
            yield running
    finally:
        remove(folder)


def run_all(
    kinds: Sequence[type[Fault]],
    seed: int,
    report: Callable[[Outcome], None],
    *,
    repeats: int | None = None,
    slack: float = 1.0,
    nodes: tuple[str, ...] | None = None,
) -> list[Outcome]:
    """Inject faults one after the other; after one from which a site did not recover, the next has a new site."""
    outcomes: list[Outcome] = []
    for kind in kinds:
        if not kind.needs_site:
            began = time.monotonic()
            outcomes.append(Outcome(kind.name, 0, seed, kind.alone(seed), seconds=time.monotonic() - began))
            report(outcomes[-1])
    todo = [(kind, repeat) for kind in kinds if kind.needs_site for repeat in range(repeats or kind.repeats)]
    while todo:
        with driver(slack, nodes) as running:
            while todo:
                kind, repeat = todo.pop(0)
                outcome = running.run(kind, repeat, seed)
                outcomes.append(outcome)
                report(outcome)
                if outcome.not_run is None and outcome.violations:
                    break  # the next fault must not be blamed for it
    return outcomes
