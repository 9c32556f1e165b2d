"""Small disks that tests fill, or make read-only."""

import contextlib
import subprocess


def mounted(*arguments):
    """Call ``mount``."""
    return subprocess.run(["mount", *arguments], capture_output=True, check=False)


def fill_disk(path):
    """Fill a disk to the last byte, and return the file that has done it."""
    filler = path / "filler"
    for size in (2**16, 1):
        with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
            while file.write(bytes(size)):
                continue
    return filler
