"""Collections: named parts of a node that are created, started, stopped and deleted while it runs, and survive it.

A UDP node's sources are one: those of the site file, and those that an operator creates.
"""

import json
import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, create_model

from sisock.errors import BadRequest
from sisock.files import make_folder, write_whole
from sisock.procedure import Command, Procedure, Query

_VERSION = 1

PartId = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^\S(.*\S)?$")]
"""Name of a part: text without blanks at its ends."""

log = logging.getLogger(__name__)


class CollectedPart(Protocol):
    """A part of a collection."""

    def start(self) -> None:
        """Begin to work; called once it was created, and after `stop`."""
        ...

    def stop(self) -> None:
        """Stop working; it may be started again, or deleted."""
        ...

    def described(self) -> dict[str, Any]:
        """Return its state and its counts, as `read_…` and `list_…` show them."""
        ...


SettingsT = TypeVar("SettingsT", bound=BaseModel)
PartT = TypeVar("PartT", bound=CollectedPart)


class Collection(Generic[SettingsT, PartT]):
    """Named parts of a node; those that were created at run time, and which ones were stopped, are kept in a file.

    Parameters
    ----------
    noun : str
        What a part is, in one word, such as ``source``: names the procedures ``create_source``, ``list_sources``,
        ``read_source``, ``start_source``, ``stop_source``, ``delete_source``.
    settings : type of pydantic.BaseModel
        Settings of a part.
    make : callable
        Makes a part of a name and its settings; it is started afterwards.
    configured : mapping of str to SettingsT
        The parts of the site file.
    file : Path, optional
        Where the others are kept; nowhere when not given.
    check : callable, optional
        Raises ValueError where a part of a name and settings cannot stand beside others, given as a mapping.
    on_change : callable, optional
        Called with all parts after one was added or removed.

    Attributes
    ----------
    parts : mapping of str to PartT
        Replaced as a whole at each change, so that it can be read without a lock.
    procedures : sequence of Procedure
        To be offered.

    Raises
    ------
    BadRequest
        If the file cannot be read, or is of a later version.
    """

    def __init__(
        self,
        noun: str,
        settings: type[SettingsT],
        make: Callable[[str, SettingsT], PartT],
        configured: Mapping[str, SettingsT],
        file: Path | None = None,
        *,
        check: Callable[[str, SettingsT, Mapping[str, SettingsT]], None] = lambda name, settings, others: None,
        on_change: Callable[[Mapping[str, PartT]], None] = lambda parts: None,
    ) -> None:
        self._noun, self._model, self._make, self._configured = noun, settings, make, dict(configured)
        self._file, self._check, self._on_change = file, check, on_change
        self._lock = threading.RLock()  # held while parts are created, deleted, started or stopped
        self._settings: dict[str, SettingsT] = {}
        self._stopped: set[str] = set()
        self._left_out: dict[str, Any] = {}
        self._is_started = False
        self._read_file()
        self.parts: Mapping[str, PartT] = {name: make(name, each) for name, each in self._settings.items()}
        self._on_change(self.parts)
        self.procedures = self._procedures()

    def start(self) -> None:
        """Start all parts but those that an operator has stopped."""
        with self._lock:
            self._is_started = True
            for name, part in self.parts.items():
                if name not in self._stopped:
                    part.start()

    def stop(self) -> None:
        """Stop all parts; the next start of the node starts them again."""
        with self._lock:
            self._is_started = False
            for name, part in self.parts.items():
                if name not in self._stopped:
                    part.stop()

    def is_running(self, name: str) -> bool:
        """Whether a part is running: the collection is started, and the part is not stopped."""
        return self._is_started and name not in self._stopped

    def create(self, name: str, settings: SettingsT) -> dict[str, Any]:
        """Create a part, start it, and return its description.

        Raises
        ------
        BadRequest
            If there is one of that name, it cannot stand beside the others, or it cannot be kept; then nothing was
            changed.
        """
        with self._lock:
            try:
                self._check_beside(name, settings)
            except ValueError as error:
                raise BadRequest(str(error)) from error
            part = self._make(name, settings)
            self._commit({**self.parts, name: part}, {**self._settings, name: settings}, self._stopped)
            if self._is_started:
                part.start()
        log.info("%s %s is created", self._noun, name)
        return self.described(name)

    def delete(self, name: str) -> None:
        """Stop a part and delete it.

        Raises
        ------
        BadRequest
            If there is none of that name, it is one of the site file, or the file cannot be written.
        """
        with self._lock:
            part = self._named(name)
            if name in self._configured:
                raise BadRequest(f"{self._noun} {name!r} is in the site file; remove it there, or stop it here")
            parts = {other: each for other, each in self.parts.items() if other != name}
            settings = {other: each for other, each in self._settings.items() if other != name}
            was_running = self.is_running(name)
            self._commit(parts, settings, self._stopped - {name})
            if was_running:
                part.stop()
        log.info("%s %s is deleted", self._noun, name)

    def switch(self, name: str, *, on: bool) -> dict[str, Any]:
        """Start or stop a part, also for the next start of the node, and return its description.

        Raises
        ------
        BadRequest
            If there is none of that name, or the file cannot be written; then nothing was changed.
        """
        with self._lock:
            part = self._named(name)
            if on == (name in self._stopped):
                self._commit(self.parts, self._settings, self._stopped - {name} if on else self._stopped | {name})
                if self._is_started:
                    (part.start if on else part.stop)()
        return self.described(name)

    def described(self, name: str) -> dict[str, Any]:
        """Return a part: its id, its settings, where it is from, whether it runs, and its own description."""
        part = self._named(name)
        return {
            "id": name,
            **self._settings[name].model_dump(mode="json", exclude_defaults=True),
            "from": "site file" if name in self._configured else "created",
            "running": name not in self._stopped,
            **part.described(),
        }

    def _check_beside(self, name: str, settings: SettingsT) -> None:
        """Raise ValueError where a part cannot be added."""
        if name in self._settings:
            raise ValueError(f"there is a {self._noun} {name!r} already; delete it first, or give another id")
        self._check(name, settings, self._settings)

    def _named(self, name: str) -> PartT:
        part = self.parts.get(name)
        if part is None:
            raise BadRequest(f"there is no {self._noun} {name!r}; there are: {', '.join(self.parts) or 'none'}")
        return part

    def _commit(self, parts: Mapping[str, PartT], settings: dict[str, SettingsT], stopped: set[str]) -> None:
        """Write the file, then have the new state; where the file cannot be written, nothing changes."""
        self._write_file(settings, stopped)
        is_changed = parts is not self.parts
        self.parts, self._settings, self._stopped = parts, settings, stopped
        if is_changed:
            self._on_change(parts)

    def _procedures(self) -> list[Procedure]:
        noun, plural = self._noun, f"{self._noun}s"
        forbids = ConfigDict(extra="forbid")
        which: Any = create_model(f"Which{noun.title()}", __config__=forbids, id=(PartId, ...))
        new: Any = create_model(f"New{noun.title()}", __base__=self._model, id=(PartId, ...))

        def create(given: Any) -> dict[str, Any]:
            settings = self._model.model_validate(given.model_dump(exclude={"id"}, exclude_unset=True))
            return self.create(given.id, settings)

        def describe_all() -> list[dict[str, Any]]:
            return [self.described(name) for name in self.parts]

        return [
            Command(f"create_{noun}", f"Create a {noun}, and start it.", new, None, create),
            Query(f"list_{plural}", f"List all {plural}.", None, None, describe_all),
            Query(
                *(f"read_{noun}", f"Return one {noun}: its settings, whether it runs, its counts.", which, None),
                lambda given: self.described(given.id),
            ),
            Command(
                *(f"start_{noun}", f"Start a {noun} that was stopped.", which, None),
                lambda given: self.switch(given.id, on=True),
            ),
            Command(
                *(f"stop_{noun}", f"Stop a {noun}, also over restarts of the node, until it is started.", which, None),
                lambda given: self.switch(given.id, on=False),
            ),
            Command(
                *(f"delete_{noun}", f"Delete a {noun}; the samples that it has measured stay.", which, None),
                lambda given: self.delete(given.id),
                destructive=True,
            ),
        ]

    # The file

    def _read_file(self) -> None:
        kept: dict[str, Any] = {"created": {}, "stopped": []}
        created: dict[str, SettingsT] = {}
        if self._file is not None and self._file.exists():
            try:
                kept |= _checked(json.loads(self._file.read_text()))
                created = {name: self._model.model_validate(each) for name, each in kept["created"].items()}
                self._stopped = set(kept["stopped"])
            except (OSError, ValueError, TypeError, AttributeError) as error:
                raise BadRequest(
                    f"{self._file} cannot be read: {error}; repair it, or remove it to start without it"
                ) from error
        self._settings = dict(self._configured)
        for name, settings in created.items():
            try:
                self._check_beside(name, settings)
                self._settings[name] = settings
            except ValueError as error:
                log.warning("%s %s, which was created earlier, is left out: %s", self._noun, name, error)
                self._left_out[name] = kept["created"][name]

    def _write_file(self, settings: Mapping[str, SettingsT], stopped: set[str]) -> None:
        if self._file is None:
            return
        created = {
            name: each.model_dump(mode="json", exclude_defaults=True)
            for name, each in settings.items()
            if name not in self._configured
        }
        content = {"version": _VERSION, "created": {**self._left_out, **created}, "stopped": sorted(stopped)}
        try:
            make_folder(self._file.parent, sync=True)
            write_whole(self._file, json.dumps(content, indent=2))
        except OSError as error:
            raise BadRequest(
                f"cannot write {error.filename or self._file}: {error.strerror}; nothing was changed"
            ) from error


def _checked(content: Any) -> dict[str, Any]:
    """Return the content of a file, if it is a mapping of a version that is known."""
    if not isinstance(content, dict):
        raise TypeError("it holds no mapping")
    version = content.get("version", _VERSION)
    if version > _VERSION:
        raise ValueError(f"it is of version {version}, written by a later sisock")
    return content
