"""What a node has seen: append, read, and what is final."""

from sisock.history.catalogue import Reset, is_history
from sisock.history.history import History, open_history

__all__ = ["History", "Reset", "is_history", "open_history"]
