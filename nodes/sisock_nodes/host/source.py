"""Reading this machine through psutil."""

import math
import os
import platform
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import psutil

from sisock.clockwatch import ClockWatch
from sisock.fields import Field, Timeline
from sisock.source import Polled, Source
from sisock.times import Clock, kernel_clock
from sisock_nodes.host.settings import HostSettings

Reading = Mapping[str, Any]
# Timelines with rates, which are differences of two readings.
_RATES = ("cpu", "network", "disks")


class Rates:
    """Rates, per second, of counters that only go up; one that went back was reset, and has no rate."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: dict[str, tuple[float, float]] = {}

    def of(self, name: str, count: float) -> float:
        """Return the rate of `name` since the call before; NaN at the first."""
        now = self._clock.monotonic()
        then, before = self._last.get(name, (now, math.nan))
        self._last[name] = now, count
        return (count - before) / (now - then) if now > then and count >= before else math.nan


def host_sources(settings: HostSettings, clock: Clock) -> Sequence[Source]:
    """Return a polled source for each timeline that this machine has."""
    sources = []
    rates = Rates(clock)
    makers: tuple[tuple[str, Callable[[], tuple[list[Field], Callable[[], Reading | None]]]], ...] = (
        ("cpu", _cpu),
        ("load", _load),
        ("memory", _memory),
        ("network", lambda: _network(rates)),
        ("disks", lambda: _disks(rates)),
        ("temperatures", _temperatures),
        ("clock", lambda: _clock(clock)),
        ("system", lambda: _system(clock)),
    )
    for name, make in makers:
        fields, read = make()
        wanted = [f for f in fields if not any(fnmatchcase(f.name, pattern) for pattern in settings.leave_out)]
        if wanted:
            timeline = Timeline(name, wanted, interval_s=getattr(settings.intervals, name))
            complete = _complete(wanted, read)
            sources.append(Polled(timeline, _but_the_first(complete) if name in _RATES else complete, clock))
    return sources


def _but_the_first(read: Callable[[], Reading | None]) -> Callable[[], Reading | None]:
    """Return `read` without a first reading, which only remembers the counters: an unknown rate is not a sample."""
    first = True

    def rates() -> Reading | None:
        nonlocal first
        values = read()
        unknown, first = first, False
        return None if unknown else values

    return rates


def _complete(fields: Sequence[Field], read: Callable[[], Reading | None]) -> Callable[[], Reading | None]:
    """Return `read` with a value for each of `fields`: a device that has gone reads as nothing."""
    nothing = {"number": math.nan, "string": "", "bool": False}

    def complete() -> Reading | None:
        values = read()
        if values is None:
            return None
        return {
            f.name: float(v) if f.type == "number" else v for f in fields for v in [values.get(f.name, nothing[f.type])]
        }

    return complete


def _cpu() -> tuple[list[Field], Callable[[], Reading]]:
    cores = psutil.cpu_count() or 1
    fields = [Field("cpu.total", "number", "%", "Time that the processors were busy, mean of all")]
    fields += [Field(f"cpu.{i}", "number", "%", f"Time that processor {i} was busy") for i in range(cores)]
    if psutil.cpu_freq() is not None:
        fields.append(Field("cpu.frequency", "number", "MHz", "Clock of the processors, mean of all"))

    def read() -> Reading:
        each = psutil.cpu_percent(percpu=True)
        frequency = psutil.cpu_freq()
        values = {f"cpu.{i}": percent for i, percent in enumerate(each)}
        return values | {
            "cpu.total": sum(each) / len(each),
            "cpu.frequency": frequency.current if frequency else math.nan,
        }

    return fields, read


def _load() -> tuple[list[Field], Callable[[], Reading]]:
    spans = ("1m", "5m", "15m")
    fields = [Field(f"load.{s}", "number", "1", f"Processes that ran or waited to run, mean of {s}") for s in spans]
    fields.append(Field("process.count", "number", "1", "Processes"))

    def read() -> Reading:
        load = zip((f"load.{s}" for s in spans), psutil.getloadavg(), strict=True)
        return dict(load) | {"process.count": len(psutil.pids())}

    return fields, read


def _memory() -> tuple[list[Field], Callable[[], Reading]]:
    fields = [
        Field("memory.total", "number", "B", "Memory that there is"),
        Field("memory.available", "number", "B", "Memory that can be had without swapping"),
        Field("memory.used", "number", "B", "Memory in use"),
        Field("memory.percent", "number", "%", "Part of the memory that cannot be had"),
        Field("swap.used", "number", "B", "Swap in use"),
        Field("swap.percent", "number", "%", "Part of the swap that is in use"),
    ]

    def read() -> Reading:
        memory, swap = psutil.virtual_memory(), psutil.swap_memory()
        values = {f"memory.{key}": getattr(memory, key) for key in ("total", "available", "used", "percent")}
        return values | {"swap.used": swap.used, "swap.percent": swap.percent}

    return fields, read


def _network(rates: Rates) -> tuple[list[Field], Callable[[], Reading]]:
    fields = []
    for nic in psutil.net_io_counters(pernic=True):
        fields += [
            Field(f"network.{nic}.received", "number", "B/s", f"Bytes received on {nic}"),
            Field(f"network.{nic}.sent", "number", "B/s", f"Bytes sent on {nic}"),
            Field(f"network.{nic}.errors", "number", "1", f"Errors and drops on {nic} since it is up"),
            Field(f"network.{nic}.up", "bool", None, f"Whether {nic} is up"),
        ]

    def values() -> Iterator[tuple[str, Any]]:
        for nic, count in psutil.net_io_counters(pernic=True).items():
            yield f"network.{nic}.received", rates.of(f"{nic} received", count.bytes_recv)
            yield f"network.{nic}.sent", rates.of(f"{nic} sent", count.bytes_sent)
            yield f"network.{nic}.errors", count.errin + count.errout + count.dropin + count.dropout
        for nic, state in psutil.net_if_stats().items():
            yield f"network.{nic}.up", state.isup

    return fields, lambda: dict(values())


def _disks(rates: Rates) -> tuple[list[Field], Callable[[], Reading]]:
    # One device may be mounted in several places; the first, which psutil lists, is enough.
    mounts = {part.device: part.mountpoint for part in reversed(psutil.disk_partitions())}.values()
    fields = []
    for mount in sorted(mounts):
        fields += [
            Field(f"disk.{mount}.used", "number", "B", f"Space in use on {mount}"),
            Field(f"disk.{mount}.free", "number", "B", f"Space that can be had on {mount}"),
            Field(f"disk.{mount}.percent", "number", "%", f"Part of the space on {mount} that is in use"),
        ]
    if psutil.disk_io_counters() is not None:
        fields += [
            Field("disk.read", "number", "B/s", "Bytes read from all disks"),
            Field("disk.written", "number", "B/s", "Bytes written to all disks"),
        ]

    def values() -> Iterator[tuple[str, Any]]:
        for mount in mounts:
            try:
                usage = psutil.disk_usage(mount)
            except OSError:
                continue  # unmounted meanwhile: it reads as nothing
            yield f"disk.{mount}.used", usage.used
            yield f"disk.{mount}.free", usage.free
            yield f"disk.{mount}.percent", usage.percent
        if count := psutil.disk_io_counters():
            yield "disk.read", rates.of("disk read", count.read_bytes)
            yield "disk.written", rates.of("disk written", count.write_bytes)

    return fields, lambda: dict(values())


def _temperatures() -> tuple[list[Field], Callable[[], Reading]]:
    def values() -> Iterator[tuple[str, float]]:
        for chip, sensors in psutil.sensors_temperatures().items():
            for i, sensor in enumerate(sensors):
                yield f"temperature.{chip}.{sensor.label or i}", sensor.current

    # Two sensors may have one label: the dict keeps the last.
    names = list(dict(values()))
    return [Field(name, "number", "°C", "Temperature") for name in names], lambda: dict(values())


def _clock(clock: Clock) -> tuple[list[Field], Callable[[], Reading | None]]:
    watch, jumps = ClockWatch(clock), 0
    fields = [Field("clock.jumps", "number", "1", "Jumps of the clock by more than a second since the node started")]
    told = kernel_clock() is not None
    if told:
        fields += [
            Field(
                "clock.offset", "number", "s", "Offset that the kernel is still correcting; NaN while unsynchronised"
            ),
            Field("clock.synchronised", "bool", None, "Whether the kernel calls its clock synchronised"),
        ]

    def read() -> Reading | None:
        nonlocal jumps
        jumps += watch.jump() is not None
        if not told:
            return {"clock.jumps": jumps}
        kernel = kernel_clock()
        if kernel is None:
            return None  # not known, which is not the same as not synchronised
        return {"clock.jumps": jumps, "clock.offset": kernel.offset_s, "clock.synchronised": kernel.synchronised}

    return fields, read


def _system(clock: Clock) -> tuple[list[Field], Callable[[], Reading]]:
    fields = [
        Field("system.hostname", "string", None, "Name of this machine"),
        Field("system.kernel", "string", None, "Kernel and its version"),
        Field("system.uptime", "number", "s", "Time since this machine was started"),
        Field("system.users", "number", "1", "Sessions of users who are logged in"),
    ]
    if psutil.sensors_battery() is not None:
        fields += [
            Field("battery.percent", "number", "%", "Charge of the battery"),
            Field("battery.plugged", "bool", None, "Whether mains power is plugged in"),
        ]

    def read() -> Reading:
        battery = psutil.sensors_battery()
        return {
            "system.hostname": socket.gethostname(),
            "system.kernel": f"{platform.system()} {os.uname().release}",
            "system.uptime": clock.now() - psutil.boot_time(),
            "system.users": len(psutil.users()),
            "battery.percent": battery.percent if battery else math.nan,
            "battery.plugged": bool(battery and battery.power_plugged),
        }

    return fields, read
