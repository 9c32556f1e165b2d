"""Receiving datagrams, many at a time: Linux's recvmmsg into arrays."""

import ctypes
import errno
import os
import select
import socket
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sisock.errors import BadRequest
from sisock.fields import FloatArray

# Datagrams received at once. The beginning of each has its own place; the rest of longer ones is in another, so that
# small ones are adjacent.
_AT_ONCE, _BEGINNING, _LONGEST = 512, 2048 + 64, 65_536
# The kernel's time stamp: a header of 16 bytes and two int64.
_CONTROL = np.dtype({"names": ["s", "ns"], "formats": ["<i8", "<i8"], "offsets": [16, 24], "itemsize": 64})
_ADDRESS_SIZE = 32
# Of Linux, which Python's socket does not name.
_SO_TIMESTAMPNS, _SO_RCVBUFFORCE, _SO_MEMINFO, _MEMINFO_DROPS = 35, 33, 55, 8
_MOST_BUFFER = 64 << 20


class _Piece(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Message(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("pieces", ctypes.c_void_p),
        ("piece_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("_padding", ctypes.c_uint32),
        ("length", ctypes.c_uint32),
        ("_more", ctypes.c_uint32),
    )


_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Datagrams:
    """Datagrams in the order in which they came; valid until the next ones are received.

    Attributes
    ----------
    lengths : ndarray of int64, shape (n,)
        Bytes of each.
    senders : ndarray of uint64, shape (n, 4)
        The address of each, as the kernel writes it; see `Receiver.sender`.
    arrival : ndarray of float64, shape (n,)
        When the kernel got each, UNIX seconds.
    """

    lengths: NDArray[np.int64]
    senders: NDArray[np.uint64]
    arrival: FloatArray
    _beginnings: NDArray[np.uint8]
    _rests: NDArray[np.uint8]

    def payload(self, index: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Return the bytes of some datagrams, one after the other."""
        lengths = self.lengths[index]
        longest = int(lengths.max(initial=0))
        if longest > _BEGINNING:
            each = zip(index.tolist(), lengths.tolist(), strict=True)
            pairs = ((self._beginnings[i, :n], self._rests[i, : max(0, n - _BEGINNING)]) for i, n in each)
            return np.concatenate([part for pair in pairs for part in pair])
        rows = self._beginnings[index, :longest]
        if int(lengths.min(initial=longest)) == longest:
            return rows.ravel()
        return rows[np.arange(longest) < lengths[:, None]]


class Receiver:
    """A UDP port.

    Parameters
    ----------
    host : str
        Address to bind to, of IPv4 or IPv6.
    port : int
        0 takes any that is free, see `port`.

    Raises
    ------
    BadRequest
        If the port cannot be bound.
    """

    def __init__(self, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            hint = "another program has it" if error.errno == errno.EADDRINUSE else error.strerror
            raise BadRequest(f"cannot receive on UDP {host}:{port}: {hint}; give another host or port") from error
        self.port: int = self._socket.getsockname()[1]
        self.buffer = self._widen()
        """Bytes that the kernel holds for us while we do something else."""
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.setblocking(False)
        self._woken, self._wake = os.pipe()
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)
        self._beginnings = np.zeros((_AT_ONCE, _BEGINNING), np.uint8)
        self._rests = np.empty((_AT_ONCE, _LONGEST - _BEGINNING), np.uint8)  # touched by long datagrams only
        self._addresses = np.zeros((_AT_ONCE, _ADDRESS_SIZE), np.uint8)
        self._control = np.zeros(_AT_ONCE, _CONTROL)
        self._pieces = (_Piece * (2 * _AT_ONCE))()
        self._messages = (_Message * _AT_ONCE)()
        for i in range(_AT_ONCE):
            self._pieces[2 * i] = _Piece(self._beginnings[i].ctypes.data, _BEGINNING)
            self._pieces[2 * i + 1] = _Piece(self._rests[i].ctypes.data, self._rests.shape[1])
            message = self._messages[i]
            message.name, message.pieces = self._addresses[i].ctypes.data, ctypes.addressof(self._pieces[2 * i])
            message.piece_count, message.control = 2, self._control[i : i + 1].ctypes.data
        self._headers = np.frombuffer(memoryview(self._messages).cast("B"), np.uint8).reshape(
            _AT_ONCE, ctypes.sizeof(_Message)
        )
        self._lengths = self._column("length", np.uint32)
        self._name_lengths = self._column("name_length", np.uint32)
        self._control_lengths = self._column("control_length", np.uint64)

    def _column(self, name: str, dtype: type[np.generic]) -> NDArray[Any]:
        """Return a member of all message headers as an array."""
        offset = getattr(_Message, name).offset
        column: NDArray[Any] = self._headers[:, offset : offset + np.dtype(dtype).itemsize].view(dtype)[:, 0]
        return column

    def _widen(self) -> int:
        """Make the kernel's buffer as large as it lets us, and return its size in bytes."""
        size = _MOST_BUFFER
        for option in (_SO_RCVBUFFORCE, socket.SO_RCVBUF):  # the first needs rights that few have
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, option, size)
            except PermissionError:
                continue
            break
        # The kernel doubles what it is asked for, for its own bookkeeping, and cuts it to net.core.rmem_max.
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2

    def wait(self, seconds: float) -> None:
        """Wait for a datagram, or for `wake`, so long at the most."""
        self._poll.poll(seconds * 1000.0)

    def wake(self) -> None:
        """End `wait`; may be called from any thread."""
        os.write(self._wake, b"x")

    def receive(self) -> Datagrams | None:
        """Return the datagrams that have arrived, at most `capacity`; None if there are none."""
        self._name_lengths[:], self._control_lengths[:] = _ADDRESS_SIZE, _CONTROL.itemsize
        count = _libc.recvmmsg(self._socket.fileno(), self._messages, _AT_ONCE, socket.MSG_DONTWAIT, None)
        if count < 0:
            number = ctypes.get_errno()
            if number in (errno.EAGAIN, errno.EINTR):
                return None
            raise OSError(number, os.strerror(number))
        control = self._control[:count]
        return Datagrams(
            self._lengths[:count].astype(np.int64),
            self._addresses[:count].view(np.uint64),
            control["s"] + control["ns"] * 1e-9,
            self._beginnings[:count],
            self._rests[:count],
        )

    def dropped(self) -> int:
        """Return how many datagrams the kernel has dropped here since we were too slow for them, modulo 2**32."""
        info = self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4 * (_MEMINFO_DROPS + 1))
        return int(np.frombuffer(info, np.uint32)[_MEMINFO_DROPS])

    @property
    def capacity(self) -> int:
        """How many datagrams `receive` returns at the most."""
        return _AT_ONCE

    def sender(self, address: bytes) -> tuple[str, int]:
        """Return host and port of a sender."""
        port = int.from_bytes(address[2:4], "big")
        if self._socket.family == socket.AF_INET:
            return socket.inet_ntop(socket.AF_INET, address[4:8]), port
        host = socket.inet_ntop(socket.AF_INET6, address[8:24])
        return host.removeprefix("::ffff:"), port

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()
        os.close(self._woken)
        os.close(self._wake)
