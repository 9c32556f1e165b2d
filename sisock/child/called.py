"""The side of a child that runs a function: what it receives from its parent, and what it sends."""

import os
import pickle
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from sisock.child.frames import CANCEL, ERROR, RESERVED, RESULT, Decoder, Message, encode
from sisock.child.function import load
from sisock.errors import BadRequest
from sisock.printable import log_printable
from sisock.process import CHANNEL_FD, prepare_process
from sisock.worker import Worker

_PIECE = 65536


class Parent:
    """The process that runs a function here.

    Attributes
    ----------
    cancelled : threading.Event
        Set when it asks the function to end soon.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel, self._decoder = channel, Decoder()
        self._lock, self._sending = threading.Lock(), threading.Lock()
        self._callbacks: list[Callable[[], object]] = []
        self.cancelled = threading.Event()

    def when_cancelled(self, callback: Callable[[], object]) -> None:
        """Have a function called when the run is to end: in a thread of its own, or at once."""
        with self._lock:
            if not self.cancelled.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def send(self, kind: str, value: object) -> None:
        """Send a message; while the parent has not read the earlier ones, wait.

        Raises
        ------
        BadRequest
            If the kind is one of those that begin and end a function's run.
        TooLarge
            If the message is too large.
        TypeError, AttributeError, pickle.PicklingError
            If the value cannot be pickled.
        """
        if kind in RESERVED:
            raise BadRequest(f"messages of kind {kind!r} begin or end a function's run; choose another kind")
        self._send(Message(kind, value))

    def serve(self) -> int:
        """Run the function that the parent names, send its result or its error, and return the exit status."""
        call, *more = self._received()
        for message in more:
            self._take(message)
        Worker("parent", self._listen).start()
        try:
            name, positional, named = pickle.loads(call.value)  # noqa: S301 - see `sisock.child.frames.encode`
            result = load(name)(*positional, **named)
            self._send(Message(RESULT, _pickled(result)))
        except BaseException as error:  # noqa: BLE001 - raised again in the parent
            self._send(Message(ERROR, described(error)))
            return 1
        return 0

    def _listen(self) -> None:
        while True:
            for message in self._received():
                self._take(message)

    def _take(self, message: Message) -> None:
        if message.kind == CANCEL:
            with self._lock:
                self.cancelled.set()
                callbacks, self._callbacks = self._callbacks, []
            for callback in callbacks:
                callback()

    def _send(self, message: Message) -> None:
        frame = encode(message)
        with self._sending:
            self._channel.sendall(frame)

    def _received(self) -> list[Message]:
        """Return the next messages; where there is no parent any more, end with all that was started here."""
        messages: list[Message] = []
        while not messages:
            data = self._channel.recv(_PIECE)
            if not data:
                os.killpg(0, signal.SIGKILL)
            messages = self._decoder.feed(data)
        return messages


def _pickled(result: object) -> bytes:
    try:
        return pickle.dumps(result, pickle.HIGHEST_PROTOCOL)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise BadRequest(
            f"the result, of type {type(result).__name__}, cannot be sent to another process: {error}"
        ) from error


def described(error: BaseException) -> dict[str, Any]:
    """Return an exception as values that every process can read: its type, text, traceback, and itself if possible."""
    try:
        pickled = pickle.dumps(error, pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001 - whatever its class raises; its text and traceback are sent in any case
        pickled = None
    return {
        "type": type(error).__name__,
        "text": str(error),
        "traceback": "".join(traceback.format_exception(error)),
        "pickled": pickled,
    }


_here: Parent | None = None


def parent() -> Parent:
    """Return the process that runs a function here.

    Raises
    ------
    BadRequest
        If this process was not started by a `sisock.child.Child` to run a function.
    """
    if _here is None:
        raise BadRequest("this process does not run a function of a Child, and so has no parent to send to")
    return _here


def main() -> None:
    """Run the function that the parent sends."""
    global _here  # noqa: PLW0603 - one per process
    prepare_process()
    log_printable()
    channel = socket.socket(fileno=int(os.environ.pop(CHANNEL_FD)))
    channel.set_inheritable(False)
    _here = Parent(channel)
    sys.exit(_here.serve())
