"""The settings of ``type: file``."""

from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationInfo, model_validator

from sisock.history import is_history
from sisock.nodetype import NodeSettings
from sisock.settings import HistorySettings, InputPath

# An archive is not removed by itself.
_NO_LIMIT = 2**62
_FOR_EVER = 1000 * 365.25 * 86400.0


class FileSettings(NodeSettings):
    """Recorded samples: Parquet, CSV or HDF5 files as `sisock export` writes them, or a history on disk."""

    type: Literal["file", "recording"]
    description: str | None = "Recorded samples"
    path: InputPath
    """The file, or the folder whose ``*.parquet``, ``*.csv``, ``*.h5`` and ``*.hdf5`` files are served; or the folder
    of a history, as ``sisock import`` makes it."""
    history: HistorySettings = HistorySettings(keep=_FOR_EVER)
    """How much is kept; by default everything, however old."""

    @model_validator(mode="before")
    @classmethod
    def _history_at_the_path(cls, content: Any, info: ValidationInfo) -> Any:
        """Take the folder of a history for the node's own."""
        if isinstance(content, dict) and isinstance(path := content.get("path"), str | Path):
            folder = (info.context or {}).get("folder", Path()) / path
            if "history" not in content and is_history(folder):
                return {**content, "history": {"path": folder, "max_size": _NO_LIMIT}}
        return content
