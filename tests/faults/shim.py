"""Failing disks and wrong clocks of single processes: a library that is compiled and preloaded into them."""

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

_CONTROL = struct.Struct("<4iq")
_NAMES = ("write_error", "sync_error", "read_error", "sync_delay_ms", "clock_offset_s")


def compiled(folder: Path) -> Path | None:
    """Compile the library into a folder; None where there is no compiler."""
    if shutil.which("gcc") is None:
        return None
    library = folder / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-w", "-o", library, source, "-ldl"], check=True)
    return library


class Shim:
    """What happens to one process.

    Parameters
    ----------
    library : Path
    control : Path
        A file of this process alone.
    folder : Path
        Whose files fail.
    """

    def __init__(self, library: Path, control: Path, folder: Path) -> None:
        control.write_bytes(bytes(_CONTROL.size))
        self._file = control.open("r+b")
        self._map = mmap.mmap(self._file.fileno(), _CONTROL.size)
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAULTS_CONTROL": str(control),
            "FAULTS_FOLDER": str(folder.resolve()),
        }

    def set(self, **what: int) -> None:
        """Have what is given happen from now on, and nothing else: error numbers, milliseconds, seconds."""
        self._map[:] = _CONTROL.pack(*(what.get(name, 0) for name in _NAMES))

    def close(self) -> None:
        """Close the file."""
        self._map.close()
        self._file.close()
