"""Networks between a client and the router that are cut."""

import socket
import threading
from contextlib import suppress


class Proxy:
    """Forwards TCP connections until `close`, or until `freeze`, after which nothing passes and nothing is closed.

    Frozen it is as a network that is cut: it covers peers that neither answer nor close. The kernels of both sides still answer
    each other's probes: keep-alive and the user time-out are not covered.
    """

    def __init__(self, port):
        self._target, self._frozen = port, threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets = []
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self):
        self._frozen.set()

    def close(self):
        for each in (self._listener, *self._sockets):
            with suppress(OSError):  # it is closed already
                each.shutdown(socket.SHUT_RDWR)  # a thread that waits for data would keep it open
            each.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [client, server]
            for here, there in ((client, server), (server, client)):
                threading.Thread(target=self._forward, args=(here, there), daemon=True).start()

    def _forward(self, here, there):
        try:
            while data := here.recv(65536):
                if self._frozen.is_set():
                    return
                there.sendall(data)
        except OSError:
            return
