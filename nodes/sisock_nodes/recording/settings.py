"""The settings of ``type: recording``."""

from collections.abc import Sequence
from typing import Literal

from sisock.site import HistorySettings, NodeSettings, SitePath
from sisock.source import Source
from sisock.times import Clock

_FOR_EVER = 1000 * 365.25 * 86400.0


class RecordingSettings(NodeSettings):
    """Recorded samples: Parquet, CSV or HDF5 files as `sisock export` writes them."""

    type: Literal["recording"]
    description: str | None = "Recorded samples"
    path: SitePath
    """The file, or the folder whose ``*.parquet``, ``*.csv``, ``*.h5`` and ``*.hdf5`` files are served."""
    history: HistorySettings = HistorySettings(keep=_FOR_EVER)
    """How much is kept; by default everything, however old."""

    def sources(self, clock: Clock) -> Sequence[Source]:
        """Make a source for each timeline of the recordings that are there.

        Raises
        ------
        MissingExtra
            If pyarrow or h5py is needed and not installed.
        BadData
            If there is no recording, or one cannot be read.
        """
        from sisock_nodes.recording.source import recording_sources

        return recording_sources(self)
