"""Messages between a process and its child: a codec of frames, bytes in and messages out."""

import pickle
import struct
from typing import Any, NamedTuple

from sisock.errors import BadData, TooLarge

MAX_FRAME = 2**28
"""Bytes of the largest message."""
CALL, CANCEL, RESULT, ERROR = RESERVED = "call", "cancel", "result", "error"
"""Kinds of the messages that begin and end a function's run."""

_HEADER = struct.Struct("!I")


class Message(NamedTuple):
    """A message: its kind, and a value of any type that pickle knows."""

    kind: str
    value: Any


def encode(message: Message) -> bytes:
    """Return a message as a frame: four bytes of length, and the pickled message.

    Both sides run code of the same program with the same rights, so pickle gives neither more than it has.

    Raises
    ------
    TooLarge
        If it is larger than `MAX_FRAME`.
    TypeError, AttributeError, pickle.PicklingError
        If its value cannot be pickled.
    """
    content = pickle.dumps(tuple(message), pickle.HIGHEST_PROTOCOL)
    if len(content) > MAX_FRAME:
        raise TooLarge(
            f"the {message.kind} takes {len(content)} bytes, and a message between processes {MAX_FRAME} at most: "
            "write it to a file, and send the path"
        )
    return _HEADER.pack(len(content)) + content


class Decoder:
    """Makes messages of the bytes of a stream, wherever it is cut."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that are complete.

        Raises
        ------
        BadData
            If the bytes are not frames, or a value cannot be unpickled; the stream is of no more use then.
        """
        self._pending += data
        messages, start = [], 0
        while len(self._pending) - start >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._pending, start)
            if length > MAX_FRAME:
                raise BadData(f"not a message: a frame of {length} bytes")
            end = start + _HEADER.size + length
            if len(self._pending) < end:
                break
            messages.append(_decoded(self._pending[start + _HEADER.size : end]))
            start = end
        del self._pending[:start]
        return messages


def _decoded(content: bytearray) -> Message:
    try:
        return Message(*pickle.loads(content))  # noqa: S301 - see `encode`
    except Exception as error:  # whatever the classes of the value raise
        raise BadData(f"a message cannot be read: {type(error).__name__}: {error}") from error
