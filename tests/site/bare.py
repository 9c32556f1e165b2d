"""WAMP clients on bare sockets, for tests: they read only when a test tells them to, and send what no library would."""

import base64
import os
import socket
import struct
import time
from pathlib import Path

import msgpack
from autobahn.wamp import auth

HELLO, WELCOME, ABORT, CHALLENGE, AUTHENTICATE = 1, 2, 3, 4, 5
ERROR, SUBSCRIBE, SUBSCRIBED, EVENT, CALL, RESULT, REGISTER = 8, 32, 33, 36, 48, 50, 64
_SERIALIZERS = {"json": 1, "msgpack": 2}


class BareClient:
    """A client of a running router.

    Parameters
    ----------
    site : sisock.site.Site
    transport : {"rawsocket", "websocket"}
    serializer : {"msgpack", "json"}
        Only MessagePack is written by `send`.
    receive_buffer : int, optional
        Bytes of the kernel's buffer; small ones make a client stall early.
    """

    def __init__(self, site, transport="rawsocket", serializer="msgpack", receive_buffer=None):
        self._transport = transport
        self.session = None
        """The id of its WAMP session, once it has logged in."""
        self.socket = socket.socket()
        self.socket.settimeout(20.0)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        router = site.router
        if transport == "rawsocket":
            self.socket.connect((router.host, site.rawsocket_port))
            self.socket.sendall(bytes([0x7F, 0xF0 | _SERIALIZERS[serializer], 0, 0]))
            assert self._exactly(4)[0] == 0x7F
        else:
            self.socket.connect((router.host, router.port))
            key = base64.b64encode(os.urandom(16)).decode()
            self.socket.sendall(
                f"GET /ws HTTP/1.1\r\nHost: {router.host}:{router.port}\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Protocol: wamp.2.{serializer}\r\n\r\n".encode()
            )
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += self._exactly(1)
            assert b" 101 " in head.split(b"\r\n")[0], head

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, message):
        """Send a WAMP message."""
        self.send_bytes(msgpack.packb(message))

    def send_bytes(self, payload, *, binary=True):
        """Send any bytes as one message of the transport."""
        self.socket.sendall(self.framed(payload, binary=binary))

    def framed(self, payload, *, binary=True):
        """Return bytes as they are sent as one message of the transport."""
        if self._transport == "rawsocket":
            return struct.pack(">I", len(payload)) + payload
        size = len(payload)
        if size < 126:
            head = bytes([0x80 | size])
        else:
            head = struct.pack(">BH", 0x80 | 126, size) if size < 1 << 16 else struct.pack(">BQ", 0x80 | 127, size)
        # Masked by zeros, which leaves the payload as it is.
        return bytes([0x82 if binary else 0x81]) + head + bytes(4) + payload

    def receive(self):
        """Return the next WAMP message; pings are left unanswered."""
        while True:
            if self._transport == "rawsocket":
                return msgpack.unpackb(self._exactly(struct.unpack(">I", self._exactly(4))[0]))
            first, size = self._exactly(2)
            if size == 126:
                (size,) = struct.unpack(">H", self._exactly(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", self._exactly(8))
            payload = self._exactly(size)
            if first & 0x0F == 2:
                return msgpack.unpackb(payload)
            if first & 0x0F == 8:
                raise ConnectionResetError("the router closed the WebSocket")

    def login(self, access):
        """Log in by wampcra; return the answer, WELCOME or ABORT."""
        roles = {"caller": {"features": {"progressive_call_results": True}}, "callee": {}, "subscriber": {}}
        self.send([HELLO, access.realm, {"roles": roles, "authmethods": ["wampcra"], "authid": access.user}])
        answer = self.receive()
        if answer[0] != CHALLENGE:
            return answer
        signature = auth.compute_wcs(access.secret.encode(), answer[2]["challenge"].encode())
        self.send([AUTHENTICATE, signature.decode(), {}])
        answer = self.receive()
        if answer[0] == WELCOME:
            self.session = answer[1]
        return answer

    def subscribe(self, topic):
        """Subscribe to a topic."""
        self.send([SUBSCRIBE, 1, {}, topic])
        assert self.receive()[0] == SUBSCRIBED

    def call(self, number, procedure, *args, **kwargs):
        """Call a procedure, progressive results wanted; the answers are for `receive`."""
        self.send([CALL, number, {"receive_progress": True}, procedure, list(args), kwargs])

    def is_cut(self, within_s):
        """Return whether the router closes the connection in that time; what comes meanwhile is read and dropped."""
        deadline = time.monotonic() + within_s
        while (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                if not self.socket.recv(1 << 16):
                    return True
            except TimeoutError:
                return False
            except OSError:
                return True
        return False

    def close(self):
        """Close the connection."""
        self.socket.close()

    def _exactly(self, size):
        got = bytearray()
        while len(got) < size:
            piece = self.socket.recv(size - len(got))
            if not piece:
                raise ConnectionResetError("the router closed the connection")
            got += piece
        return bytes(got)


def router_memory(running):
    """Return the bytes that all processes of a router which a test started occupy (RunningRouter)."""
    return memory_of(running.processes["router"].pid)


def memory_of(group):
    """Return the bytes that all processes of a process group occupy."""
    pages = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if int((process / "stat").read_text().rpartition(")")[2].split()[2]) == group:
                pages += int((process / "statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return pages * os.sysconf("SC_PAGE_SIZE")
