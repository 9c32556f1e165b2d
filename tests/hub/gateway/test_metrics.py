"""Metrics of alarms, from the status of a node."""

import asyncio
from types import SimpleNamespace

import httpx
from fastapi import FastAPI

from sisock.alarm.alarms import Alarms
from sisock.alarm.notify import NotificationSettings, Notifier, Target
from sisock.alarm.settings import AlarmSettings
from sisock.fields import Field, Timeline
from sisock.metrics import Counters
from sisock.node import Node
from sisock.testing import ManualSource, StepClock
from sisock.work import Work
from sisock_hub.gateway.metrics import metrics
from sisock_hub.gateway.watch import Watched


class Connections(list):
    """A gateway without connections."""

    unsent, counters, table_budget = 0, Counters(), SimpleNamespace(held=0, waiting=0)


class NotFollowed(list):
    """Feeds of runs or events that nobody follows."""

    missed = 0


def scraped(*nodes):
    """Return the metrics of some nodes."""
    app, consumer = FastAPI(), SimpleNamespace(trouble=None, counters=dict)
    live = SimpleNamespace(subscriptions=0, readers=0)
    watch = SimpleNamespace(nodes=nodes, router={})
    feeds = SimpleNamespace(live=live, runs=NotFollowed(), events=NotFollowed(), watch=watch)
    app.include_router(metrics(consumer, feeds, Connections()))

    async def get():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
            return (await client.get("/metrics")).text

    return asyncio.run(get()).splitlines()


def test_alarms_are_counted_by_severity_and_state():
    source, clock = ManualSource(Timeline("tl", [Field("x")], lateness_s=0.0)), StepClock()
    alarms = {name: AlarmSettings(field=field, above=1, severity="error") for name, field in (("a", "x"), ("b", "no"))}
    target = Target("shift", NotificationSettings(webhook="http://127.0.0.1:1/", severity="critical"))
    work = Work(clock)
    notifier = Notifier(target, clock, work.outages, lambda _message: None)
    made = Alarms("rig", alarms, clock, work, work.outages, None, [notifier])
    node = Node("rig", None, [source], clock=clock, work=work, alarms=made)
    node.start()
    source.emit("tl", [clock.now()], {"x": [2.0]})
    lines = scraped(
        Watched("rig", None, "healthy", 0.0, status=node.status()),
        Watched("other", None, "healthy", 0.0, status={"alarms": {"by_severity": [], "notifications": 3}}),
    )
    node.stop()
    assert 'sisock_alarms{node="rig",severity="error",state="unacknowledged"} 1.0' in lines
    assert 'sisock_alarms{node="rig",severity="error",state="normal"} 1.0' in lines
    assert 'sisock_alarms_not_evaluated{node="rig"} 1.0' in lines
    assert 'sisock_alarm_total{counter="transitions",node="rig"} 1.0' in lines
    assert 'sisock_notification_total{counter="notices",node="rig",target="shift"} 0.0' in lines
    assert 'sisock_notification_waiting{node="rig",target="shift"} 0.0' in lines
    assert not any("other" in line for line in lines if "alarm" in line)
