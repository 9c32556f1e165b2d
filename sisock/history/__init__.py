"""What a node has seen: append, read, and what is final."""

from sisock.history.entry import Reset
from sisock.history.history import History, open_history
from sisock.history.manifest import is_history

__all__ = ["History", "Reset", "is_history", "open_history"]
