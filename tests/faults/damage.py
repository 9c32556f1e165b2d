"""Damage at random places in all files of a history, each trial against an oracle.

A trial copies a small folder, damages one file of it, and opens it: every acknowledged sample is served right, or lies
in a recorded gap and is counted; nothing else is served; no watermark goes back; nothing that held samples is deleted;
and the history always opens.
"""

import logging
import math
import random
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import mock

import numpy as np

from sisock.downsample import downsampled
from sisock.errors import SisockError
from sisock.fields import Field, Samples, Timeline, as_batch
from sisock.history import History, appender, layout, open_history, sealed_writer, segment, segment_writer
from sisock.history.manifest import Manifest
from sisock.history.reader import StoreReader
from sisock.settings import HistorySettings
from sisock.testing import StepClock
from sisock.times import Interval
from tests.sisock.histories import StoredHistory, killed

FORMAT_1 = Path(__file__).parents[1] / "sisock" / "data" / "history-1" / "folder"
KINDS = (
    *("catalogue.log", "catalogue.copy", "catalogue.sqlite", "lock"),
    *("*/marks", "*/losses", "*/*.seg", "*/*.words", "*/*.parquet", "*/*.pyramid"),
)
WAYS = ("flip", "cut", "zero", "swap", "remove")
_EVER = Interval(-1e12, 1e12)
_NOW = 1e5
_ROOM = Timeline(
    "room",
    [Field("t", units="K"), Field("n"), Field("state", "string"), Field("ok", "bool")],
    lateness_s=60.0,
    follows_clock=False,
)
_BEAM = Timeline("beam/ä", [Field("current", units="A")], 1.0, lateness_s=0.0, follows_clock=False)


@dataclass(slots=True)
class Known:
    """What is acknowledged of a timeline."""

    fields: dict[str, dict[float, object]] = field(default_factory=dict)
    overwritten: dict[tuple[str, float], set[object]] = field(default_factory=dict)
    """Values that others of the same time replaced; in a gap they may be what is left."""
    gaps: list[tuple[float, float]] = field(default_factory=list)
    dropped: int = 0
    late: int = 0
    final: float = -math.inf

    @property
    def times(self) -> set[float]:
        """The times of all samples."""
        return set().union(*self.fields.values())

    def add(self, t: np.ndarray, columns: dict[str, np.ndarray]) -> None:
        """Add samples that were acknowledged."""
        for name, values in columns.items():
            now = self.fields.setdefault(name, {})
            for at, value in zip(t.tolist(), values.tolist(), strict=True):
                if at in now:
                    self.overwritten.setdefault((name, at), set()).add(now[at])
                now[at] = value


@dataclass(frozen=True, slots=True)
class Template:
    """A folder to be damaged, the timelines that its node has, and what it holds."""

    folder: Path
    timelines: tuple[Timeline, ...]
    known: dict[str, Known]
    same_losses: bool = True
    """Whether gaps and losses are there twice, so that no single damaged file costs them."""
    block: int = 256
    """Rows per block of its open segments."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What was done in one trial, and what was wrong afterwards."""

    seed: str
    what: str
    errors: tuple[str, ...]
    lost: int


def opened(folder: Path, timelines: Sequence[Timeline]) -> StoredHistory:
    settings = HistorySettings(path=folder, memory=0.0, sync="none", keep=1e12)
    return StoredHistory(timelines, settings, StepClock(_NOW))


@contextmanager
def _blocks_of(rows: int) -> Iterator[None]:
    """Have blocks of open segments of so many rows, in all modules that know of it."""
    with ExitStack() as stack:
        for module in (layout, segment, segment_writer):
            stack.enter_context(mock.patch.object(module, "BLOCK", rows))
        yield


class _Filling:
    """Fills a history, and notes what is acknowledged."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.folder, self.chance = folder, chance
        self.known = {"room": Known(), "beam/ä": Known()}
        self.timelines: tuple[Timeline, ...] = (_ROOM, _BEAM)
        self.history = opened(folder, self.timelines)

    def restart(self, *timelines: Timeline) -> None:
        killed(self.history)
        self.timelines = timelines
        self.history = opened(self.folder, timelines)

    def room(self, t: Sequence[float], **more: float) -> None:
        t = np.asarray(t, float)
        r = np.random.default_rng(self.chance.getrandbits(32))
        columns = {
            "t": r.normal(300.0, 5.0, len(t)),
            "n": r.integers(0, 1000, len(t)),
            "state": np.array([f"state {k}\n é" for k in r.integers(0, 9, len(t))], object),
            "ok": r.random(len(t)) < 0.5,
        }
        self._append("room", t, columns, **more)

    def beam(self, t: Sequence[float], **more: float) -> None:
        t = np.asarray(t, float)
        self._append("beam/ä", t, {"current": np.sin(t) * 1e-3}, **more)

    def _append(self, name: str, t: np.ndarray, columns: dict[str, np.ndarray], **more: float) -> None:
        stored = self.history.append(as_batch(name, t, columns, **more))
        if stored is not None:
            self.known[name].add(stored.t, dict(stored.columns))

    def rotate(self, name: str) -> None:
        self.history.store.writers[name].rotate()

    def seal(self, name: str) -> None:
        """Seal all that is final."""
        store = self.history.store
        each = store.writers[name]
        self.rotate(name)
        store.finalize(name, math.nextafter(each.stored.span().end, math.inf))
        each.sync()
        with mock.patch("sisock.history.sealer._MOST_OPEN", 1):
            store.sealer.seal_all(each, math.inf)

    def done(self, *, clean: bool) -> Template:
        for name, known in self.known.items():
            known.final = max(self.history.finalized_until(name) or -math.inf, self.history.store.finalized_until(name))
            samples = self.history.read(list(known.fields), _EVER).timelines[name]
            known.gaps, known.dropped, known.late = samples.gaps, samples.dropped, samples.late
        self.history.close() if clean else killed(self.history)
        errors, _ = compare(self.folder, self.timelines, self.known, None)
        assert not errors, errors
        return Template(self.folder, self.timelines, self.known)


def mixed(folder: Path, chance: random.Random, *, clean: bool) -> Template:
    """Make a folder of two timelines with sealed and open segments, gaps, losses, overwritten samples and epochs."""
    with ExitStack() as stack:
        for module, name, value in ((sealed_writer, "_GROUP", 128), (appender, "SMALLEST", 64)):
            stack.enter_context(mock.patch.object(module, name, value))
        stack.enter_context(_blocks_of(256))
        made = _Filling(folder, chance)
        made.room(np.arange(0.0, 300.0), dropped=2)
        made.seal("room")
        made.room(np.arange(400.0, 700.0), gap_from=299.0, dropped=3)
        made.beam(np.arange(0.0, 500.0))
        made.seal("room")
        made.seal("beam/ä")
        made.restart(_ROOM, replace(_BEAM, fields=[Field("current", units="mA")]))
        made.beam(np.arange(500.0, 900.0))
        made.room([10.0, 20.0])  # late
        for start in range(700, 1100, 40):
            made.room(np.arange(start, start + 40.0))
            made.room(np.arange(start + 30.0, start + 10.0, -2.0))  # backwards, over those before
        made.seal("beam/ä")
        made.rotate("room")
        made.room(np.arange(1080.0, 1300.0), gap_from=1075.0, dropped=5)
        made.room(np.arange(1290.0, 1270.0, -1.0))
        made.rotate("room")
        made.room(np.arange(1280.0, 1330.0))
        made.beam(np.arange(1000.0, 1200.0), gap_from=899.0, dropped=1)
        made.history.store.manifest.add_clock_jump(5e4, 3.0)
        return made.done(clean=clean)


def blocks(folder: Path, chance: random.Random) -> Template:
    """Make a folder with an open segment of many blocks."""
    with _blocks_of(64):
        made = _Filling(folder, chance)
        for start in range(0, 1000, 200):
            made.room(np.arange(start, start + 200.0) / 10.0)
        made.beam(np.arange(0.0, 100.0))
        return replace(made.done(clean=False), block=64)


def format_1(folder: Path) -> Template:
    """Copy the folder of format 1, and read what it holds."""
    shutil.copytree(FORMAT_1, folder)
    known: dict[str, Known] = {}
    with open_history(folder) as history:
        for name, fields in (("room", ["t", "state", "ok"]), ("beam/ä", ["current"])):
            samples = history.read(fields, _EVER).timelines[name]
            known[name] = Known(gaps=samples.gaps, dropped=samples.dropped, late=samples.late)
            known[name].final = history.finalized_until(name)
            known[name].add(samples.t, samples.columns)
    return Template(folder, (), known, same_losses=False, block=layout.BLOCK)


@contextmanager
def templates(seed: int) -> Iterator[list[Template]]:
    """Provide the folders that are copied for each trial."""
    path = Path(tempfile.mkdtemp(prefix="sisock-damage-"))
    chance = random.Random(seed)
    try:
        old = format_1(path / "format-1")
        shutil.copytree(old.folder, path / "upgraded")
        opened(path / "upgraded", ()).close()
        upgraded = replace(old, folder=path / "upgraded", same_losses=True)
        made = [mixed(path / f"mixed-{i}", chance, clean=bool(i)) for i in range(2)]
        yield [*made, *made, blocks(path / "blocks", chance), old, upgraded]
    finally:
        shutil.rmtree(path, ignore_errors=True)


# Damage


def _place(data: bytes, chance: random.Random) -> int:
    """Return where to damage a file: anywhere, near its beginning or end, or where it is not zero."""
    where = chance.random()
    if where < 0.3:
        return chance.randrange(len(data))
    if where < 0.5:
        return chance.randrange(min(len(data), 1024))
    if where < 0.7:
        return len(data) - 1 - chance.randrange(min(len(data), 2048))
    used = np.flatnonzero(np.frombuffer(data, np.uint8))
    return int(chance.choice(used)) if len(used) else chance.randrange(len(data))


def damage(path: Path, others: Sequence[Path], way: str, chance: random.Random) -> str:
    """Damage a file, and return what was done to it."""
    data = path.read_bytes()
    if way == "remove":
        path.unlink()
        return "removed"
    if way == "swap" and others and chance.random() < 0.7:
        other = chance.choice(others)
        spare = path.with_name("spare")
        path.rename(spare)
        other.rename(path)
        spare.rename(other)
        return f"swapped with {other.parent.name}/{other.name}"
    if not data:
        return "left, since it is empty"
    at = _place(data, chance)
    changed = bytearray(data)
    if way == "flip":
        bit = chance.randrange(8)
        changed[at] ^= 1 << bit
        said = f"bit {bit} of byte {at} flipped"
    elif way == "cut":
        changed = changed[:at]
        said = f"cut to {at} of {len(data)} bytes"
    elif way == "zero":
        n = chance.choice((1, 4, 64, 512, 4096))
        changed[at : at + n] = bytes(len(changed[at : at + n]))
        said = f"{n} bytes at {at} zeroed"
    else:
        to, n = _place(data, chance), chance.choice((1, 8, 64, 512))
        n = min(n, abs(to - at), len(data) - max(to, at))
        changed[at : at + n], changed[to : to + n] = changed[to : to + n], changed[at : at + n]
        said = f"{n} bytes at {at} and {to} swapped"
    with path.open("r+b") as file:  # in place: a process may have it open
        file.write(changed)
        file.truncate(len(changed))
    return said


# The oracle


def compare(
    folder: Path,
    timelines: Sequence[Timeline],
    known: dict[str, Known],
    order: random.Random | None,
    *,
    same: bool = True,
) -> tuple[list[str], int]:
    """Open a history and return what of it is not as it must be, and how many samples are lost."""
    try:
        history = opened(folder, timelines)
    except Exception:
        return [f"it does not open: {_raised()}"], 0
    try:
        return checked(history, history.store.manifest, known, order, same=same)
    finally:
        killed(history)


def checked(
    history: History,
    manifest: Manifest,
    known: dict[str, Known],
    order: random.Random | None,
    *,
    same: bool = True,
    node: bool = True,
    running: bool = False,
) -> tuple[list[str], int]:
    """Return what of a history is not as it must be, and how many samples are lost.

    Parameters
    ----------
    same : bool
        Whether what is missing must be recorded, and recorded gaps and losses must all be there.
    node : bool
        False for a reader, which records nothing on disk.
    running : bool
        Whether the damage was done while it ran: what is lost on disk may still be in memory.
    """
    errors: list[str] = []
    lost = 0
    looks: list[Callable[[str, Known], int]] = [
        lambda name, one: _samples(history, manifest, name, one, errors, same=same, node=node, running=running),
        lambda name, one: _thinned(history, name, one, errors),
    ]
    if order is not None:
        order.shuffle(looks)
    for look in looks:
        for name, one in known.items():
            try:
                lost += look(name, one)
            except Exception:
                errors.append(f"{name}: {_raised()}")
    try:
        history.status()
        history.summary()
        found = {f.name: f for timeline in history.within(_EVER) for f in timeline.fields}
    except Exception:
        errors.append(_raised())
    else:
        if unknown := found.keys() - {name for one in known.values() for name in one.fields}:
            errors.append(f"fields that never were: {unknown}")
    return errors, lost


def _samples(
    history: History,
    manifest: Manifest,
    name: str,
    known: Known,
    errors: list[str],
    *,
    same: bool,
    node: bool,
    running: bool,
) -> int:
    """Compare the samples of a timeline, and what is recorded of those that are missing, with what is known."""
    numbers = {name: number for number, name, _ in manifest.timelines()}
    if name not in numbers:
        errors.append(f"{name} is gone")
        return len(known.times)
    samples = history.read(list(known.fields), _EVER).timelines.get(name, Samples(np.empty(0), {}))
    # Without a single sample there is no answer that has them.
    gaps = manifest.gaps(numbers[name], _EVER)
    dropped, late = manifest.losses(numbers[name], _EVER)
    errors += [f"{name}: {error}" for error in _wrong(samples, known, gaps)]
    missing = sorted(known.times - set(samples.t.tolist()))
    outside = [at for at in missing if not _within(at, gaps)]
    if outside:
        errors.append(f"{name}: {len(outside)} samples are missing outside of gaps, such as {outside[0]}; {gaps}")
    if node and (history.finalized_until(name) or -math.inf) < known.final:
        errors.append(f"{name}: the watermark went back from {known.final} to {history.finalized_until(name)}")
    if not (node and same):
        return len(missing)
    if dropped < known.dropped + len(missing):
        errors.append(f"{name}: {dropped} counted as lost, {known.dropped} + {len(missing)} are")
    if not missing and set(gaps) == set(known.gaps) and dropped != known.dropped and not running:
        errors.append(f"{name}: nothing is lost, but {dropped - known.dropped} are counted")
    if late != known.late:
        errors.append(f"{name}: {late} late instead of {known.late}")
    if gone := [gap for gap in known.gaps if gap not in gaps]:
        errors.append(f"{name}: gaps {gone} are not recorded any more")
    return len(missing)


def _wrong(samples: Samples, known: Known, gaps: Sequence[tuple[float, float]]) -> Iterator[str]:
    """Yield what is wrong with the samples that are served."""
    t = samples.t.tolist()
    if np.any(np.diff(samples.t) <= 0):
        yield "times out of order or twice"
    if foreign := set(t) - known.times:
        yield f"{len(foreign)} samples that were never measured, such as {min(foreign)}"
    new_gaps = [gap for gap in gaps if gap not in known.gaps]
    for name, column in samples.columns.items():
        right = known.fields[name]
        wrong = [
            (at, value, right.get(at))
            for at, value in zip(t, column.tolist(), strict=True)
            if not (value == right[at] if at in right else value is None or _is_nan(value))
            and not (value in known.overwritten.get((name, at), ()) and _within(at, new_gaps))
        ]
        if wrong:
            yield f"{len(wrong)} wrong values of {name}, such as {wrong[0]}"
    for name in known.fields.keys() - samples.columns.keys():
        if set(known.fields[name]) & set(t):
            yield f"field {name} is missing"


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _within(at: float, gaps: Sequence[tuple[float, float]]) -> bool:
    return any(start <= at <= end for start, end in gaps)


def _thinned(history: History, name: str, known: Known, errors: list[str]) -> int:
    """Compare summaries with the samples that they are of."""
    fields = list(known.fields)
    found = history.downsampled(fields, _EVER, "max", 16.0).timelines.get(name)
    samples = history.read(fields, _EVER).timelines.get(name)
    if found is None or samples is None:
        return 0
    # What was thinned before a damage was noticed must not have wrong values either.
    for field_name, column in found.columns.items():
        ever = set(known.fields[field_name].values()).union(*known.overwritten.values())
        if odd := {v for v in column.tolist() if v is not None and not _is_nan(v)} - ever:
            errors.append(f"{name}: summaries of {field_name} have values that were never measured: {sorted(odd)[:3]}")
    for field_name in fields:
        again = history.downsampled([field_name], _EVER, "max", 64.0).timelines.get(name)
        samples = history.read([field_name], _EVER).timelines.get(name)
        if again is None or samples is None:
            if (again is None) != (samples is None):
                errors.append(f"{name}: summaries of {field_name} without samples, or the other way round")
            continue
        # Bins end where units change.
        ends = np.searchsorted(samples.t, [since for since, _ in samples.epochs.get(field_name, ())][1:])
        parts = [
            downsampled(t, {field_name: values}, 64.0, "max")
            for t, values in zip(np.split(samples.t, ends), np.split(samples.columns[field_name], ends), strict=True)
        ]
        t = np.concatenate([part[0] for part in parts])
        values = np.concatenate([part[1][field_name] for part in parts])
        if not np.array_equal(again.t, t) or again.columns[field_name].tolist() != values.tolist():
            errors.append(f"{name}: summaries of {field_name} are not those of its samples")
    return 0


def _raised() -> str:
    """Return the exception that is being handled, with where it was raised."""
    return " < ".join(traceback.format_exc(chain=False).strip().splitlines()[:-9:-1])


def _held(folder: Path) -> int:
    """Return how many files hold samples, the quarantined ones included."""
    return sum(1 for pattern in ("*/*.seg*", "*/*.parquet*") for _ in folder.glob(pattern))


def trial(made: Sequence[Template], seed: str, folder: Path) -> Trial:
    """Damage one file of a copy, and compare."""
    chance = random.Random(seed)
    template = chance.choice(made)
    shutil.copytree(template.folder, folder)
    kinds = [kind for kind in KINDS if any(folder.glob(kind))]
    kind = chance.choice(kinds)
    candidates = sorted(folder.glob(kind))
    victim = candidates.pop(chance.randrange(len(candidates)))
    way = chance.choice(WAYS)
    known, errors, lost = template.known, [], 0
    # In format 1 the catalogue has no checksums, and what only it knows is known only as far as it is whole.
    same = template.same_losses or kind != "catalogue.sqlite"
    if not template.same_losses and kind == "*/*.words":
        way = "remove" if way == "remove" else "cut"  # neither have words of format 1
    running = chance.random() < 0.3
    what = f"{template.folder.name}/{victim.relative_to(folder)}"
    with _blocks_of(template.block):
        if running:
            history = opened(folder, template.timelines)
            if chance.random() < 0.5:
                found, _ = checked(history, history.store.manifest, known, chance, same=same)
                errors += [f"before: {each}" for each in found]
            if not victim.exists():  # of format 1, and upgraded now
                killed(history)
                return Trial(seed, f"{what} is not there any more", tuple(errors), 0)
            candidates = [each for each in candidates if each.exists()]
        files = _held(folder)
        if kind == "catalogue.copy" and template.same_losses and not running and chance.random() < 0.5:
            (folder / "catalogue.log").unlink()  # gaps and losses are beside the segments, too
            what += " (without catalogue.log)"
        what += f" {damage(victim, candidates, way, chance)}{' while it runs' if running else ''}"
        files -= way == "remove" and victim.suffix in (".seg", ".parquet")
        if running:
            found, lost = checked(history, history.store.manifest, known, chance, same=same, running=True)
            errors += [f"while it runs: {each}" for each in found]
            killed(history)
        elif chance.random() < 0.5:
            try:
                store = StoreReader(folder)
                with History((), store=store) as reader:
                    found, _ = checked(reader, store.manifest, known, chance, node=False)
                errors += [f"reader: {each}" for each in found]
            except SisockError as error:
                errors.append(f"reader: {error.message}")
            except Exception:
                errors.append(f"reader: {_raised()}")
        for start in ("first start", "second start"):
            found, lost = compare(folder, template.timelines, known, chance, same=same)
            errors += [f"{start}: {each}" for each in found]
            if _held(folder) < files:
                errors.append(f"{start}: a file that held samples was deleted")
    return Trial(seed, what, tuple(errors), lost)


def run(seed: int, trials: int, report: Callable[[Trial], None] | None = None) -> list[Trial]:
    """Make so many trials, and return those in which something was wrong."""
    wrong = []
    logging.disable(logging.CRITICAL)
    try:
        with templates(seed) as made, tempfile.TemporaryDirectory(prefix="sisock-damage-") as path:
            for number in range(trials):
                folder = Path(path) / str(number)
                done = trial(made, f"{seed}-{number}", folder)
                shutil.rmtree(folder, ignore_errors=True)
                if report is not None:
                    report(done)
                if done.errors:
                    wrong.append(done)
    finally:
        logging.disable(logging.NOTSET)
    return wrong


if __name__ == "__main__":
    import sys
    import time
    from collections import Counter

    seed, trials = map(int, sys.argv[1:3])
    began = time.monotonic()
    counts: Counter[str] = Counter()

    def show(done: Trial) -> None:
        counts["lost"] += bool(done.lost)
        if done.errors:
            print(done.seed, done.what, *[f"\n    {each}" for each in done.errors], flush=True)

    wrong = run(seed, trials, show)
    print(len(wrong), "of", trials, "wrong;", counts, f"{time.monotonic() - began:.0f} s")
