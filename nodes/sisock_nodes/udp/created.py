"""Sources that were created, and sources that were stopped, while a node of UDP sources ran: kept in a file."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sisock.errors import BadRequest
from sisock.files import make_folder, write_whole
from sisock_nodes.udp.settings import SourceSettings, UdpSettings, check_source
from sisock_nodes.udp.stream import Stream

log = logging.getLogger(__name__)


class CreatedSources:
    """The file of the sources that the site file does not describe.

    Parameters
    ----------
    settings : UdpSettings
    file : Path or None
        None to keep nothing.
    """

    def __init__(self, settings: UdpSettings, file: Path | None) -> None:
        self._settings, self._file = settings, file

    def read(self) -> tuple[dict[str, SourceSettings], list[str]]:
        """Return the settings of all sources, those of the site file included, and which of them were stopped.

        Raises
        ------
        BadRequest
            If the file cannot be read.
        """
        kept: dict[str, Any] = {"created": {}, "stopped": []}
        created: dict[str, SourceSettings] = {}
        if self._file is not None and self._file.exists():
            try:
                kept |= json.loads(self._file.read_text())
                created = {name: SourceSettings.model_validate(each) for name, each in kept["created"].items()}
            except (OSError, ValueError, AttributeError) as error:
                raise BadRequest(
                    f"{self._file} cannot be read: {error}; repair it, or remove it to start without it"
                ) from error
        known = dict(self._settings.sources)
        for name, settings in created.items():
            try:
                check_source(name, settings, known, self._settings.ports)
                known[name] = settings
            except ValueError as error:
                log.warning("source %s, which was created earlier, is left out: %s", name, error)
        return known, kept["stopped"]

    def write(self, streams: Mapping[str, Stream]) -> None:
        """Write what the site file does not describe, so that it survives a restart.

        Raises
        ------
        BadRequest
            If it cannot be written.
        """
        if self._file is None:
            return
        created = {
            name: stream.settings.model_dump(mode="json", exclude_defaults=True)
            for name, stream in streams.items()
            if name not in self._settings.sources
        }
        stopped = [name for name, stream in streams.items() if not stream.running]
        try:
            make_folder(self._file.parent, sync=True)
            write_whole(self._file, json.dumps({"created": created, "stopped": stopped}, indent=2))
        except OSError as error:
            raise BadRequest(
                f"cannot write {error.filename or self._file}: {error.strerror}; nothing was changed"
            ) from error
