"""What a node has seen: append, read, and what is final."""

from sisock.history.history import History

__all__ = ["History"]
