"""Faults of the disk that a history is on."""

import contextlib
import errno
import time
from collections.abc import Mapping
from typing import ClassVar

from sisock.errors import SisockError
from tests.faults.observer import Seen
from tests.faults.registry import Fault, Moment, NotPossible, fault


def not_degraded(node: str, seen: Seen, moment: Moment) -> str | None:
    """Return the complaint that a node reported itself as well while its disk took nothing for more than 3 s."""
    states = {state for t, state in seen.health[node] if moment.began + 3.0 < t < moment.ended}
    return f"{node} reported health {', '.join(sorted(states))}" if states and states <= {"ok", "live"} else None


@fault
class DiskFull(Fault):
    """The disk of a history is full for 8 s."""

    name, part, hold_s = "disk-full", "disk", 8.0

    def inject(self) -> None:
        if not self.site.has_small_disk:
            raise NotPossible("a tmpfs cannot be mounted here; it takes root")
        self._filler = self.site.history("interval") / "filler"
        with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as file:
            while file.write(bytes(2**16)):
                continue
        with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as file:
            while file.write(bytes(1)):
                continue
        # What is reserved for the open segment is used up, before which the disk is not missed.
        self.site.send("interval", count=200)

    def heal(self) -> None:
        if self.site.has_small_disk:
            self._filler.unlink(missing_ok=True)
            self.site.send_as_usual()

    def complaint(self, seen: Seen, moment: Moment) -> str | None:
        return not_degraded("interval", seen, moment)


@fault
class DiskFullAtStart(DiskFull):
    """The disk of a history is full when its node starts, for 15 s: it serves what it has, and measures into memory."""

    # What it measures meanwhile is in memory, as is what a new process imports for its first answer.
    name, hold_s, after_mb = "disk-full-at-start", 15.0, 96.0

    def inject(self) -> None:
        part = self.site.parts["interval"]
        part.held = True
        part.kill()
        super().inject()
        part.held = False
        time.sleep(5.0)
        super().inject()  # at its start it removes files that have been replaced

    def complaint(self, seen: Seen, moment: Moment) -> str | None:
        if not [t for t, _ in seen.health["interval"] if moment.began + 3.0 < t < moment.ended]:
            return "interval did not start on a full disk"
        return super().complaint(seen, moment)


class Failing(Fault):
    """What the node asks of its disk fails."""

    part, hold_s = "disk", 8.0
    node: ClassVar[str] = "interval"
    what: ClassVar[Mapping[str, int]]

    def inject(self) -> None:
        self.site.shim(self.node).set(**self.what)

    def heal(self) -> None:
        self.site.shim(self.node).set()

    def complaint(self, seen: Seen, moment: Moment) -> str | None:
        return not_degraded(self.node, seen, moment)


@fault
class DiskReadOnly(Failing):
    """The disk of a history is read-only (EROFS) for 8 s."""

    name, what = "disk-read-only", {"write_error": errno.EROFS}


@fault
class DiskWriteError(Failing):
    """Each write to a history fails (EIO) for 8 s."""

    name, what = "disk-write-error", {"write_error": errno.EIO}


@fault
class DiskSyncError(Failing):
    """Each fsync of a history with `sync: always` fails (EIO) for 8 s."""

    name, node, what = "disk-sync-error", "always", {"sync_error": errno.EIO}


@fault
class DiskReadError(Failing):
    """Each read of a history fails (EIO) for 5 s, while it is asked for."""

    name, hold_s, what = "disk-read-error", 5.0, {"read_error": errno.EIO}

    def inject(self) -> None:
        super().inject()
        with self.site.consumer() as consumer:
            for _ in range(5):
                with contextlib.suppress(SisockError):  # an error is an honest answer
                    consumer.data("interval", ["number"], 1.0, time.time() - self.chance.uniform(0.0, 60.0))

    def complaint(self, seen: Seen, moment: Moment) -> str | None:
        return None  # it notices only what it reads


@fault
class DiskSlowSync(Failing):
    """Each fsync of a history with `sync: always` takes 2 s, for 8 s; the node answers meanwhile."""

    name, node, what = "disk-slow-sync", "always", {"sync_delay_ms": 2000}

    def complaint(self, seen: Seen, moment: Moment) -> str | None:
        answered = [t for t, _ in seen.health["always"] if moment.began + 1.0 < t < moment.ended]
        return None if answered else "always did not answer"
