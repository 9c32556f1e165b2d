"""Receiving on UDP ports, and the sources that the datagrams are of."""

import logging
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sisock.collection import Collection
from sisock.fields import Timeline
from sisock.metrics import Counters
from sisock.outage import Health, OutageLog
from sisock.procedure import Procedure
from sisock.source import Emit
from sisock.times import Clock
from sisock.worker import Worker
from sisock_nodes.udp.receiver import Datagrams, Receiver
from sisock_nodes.udp.settings import SourceSettings, UdpSettings, check_source
from sisock_nodes.udp.stream import Stream

# Seconds between looks at what is idle; and by which datagrams are let gather while they come, so that many are read at
# once. The kernel's buffer holds a hundred times that at the least.
_TICK_S, _GATHER_S = 0.25, 0.004

log = logging.getLogger(__name__)


class UdpSources:
    """The sources of a node, and the ports that they are received on.

    Parameters
    ----------
    settings : UdpSettings
    clock : Clock
    folder : Path or None
        Where sources that are created while the node runs are kept, and which were stopped; None to keep nothing.

    Raises
    ------
    BadRequest
        If a port cannot be bound, or the file of created sources cannot be read.
    """

    def __init__(self, settings: UdpSettings, clock: Clock, folder: Path | None = None) -> None:
        self.counters = Counters("received", "unknown_sender", "dropped_by_kernel", "failures")
        self._settings, self._clock = settings, clock
        self._outages = OutageLog(clock, log)
        self._receiving = OutageLog(clock, log, partial(self.counters.add, "failures"))
        self._emit: Emit | None = None
        self._routes: dict[tuple[bytes, int], Stream | None] = {}
        self._collection = Collection(
            *("source", SourceSettings, self._stream, settings.sources),
            None if folder is None else folder / "sources.json",
            check=lambda name, new, known: check_source(name, new, known, settings.ports),
            on_change=self._on_change,
        )
        self.procedures: Sequence[Procedure] = self._collection.procedures
        self._stopping = threading.Event()
        self._workers: list[Worker] = []
        self._receivers: list[Receiver] = []
        try:
            self._receivers += [Receiver(settings.host, port) for port in settings.ports]
        except BaseException:
            self._close()
            raise
        # All that arrived before was taken, by receiver; UNIX seconds of the kernel's clock, which stamps what arrives.
        self._read_until = dict.fromkeys(self._receivers, -math.inf)

    @property
    def timelines(self) -> Sequence[Timeline]:
        """A timeline for each source."""
        return [stream.timeline for stream in self._streams.values()]

    @property
    def parts(self) -> Sequence[Stream]:
        """The sources."""
        return list(self._streams.values())

    @property
    def ports(self) -> list[int]:
        """The ports that are received on."""
        return [receiver.port for receiver in self._receivers]

    def status(self) -> Health:
        """Return whether samples of all sources are accepted."""
        return self._outages.health()

    def start(self, emit: Emit) -> None:
        """Begin to receive, in a thread for each port."""
        self._emit = emit
        self._collection.start()
        for receiver in self._receivers:
            name = f"udp {receiver.port}"
            worker = Worker(name, self._run, patience_s=5.0, wake=receiver.wake, stopping=self._stopping)
            worker.start(receiver, emit)
            self._workers.append(worker)

    def stop(self) -> None:
        """Receive no more, and give the ports back."""
        for worker in self._workers:
            worker.stop()
        self._collection.stop()
        self._close()

    def _close(self) -> None:
        while self._receivers:
            self._receivers.pop().close()

    # Receiving

    def _run(self, receiver: Receiver, emit: Emit) -> None:
        looked, dropped = -math.inf, 0
        while not self._stopping.is_set():
            try:
                began = self._clock.now()
                datagrams = receiver.receive()
                if datagrams is not None:
                    self._take(receiver, datagrams, emit)
                if datagrams is None or len(datagrams.lengths) < receiver.capacity:
                    self._read_until[receiver] = began
                if self._clock.monotonic() >= looked + _TICK_S:
                    looked, dropped = self._clock.monotonic(), self._look(receiver, dropped, emit)
                if datagrams is None:
                    receiver.wait(_TICK_S)
                elif len(datagrams.lengths) < receiver.capacity:
                    self._clock.wait(self._stopping, _GATHER_S)
            except Exception as error:  # noqa: BLE001 - logged with its traceback
                self._receiving.failed(f"receiving on UDP port {receiver.port}", error)
                self._clock.wait(self._stopping, _TICK_S)
            else:
                self._receiving.recovered(f"receiving on UDP port {receiver.port}")

    def _take(self, receiver: Receiver, datagrams: Datagrams, emit: Emit) -> None:
        for stream, index in self._routed(receiver, datagrams):
            with stream.lock:
                for batch in stream.take(datagrams, index, self._clock.now()):
                    emit(batch)

    def _look(self, receiver: Receiver, dropped: int, emit: Emit) -> int:
        """Count what the kernel has dropped beyond `dropped`, and emit the watermarks of quiet sources."""
        now_dropped = receiver.dropped()
        if now_dropped != dropped:
            if not dropped:
                log.warning("the kernel drops datagrams on UDP port %d; they are counted", receiver.port)
            self.counters.add("dropped_by_kernel", (now_dropped - dropped) % 2**32)
        if receiver is self._receivers[0]:
            read_until = min(self._read_until.values())
            for stream in self._streams.values():
                with stream.lock:
                    if (quiet := stream.quiet(self._clock.now(), read_until)) is not None:
                        emit(quiet)
        return now_dropped

    def _routed(self, receiver: Receiver, datagrams: Datagrams) -> Iterator[tuple[Stream, NDArray[np.intp]]]:
        """Yield the sources that some datagrams are of, with the indices of theirs, ascending."""
        senders = datagrams.senders
        self.counters.add("received", len(senders))
        if (senders == senders[0]).all():
            groups = [(senders[0], np.arange(len(senders)))]
        else:
            whole = np.ascontiguousarray(senders).view(f"V{senders.itemsize * senders.shape[1]}")[:, 0]
            _, first, group = np.unique(whole, return_index=True, return_inverse=True)
            groups = [(senders[i], np.flatnonzero(group == g)) for g, i in enumerate(first.tolist())]
        found: dict[str, tuple[Stream, list[NDArray[np.intp]]]] = {}
        for address, index in groups:
            stream = self._stream_of(receiver, address.tobytes())
            if stream is None:
                self.counters.add("unknown_sender", len(index))
            else:
                found.setdefault(stream.name, (stream, []))[1].append(index)
        for stream, parts in found.values():
            yield stream, parts[0] if len(parts) == 1 else np.sort(np.concatenate(parts))

    def _stream_of(self, receiver: Receiver, address: bytes) -> Stream | None:
        """Return the source that the datagrams of a sender are of: the one that names it most exactly."""
        routes, key = self._routes, (address, receiver.port)
        if key not in routes:
            if len(routes) >= 10_000:  # somebody makes addresses up
                routes.clear()
            host, port = receiver.sender(address)
            fitting = [s for s in self._streams.values() if _fits(s.settings, host, port, receiver.port)]
            routes[key] = max(fitting, key=lambda s: s.settings.exactness, default=None)
        return routes[key]

    def _stream(self, name: str, settings: SourceSettings) -> Stream:
        stream = Stream(name, settings, outages=self._outages)
        if self._emit is not None:
            self._emit.add(stream.timeline)
        return stream

    def _on_change(self, streams: Mapping[str, Stream]) -> None:
        # Both are replaced as a whole, since the receiving threads read them meanwhile.
        self._streams, self._routes = streams, {}


def _fits(settings: SourceSettings, host: str, port: int, receive_on: int) -> bool:
    return (
        settings.address in (None, host) and settings.port in (None, port) and settings.receive_on in (None, receive_on)
    )
