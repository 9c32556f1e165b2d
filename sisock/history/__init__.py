"""The samples of a node by timeline: appending, reading, watermarks."""

from sisock.history.entry import Reset
from sisock.history.history import History, open_history
from sisock.history.manifest import is_history

__all__ = ["History", "Reset", "is_history", "open_history"]
