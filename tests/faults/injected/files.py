"""Torn, damaged, exchanged and missing files of a history."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from tests.faults.registry import Fault, NotPossible, fault

_KINDS = {
    "journal": ("catalogue.log", "catalogue.copy"),
    "open": ("*/*.seg",),
    "sealed": ("*/*.parquet",),
    "pyramid": ("*/*.pyramid",),
    "words": ("*/*.words",),
    "marks": ("*/marks",),
}
# Seconds after which sealed segments are not waited for any more.
_PATIENCE_S = 30.0
_CATALOGUE = ("catalogue.log", "catalogue.copy", "catalogue.sqlite")


def _flip(path: Path, chance: Any) -> None:
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def _cut(path: Path, chance: Any) -> None:
    with path.open("r+b") as file:
        file.truncate(chance.randrange(path.stat().st_size))


def _zero(path: Path, chance: Any) -> None:
    data = bytearray(path.read_bytes())
    at = chance.randrange(len(data))
    data[at : at + 4096] = bytes(len(data[at : at + 4096]))
    path.write_bytes(data)


def _remove(path: Path, chance: Any) -> None:
    path.unlink()


_DAMAGE: dict[str, Callable[[Path, Any], None]] = {"flip": _flip, "cut": _cut, "zero": _zero, "remove": _remove}


class Damage(Fault):
    """A file is damaged while the node is down."""

    part, hold_s, may_leave_gaps, repeats = "files", 0.0, True, 4
    patterns: ClassVar[tuple[str, ...]]

    def prepare(self) -> None:
        """Have enough samples that there are sealed segments."""
        self.site.send("interval", count=2000, period=0.1)
        deadline = time.monotonic() + _PATIENCE_S
        while len(_found(self.site.history("interval"), _KINDS["sealed"])) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        self.site.send_as_usual()
        time.sleep(1.5)

    def inject(self) -> None:
        part = self.site.parts["interval"]
        part.held = True
        part.kill()
        self.damage(self.site.history("interval"))

    def damage(self, folder: Path) -> None:
        """Damage the folder of a history."""
        files = _found(folder, self.patterns)
        if not files:
            raise NotPossible(f"the history has no file {' or '.join(self.patterns)} yet")
        how = self.chance.choice(sorted(_DAMAGE))
        _DAMAGE[how](self.chance.choice(files), self.chance)

    def heal(self) -> None:
        self.site.parts["interval"].held = False


def _found(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    """Return the files that match and are not empty."""
    return sorted(path for pattern in patterns for path in folder.glob(pattern) if path.stat().st_size)


@fault
class Catalogue(Damage):
    """All files of the catalogue, both copies of its journal, are flipped, cut, zeroed or removed while its node is down."""

    name, may_leave_gaps = "files-catalogue", False

    def damage(self, folder: Path) -> None:
        """Damage all files of the catalogue in the same way."""
        how = self.chance.choice(sorted(_DAMAGE))
        for path in _found(folder, _CATALOGUE):
            _DAMAGE[how](path, self.chance)


@fault
class Swapped(Damage):
    """Two files of one kind, of those below, exchange their names while their node is down."""

    name, may_leave_gaps = "files-swapped", False
    repeats = len(_KINDS)

    def damage(self, folder: Path) -> None:
        """Exchange two files."""
        kinds = [files for patterns in _KINDS.values() if len(files := _found(folder, patterns)) > 1]
        if not kinds:
            raise NotPossible("the history has no two files of one kind yet")
        one, other = self.chance.sample(self.chance.choice(kinds), 2)
        spare = one.with_name("spare")
        one.rename(spare)
        other.rename(one)
        spare.rename(other)


for _what, _patterns in _KINDS.items():
    _doc = f"A file of the kind `{_what}` is flipped, cut, zeroed or removed while its node is down."
    fault(type("Damage", (Damage,), {"name": f"files-{_what}", "patterns": _patterns, "__doc__": _doc}))
