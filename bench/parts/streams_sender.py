"""Sends datagrams of 100 bytes, 12 float64 after a counter, at an even rate: port, rate per s, seconds."""

import ctypes
import socket
import sys
import time

import numpy as np

AT_ONCE = 32
RECORD = np.dtype([("counter", "<u4"), ("t", "<f8"), ("values", "<f8", 11)])


class Piece(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class Message(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p), ("name_length", ctypes.c_uint32), ("pieces", ctypes.c_void_p),
        ("piece_count", ctypes.c_size_t), ("control", ctypes.c_void_p), ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int), ("padding", ctypes.c_uint32), ("length", ctypes.c_uint32), ("more", ctypes.c_uint32),
    )  # fmt: skip


def main(port, rate, seconds):
    libc = ctypes.CDLL(None, use_errno=True)
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    out.connect(("127.0.0.1", port))
    records = np.zeros(AT_ONCE, RECORD)
    records["values"] = np.random.default_rng(0).normal(size=(AT_ONCE, 11))
    pieces, messages = (Piece * AT_ONCE)(), (Message * AT_ONCE)()
    for i in range(AT_ONCE):
        pieces[i] = Piece(records[i : i + 1].ctypes.data, RECORD.itemsize)
        messages[i].pieces, messages[i].piece_count = ctypes.addressof(pieces[i]), 1
    began, sent = time.perf_counter(), 0
    offset = time.time() - began
    while (now := time.perf_counter()) < began + seconds:
        due = int((now - began) * rate) - sent
        if due < AT_ONCE:
            continue  # a sleep would make it uneven
        records["t"] = now + offset + np.arange(AT_ONCE) * 1e-7 * 5
        records["counter"] = np.arange(sent, sent + AT_ONCE)
        sent += libc.sendmmsg(out.fileno(), messages, AT_ONCE, 0)
    print(sent, time.perf_counter() - began)


main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
