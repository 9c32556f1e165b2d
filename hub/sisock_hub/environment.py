"""The Python environment of the router: Crossbar and its dependencies, outside the environment of sisock.

Crossbar needs some 140 distributions, some of them in versions that exclude those of the gateway. They are pinned in
``router-requirements.txt``, and installed by `sisock setup router`.
"""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import venv
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import sisock
import sisock_hub
from sisock.errors import MissingExtra, SisockError

# The guard extends the factory by which Crossbar counts the connections of a port; 26.7 has none.
_CROSSBAR = 26, 10
_REQUIREMENTS = Path(__file__).with_name("router-requirements.txt")
# The packages of the guard, which are not pinned.
_PACKAGES = sisock, sisock_hub
# File that marks an environment as complete.
_COMPLETE = "complete"
_SETTINGS = {"PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_PROGRESS_BAR": "off"}
_LAST_LINES = 10


class SetupFailed(SisockError, RuntimeError):
    """The environment of the router could not be made."""

    name = "setup_failed"


def python() -> str:
    """Return the Python that runs the router: that of its own environment, else this one if it has Crossbar.

    Raises
    ------
    MissingExtra
        If there is neither, or the environment is that of another version.
    """
    if (environment_folder() / _COMPLETE).exists():
        return os.fspath(_python_of(environment_folder()))
    if _has_crossbar():
        return sys.executable
    if any(_folder().glob(f"*/{_COMPLETE}")):
        raise MissingExtra(f"the environment in {_folder()} is of another version of sisock; run: sisock setup router")
    raise MissingExtra("the router needs Crossbar, in an environment of its own; run: sisock setup router")


def number_of_requirements() -> int:
    """Return how many distributions are pinned, including those for other systems."""
    return len(_REQUIREMENTS.read_text().splitlines())


def setup_environment(progress: Callable[[str, int], None]) -> tuple[Path, bool]:
    """Make the environment of the router unless it is complete, and return its folder and whether it was made.

    Those of other versions are removed once it is complete. If it is being made by another process, that is waited for.

    Parameters
    ----------
    progress : callable
        Is called with the current step, and by how many distributions it advances.

    Raises
    ------
    SetupFailed
        If it could not be made. One of another version is left as it is.
    """
    place = environment_folder()
    if (place / _COMPLETE).exists():
        return place, False
    try:
        _folder().mkdir(parents=True, exist_ok=True)
        with (_folder() / "lock").open("a") as lock, _ended_by_signals():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress("waiting for another setup", 0)
                fcntl.flock(lock, fcntl.LOCK_EX)
            if (place / _COMPLETE).exists():
                return place, False
            _make(place, lock.fileno(), progress)
            _remove_others(place)
    except OSError as error:
        remedy = ""
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            remedy = "; install sisock into a virtual environment of your own, or run this as its owner"
        raise SetupFailed(f"cannot write {error.filename or place}: {error.strerror}{remedy}") from error
    return place, True


def _folder() -> Path:
    return Path(sys.prefix) / "share" / "sisock" / "router"


def environment_folder() -> Path:
    """Return the folder of the environment, whose name is a digest of everything that it depends on."""
    parts = [_REQUIREMENTS.read_text(), sys.base_prefix, str(sys.implementation.cache_tag)]
    parts += [package.__path__[0] for package in _PACKAGES]
    return _folder() / hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _python_of(place: Path) -> Path:
    return place / "bin" / "python"


def _has_crossbar() -> bool:
    try:
        installed = version("crossbar")
    except PackageNotFoundError:
        return False
    return tuple(map(int, re.findall(r"\d+", installed)[:2])) >= _CROSSBAR


def _make(place: Path, lock: int, progress: Callable[[str, int], None]) -> None:
    temporary = place / "tmp"
    try:
        shutil.rmtree(place, ignore_errors=True)
        progress("virtual environment", 0)
        _make_virtual(place)
        temporary.mkdir()
        _install(place, temporary, lock, progress)
        packages = Path(sysconfig.get_path("purelib", "venv", {"base": os.fspath(place)}))
        for package in _PACKAGES:
            source = Path(package.__path__[0])
            (packages / source.name).symlink_to(source, target_is_directory=True)
        progress("looking whether Crossbar starts", 0)
        # This also compiles the modules of the router, which may not write here.
        _run(place, ["-c", "import sisock_hub.guard"], temporary, lock, progress)
        shutil.rmtree(temporary)
        (place / _COMPLETE).touch()
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


def _make_virtual(place: Path) -> None:
    if find_spec("ensurepip") is None:
        raise SetupFailed("this Python cannot make virtual environments; on Debian, run: apt install python3-venv")
    try:
        venv.create(place, symlinks=True, with_pip=True)
    except subprocess.CalledProcessError as error:
        lines = error.output.decode(errors="replace").strip()
        raise SetupFailed(f"cannot make a virtual environment in {place}:\n{lines}") from error


def _install(place: Path, temporary: Path, lock: int, progress: Callable[[str, int], None]) -> None:
    # All versions are pinned and none is resolved: Crossbar requires an idna below 2.6, and does not import it.
    arguments = ["-m", "pip", "install", "--no-deps", "--no-compile", "--requirement", os.fspath(_REQUIREMENTS)]
    _run(place, arguments, temporary, lock, progress)


def _run(place: Path, arguments: list[str], temporary: Path, lock: int, progress: Callable[[str, int], None]) -> None:
    """Run the environment's Python in a session of its own, all processes of which end with it."""
    lines: deque[str] = deque(maxlen=_LAST_LINES)
    with subprocess.Popen(  # noqa: S603 - our own command
        [os.fspath(_python_of(place)), "-I", *arguments],
        env={**os.environ, **_SETTINGS, "TMPDIR": os.fspath(temporary)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        pass_fds=(lock,),  # held until all its processes have ended, so that no other process makes the environment
    ) as process:
        try:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            for line in process.stdout:
                lines.append(line.rstrip())
                step, advance = _step(line)
                if step:
                    progress(step, advance)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        raise SetupFailed(
            "\n".join(
                (
                    "the packages of the router could not be installed. Is a package index reachable, by network or by "
                    "the configuration of pip (pip config list)? Its last lines:",
                    *lines,
                )
            )
        )


def _step(line: str) -> tuple[str, int]:
    """Return the step that a line of pip reports, and by how many distributions it advances."""
    match line.split():
        case ["Collecting", what, *_]:
            return f"fetching {what.partition('==')[0]}", 1
        case ["Ignoring", *_]:
            return "fetching", 1
        case ["Building", "wheel", "for", what, *_]:
            return f"building {what}", 0
        case ["Installing", "collected", *_]:
            return "unpacking", 0
    return "", 0


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Have SIGTERM, and the end of the terminal, clean up as Ctrl-C does."""
    before = {number: signal.signal(number, _end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _frame: object) -> None:
    sys.exit(128 + number)


def _remove_others(place: Path) -> None:
    for other in _folder().iterdir():
        if other != place and other.is_dir():
            shutil.rmtree(other, ignore_errors=True)
