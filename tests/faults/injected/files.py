"""Torn, damaged and missing files of a history."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from tests.faults.registry import Fault, NotPossible, fault

_PATTERNS = {
    "catalogue": ("catalogue.sqlite",),
    "wal": ("catalogue.sqlite-wal",),
    "open": ("*/*.seg",),
    "sealed": ("*/*.parquet",),
    "pyramid": ("*/*.pyramid",),
    "words": ("*/*.words",),
}


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
        time.sleep(3.0)
        self.site.send_as_usual()
        time.sleep(1.5)

    def inject(self) -> None:
        part, folder = self.site.parts["interval"], self.site.history("interval")
        part.held = True
        part.kill()
        there = [path for pattern in self.patterns for path in folder.glob(pattern) if path.stat().st_size]
        if not there:
            raise NotPossible(f"the history has no file {' or '.join(self.patterns)} yet")
        how = self.chance.choice(sorted(_DAMAGE))
        _DAMAGE[how](self.chance.choice(sorted(there)), self.chance)

    def heal(self) -> None:
        self.site.parts["interval"].held = False


for _what, _patterns in _PATTERNS.items():
    _doc = f"A file of the kind `{_what}` is flipped, cut, zeroed or removed while its node is down."
    fault(type("Damage", (Damage,), {"name": f"files-{_what}", "patterns": _patterns, "__doc__": _doc}))
