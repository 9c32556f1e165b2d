"""Recordings on disk: Parquet, CSV and HDF5 files as `sisock export` writes them."""

from collections.abc import Sequence
from dataclasses import replace

from sisock.history import is_history
from sisock.nodetype import NodeContext, NodeType
from sisock.source import Source
from sisock_nodes.file.settings import FileSettings


def make_sources(settings: FileSettings, context: NodeContext) -> Sequence[Source]:
    """Return a source for each timeline of the recordings that exist.

    Raises
    ------
    MissingExtra
        If pyarrow or h5py is needed and not installed.
    BadData
        If there is no recording, or one cannot be read.
    """
    if is_history(settings.path):
        return ()  # the history has it all
    from sisock_nodes.file.source import file_sources

    return file_sources(settings)


node_type = NodeType(FileSettings, make_sources)
recording = replace(node_type, replaced_by="file")
"""The node type under its former name."""
