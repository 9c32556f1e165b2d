"""Serving an app of ours on a port of the loopback interface."""

import socket
import threading
import time
from contextlib import contextmanager

import uvicorn


@contextmanager
def served(app, **config):
    """Serve an app in a thread; provides its URL once it answers."""
    config = {"log_level": "error", "lifespan": "off", "ws": "none", **config}
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, **config))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        until = time.monotonic() + 60.0
        while not server.started:
            assert thread.is_alive(), "the server ended at once"
            assert time.monotonic() < until, "the server did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)
        listening.close()
