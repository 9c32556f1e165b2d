"""An answer that is refused after its first chunk leaves nothing of it in memory."""

import gc
import weakref

import numpy as np
from twisted.internet.defer import succeed

from sisock.consumer.cache import FinalAnswers
from sisock.consumer.requests import Requests
from sisock.errors import TooLarge
from sisock.wamp.wire import pack


class Chunk(dict):
    """A chunk that reports its end."""


class Link:
    """Answers every call in two chunks."""

    def __init__(self):
        self.chunks = []

    def call(self, _timeout_s, procedure, *_args, on_progress=None, **_how):
        if procedure.endswith("get_fields"):
            field = {"type": "number", "timeline": "tl"}
            return succeed([{"x": field}, {"tl": {}}])
        for at in (0, 5):
            part = pack(np.arange(5.0) + at)
            chunk = Chunk(timeline="tl", at=at, rows=10, bytes=160, t=part, data={"x": part})
            self.chunks.append(weakref.ref(chunk))
            on_progress(chunk)
        return succeed({"chunks": 2, "timeline": {"tl": {}}, "data": {}})


def refuse(_received, _total):
    raise TooLarge("more than is wanted")


def test_refused_answer_is_freed_without_the_garbage_collector():
    """Its error kept the first chunk, of a megabyte, in a cycle; a gateway that refuses many answers grew by all of them."""
    link, found = Link(), []
    gc.disable()
    try:
        request = Requests(link, FinalAnswers(0)).data("rig", ["x"], 1.0, 9.0, None, "first", None, refuse, 1.0)
        request.addErrback(lambda failure: found.append(failure.type))
        assert found == [TooLarge]
        assert [chunk() for chunk in link.chunks] == [None, None]
    finally:
        gc.enable()
