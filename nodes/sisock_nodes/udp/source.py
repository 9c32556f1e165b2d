"""Receiving on UDP ports, and the sources that the datagrams are of."""

import logging
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from sisock.control import Procedure
from sisock.errors import BadRequest
from sisock.fields import Timeline
from sisock.metrics import Counters
from sisock.outage import Health, OutageLog
from sisock.source import Emit
from sisock.times import Clock
from sisock.worker import Worker
from sisock_nodes.udp.created import CreatedSources
from sisock_nodes.udp.receiver import Datagrams, Receiver
from sisock_nodes.udp.settings import SourceId, SourceSettings, UdpSettings, check_source
from sisock_nodes.udp.stream import Stream

# Seconds between looks at what is idle; and by which datagrams are let gather while they come, so that many are read at
# once. The kernel's buffer holds a hundred times that at the least.
_TICK_S, _GATHER_S = 0.25, 0.004

log = logging.getLogger(__name__)


class _Which(BaseModel):
    """Names a source."""

    model_config = ConfigDict(extra="forbid")

    id: SourceId


class _Nothing(BaseModel):
    """No arguments."""

    model_config = ConfigDict(extra="forbid")


class _New(SourceSettings):
    """A new source."""

    id: SourceId
    """Its name, and that of its timeline."""


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
        self._created = CreatedSources(settings, None if folder is None else folder / "sources.json")
        self._lock = threading.Lock()  # held while sources are created, deleted, started or stopped
        self._outages = OutageLog(clock, log)
        self._receiving = OutageLog(clock, log, partial(self.counters.add, "failures"))
        # Replaced as a whole, since the receiving threads read it meanwhile.
        known, stopped = self._created.read()
        self._streams = {
            name: Stream(name, each, running=name not in stopped, outages=self._outages) for name, each in known.items()
        }
        self._routes: dict[tuple[bytes, int], Stream | None] = {}
        self._emit: Emit | None = None
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
        offered: list[tuple[str, str, type[BaseModel], Callable[[Any], Any]]] = [
            ("create_source", "Create a source, and take its datagrams from now on.", _New, self._create),
            ("list_sources", "List all sources.", _Nothing, self._list),
            ("read_source", "Return one source: its settings, whether it runs, its counts.", _Which, self._read),
            ("start_source", "Take the datagrams of a source again.", _Which, self._switch(on=True)),
            ("stop_source", "Take the datagrams of a source no more, but count them.", _Which, self._switch(on=False)),
            ("delete_source", "Delete a source; what it has measured stays.", _Which, self._delete),
        ]
        self.procedures: Sequence[Procedure] = [Procedure(*each) for each in offered]

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
        for receiver in self._receivers:
            name = f"udp {receiver.port}"
            worker = Worker(name, self._run, patience_s=5.0, wake=receiver.wake, stopping=self._stopping)
            worker.start(receiver, emit)
            self._workers.append(worker)

    def stop(self) -> None:
        """Receive no more, and give the ports back."""
        for worker in self._workers:
            worker.stop()
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

    # Creating and deleting sources

    def _become(self, streams: dict[str, Stream]) -> None:
        self._created.write(streams)
        self._streams, self._routes = streams, {}

    def _create(self, new: _New) -> dict[str, Any]:
        settings = SourceSettings.model_validate(new.model_dump(exclude={"id"}, exclude_unset=True))
        with self._lock:
            known = {name: stream.settings for name, stream in self._streams.items()}
            try:
                check_source(new.id, settings, known, self._settings.ports)
            except ValueError as error:
                raise BadRequest(str(error)) from error
            stream = Stream(new.id, settings, outages=self._outages)
            if self._emit is not None:
                self._emit.add(stream.timeline)
            self._become({**self._streams, new.id: stream})
        log.info("source %s is created", new.id)
        return self._description(stream)

    def _delete(self, which: _Which) -> None:
        with self._lock:
            stream = self._named(which.id)
            if stream.name in self._settings.sources:
                raise BadRequest(f"source {stream.name!r} is in the site file; remove it there, or stop it here")
            self._become({name: other for name, other in self._streams.items() if other is not stream})
        log.info("source %s is deleted", which.id)

    def _switch(self, *, on: bool) -> Callable[[_Which], dict[str, Any]]:
        def switch(which: _Which) -> dict[str, Any]:
            with self._lock:
                stream = self._named(which.id)
                before, stream.running = stream.running, on
                try:
                    self._become(self._streams)
                except BadRequest:
                    stream.running = before
                    raise
            return self._description(stream)

        return switch

    def _list(self, _none: _Nothing) -> list[dict[str, Any]]:
        return [self._description(stream) for stream in self._streams.values()]

    def _read(self, which: _Which) -> dict[str, Any]:
        return self._description(self._named(which.id))

    def _named(self, name: str) -> Stream:
        if name not in self._streams:
            raise BadRequest(f"there is no source {name!r}; there are: {', '.join(self._streams) or 'none'}")
        return self._streams[name]

    def _description(self, stream: Stream) -> dict[str, Any]:
        settings = stream.settings.model_dump(mode="json", exclude_defaults=True)
        where = "site file" if stream.name in self._settings.sources else "created"
        counts = stream.counters.as_dict()
        return {"id": stream.name, **settings, "from": where, "running": stream.running, "counters": counts}


def _fits(settings: SourceSettings, host: str, port: int, receive_on: int) -> bool:
    return (
        settings.address in (None, host) and settings.port in (None, port) and settings.receive_on in (None, receive_on)
    )
