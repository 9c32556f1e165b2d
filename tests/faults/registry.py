"""The faults that there are. Each is a class; a module of `tests.faults.injected` registers its own."""

import random
from dataclasses import dataclass, field
from typing import ClassVar

from tests.faults.observer import Seen
from tests.faults.site import PARTS, FaultSite, NotPossible

__all__ = ["FAULTS", "RECOVERY_S", "Fault", "Moment", "NotPossible", "Outcome", "fault"]

RECOVERY_S = 5.0
"""Within which everything works again after the end of a fault."""


@dataclass(slots=True)
class Moment:
    """A fault on its way: when it began and ended, by the monotonic clock."""

    began: float
    ended: float = float("inf")


class Fault:
    """Something that goes wrong. Derive from it, and register the class with `fault`."""

    name: ClassVar[str]
    """``part-what``, such as ``router-freeze``."""
    part: ClassVar[str]
    """What is attacked, by which faults are chosen: router, hub, node, files, clock, disk, readers, udp, get_data,
    work."""
    short: ClassVar[bool] = False
    """Whether it is part of the short form, in `make test`."""
    hold_s: ClassVar[float] = 3.0
    """How long it lasts."""
    repeats: ClassVar[int] = 1
    """How often it is injected in a full run."""
    recovery_s: ClassVar[float] = RECOVERY_S
    """Within which everything works again after its end."""
    may_leave_gaps: ClassVar[bool] = False
    """Whether acknowledged samples may be missing where a gap is recorded, since what held them was damaged."""
    weighed: ClassVar[tuple[str, ...]] = PARTS
    """Parts whose memory is checked; all is shown."""
    peak_mb: ClassVar[float] = 100.0
    """By how much the memory of any process may grow during the fault."""
    after_mb: ClassVar[float] = 64.0
    """By how much it may have grown when the fault is over."""

    needs_site: ClassVar[bool] = True
    """False if `alone` is all that is run."""

    def __init__(self, site: FaultSite, chance: random.Random) -> None:
        self.site, self.chance = site, chance

    @classmethod
    def alone(cls, seed: int) -> list[str]:
        """Run a fault that needs no site, and return what is not as it must be."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Bring the site to where the fault is to strike, before anything is measured."""

    def inject(self) -> None:
        """Begin."""
        raise NotImplementedError

    def heal(self) -> None:
        """End it; whatever happened."""

    def complaint(self, seen: Seen, moment: Moment) -> str | None:
        """Return what is not honest about what was seen of the site's status; None if all is."""
        return None

    def violations(self) -> list[str]:
        """Return what else is not as it must be, looked at after the recovery."""
        return []


FAULTS: list[type[Fault]] = []


def fault(kind: type[Fault]) -> type[Fault]:
    """Register a fault."""
    if not kind.__doc__:
        raise TypeError(f"{kind.__name__} needs a docstring: it is the fault's description")
    if any(kind.name == other.name for other in FAULTS):
        raise TypeError(f"there is a fault {kind.name!r} already")
    FAULTS.append(kind)
    return kind


@dataclass(slots=True)
class Outcome:
    """What became of one injection."""

    fault: str
    repeat: int
    seed: int
    violations: list[str] = field(default_factory=list)
    not_run: str | None = None
    lost: int = 0
    doubled: int = 0
    changed: int = 0
    peak_mb: dict[str, float] = field(default_factory=dict)
    """Growth over what was before, by part."""
    after_mb: dict[str, float] = field(default_factory=dict)
    recovery_s: float | None = None
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether it was run and nothing was violated."""
        return self.not_run is None and not self.violations
