"""Notifications of alarms: what is gathered, what is sent, and what happens when a target fails."""

import json
import socketserver
import threading
from base64 import b64decode, b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest
from pydantic import SecretStr, ValidationError

from sisock.alarm.alarms import Alarms
from sisock.alarm.delivery import sender
from sisock.alarm.notify import Notice, NotificationSettings, Notifier, Target, digest
from sisock.alarm.settings import AlarmSettings
from sisock.fields import Field, Timeline, as_batch
from sisock.outage import OutageLog
from sisock.testing import StepClock
from sisock.times import wait_until

T = 1_700_000_000.0
WEBHOOK = "https://example.org/x"


def notice(alarm="hot", severity="error", state="unacknowledged", text="x is 61"):
    return Notice(T, "rig", alarm, severity, state, text)


class RecordingClock(StepClock):
    """A stepped clock that keeps for how long was waited last."""

    waited = 0.0

    def wait(self, event, timeout_s):
        self.waited = timeout_s
        return super().wait(event, timeout_s)


class Sent:
    """A target that takes messages, or fails."""

    def __init__(self, **settings):
        self.clock, self.messages, self.error = RecordingClock(T), [], None
        self.before = lambda: None
        self.outages = OutageLog(self.clock)
        target = Target("shift", NotificationSettings(webhook=WEBHOOK, **settings))
        self.notifier = Notifier(target, self.clock, self.outages, self.send)

    def send(self, message):
        self.before()
        if self.error is not None:
            raise self.error
        self.messages.append(message)

    def __enter__(self):
        self.notifier.start()
        self.clock.wait_for_sleepers()
        return self

    def __exit__(self, *_exc):
        self.notifier.stop()

    def run(self, seconds):
        """Let time pass, from one thing that the thread waits for to the next."""
        for _ in range(int(seconds)):
            self.clock.run(1.0)

    def put(self, *notices):
        for each in notices:
            self.notifier.put(each)

    def titles(self):
        found, self.messages = [message.title for message in self.messages], []
        return found


def until(condition):
    assert wait_until(condition, 30.0)


def test_first_alarm_is_sent_soon_and_those_of_the_next_minute_in_one_message():
    with Sent() as sent:
        sent.put(notice("a"))
        until(lambda: sent.clock.waited == 1.0)
        sent.run(2)
        assert sent.titles() == ["error: rig a"]
        sent.put(notice("b"), notice("c", "critical"), notice("a", state="returned"))
        sent.run(55)
        assert sent.titles() == []
        sent.run(10)
        assert sent.titles() == ["2 alarms raised, 1 cleared; highest severity: critical"]
        sent.run(600)
        assert sent.titles() == []
    assert sent.notifier.counters.as_dict() == {"notices": 4, "messages": 2, "failures": 0, "dropped": 0}


def test_target_that_fails_for_an_hour_is_an_outage_with_back_off_and_what_does_not_fit_is_counted():
    with Sent() as sent:
        sent.error = ConnectionError("example.org answers 500")
        sent.put(notice("first"))
        until(lambda: sent.clock.waited == 1.0)
        sent.run(3600)
        assert sent.outages.health().error == "notification target shift: example.org answers 500"
        assert 10 < sent.notifier.counters["failures"] < 25
        sent.put(*(notice(f"a{i}") for i in range(1500)))
        assert (sent.notifier.waiting, sent.notifier.counters["dropped"]) == (1000, 501)
        sent.error = None
        sent.run(400)
        (message,) = sent.messages
        assert message.title == "1000 alarms raised, 0 cleared; highest severity: error"
        assert message.text.endswith("and 1451 more; `sisock alarms` lists all")
        assert sent.outages.health().state == "ok"
        assert sent.notifier.status()["waiting"] == 0


def test_notices_that_are_dropped_while_a_message_is_sent_are_not_counted_twice():
    with Sent() as sent:
        entered, release = threading.Event(), threading.Event()

        def slow():
            entered.set()
            assert release.wait(30)

        sent.before = slow
        sent.put(*(notice(f"a{i}") for i in range(1000)))
        until(lambda: sent.clock.waited == 1.0)
        sent.clock.step(1.0)
        assert entered.wait(30)
        sent.put(*(notice(f"b{i}") for i in range(1200)))
        release.set()
        until(lambda: sent.notifier.counters["messages"] == 1)
        until(lambda: sent.notifier.waiting == 1000)
        sent.run(70)
        assert [(len(m.notices), m.more) for m in sent.messages] == [(50, 950), (50, 1150)]


def test_what_waits_at_the_stop_is_sent():
    with Sent() as sent:
        sent.put(notice())
    assert sent.titles() == ["error: rig hot"]


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, ["w", "e", "room/c", "r"]),
        ({"severity": "error"}, ["e", "room/c", "r"]),
        ({"cleared": False}, ["w", "e", "room/c"]),
        ({"alarms": ["room/*", "w"]}, ["w", "room/c"]),
    ],
)
def test_target_gets_the_alarms_that_its_settings_name(settings, wanted):
    with Sent(**settings) as sent:
        sent.put(notice("i", "info"), notice("w", "warning"), notice("e"), notice("room/c", "critical"))
        sent.put(notice("r", state="returned"))
    assert {each.alarm for message in sent.messages for each in message.notices} == set(wanted)


def test_target_concerns_the_nodes_that_it_names():
    settings = NotificationSettings(webhook=WEBHOOK, nodes=["rig", "room.*"])
    assert [node for node in ("rig", "rig.x", "room.x") if settings.concerns(node)] == ["rig", "room.x"]


def test_message_lists_the_most_severe_first_and_has_no_control_characters():
    message = digest(
        [notice("a", "warning"), notice("b", "critical", text="x\nSubject: y"), notice("c", state="normal")]
    )
    assert message.severity == "critical"
    assert message.text.splitlines() == [
        "2023-11-14T22:13:20.000Z critical rig b: x\\nSubject: y",
        "2023-11-14T22:13:20.000Z warning rig a: x is 61",
        "2023-11-14T22:13:20.000Z cleared rig c: x is 61",
    ]
    assert digest([notice(state="normal")]).title == "cleared: rig hot"


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ({}, "has no way to reach it; give one of webhook, email, apprise"),
        ({"webhook": WEBHOOK, "apprise": "slack://x"}, "has webhook and apprise; give one"),
        ({"webhook": "file:///etc/passwd"}, "String should match pattern"),
        ({"webhook": "https://user:word@example.org/"}, "webhook has a user in its address"),
        ({"webhook": "https://example.org:port/"}, "Port could not be cast"),
        ({"webhook": WEBHOOK, "alarms": []}, "at least 1 item"),
        ({"webhook": WEBHOOK, "alarms": ["{a,b}" * 10]}, "stands for more than 500 targets"),
        ({"email": {"server": "x", "from": "a@b\nc", "to": ["a@b"]}}, "String should match pattern"),
    ],
)
def test_target_that_is_not_valid_is_refused(content, error):
    with pytest.raises(ValidationError, match=error):
        NotificationSettings.model_validate(content)


def test_alarms_are_notified_when_raised_and_cleared_and_again_after_a_restart(tmp_path):
    def alarms(clock, sent):
        return Alarms(
            "rig", {"hot": AlarmSettings(field="x", above=60)}, clock, Nothing(), None, tmp_path / "a", [sent]
        )

    class Nothing:
        def report(self, *_args, **_data):
            pass

    class Notified:
        def __init__(self):
            self.notices = []
            self.put = self.notices.append
            self.start = self.stop = self.tick = lambda: None

    first, clock = Notified(), StepClock(T)
    rig = alarms(clock, first)
    rig.add(Timeline("tl", [Field("x")]))
    for t, x in ((1, 90.0), (2, 0.0), (3, 90.0)):
        rig.on_batch(as_batch("tl", [T + t], {"x": [x]}))
    rig.shelve("hot", T + 60, None, "alice")
    rig.unshelve("hot", None, "alice")
    assert [(each.t - T, each.state) for each in first.notices] == [
        *((1, "unacknowledged"), (2, "returned"), (3, "unacknowledged"), (0, "unacknowledged")),
    ]
    second = Notified()
    again = alarms(clock, second)
    again.start()
    assert [(each.t - T, each.text) for each in second.notices] == [(3, "x is 90, above 60 (since before a restart)")]
    again.acknowledge("hot", None, "alice")
    again.stop()
    third = Notified()
    silent = alarms(clock, third)
    silent.start()
    silent.stop()
    assert third.notices == []


# Deliveries


class Hook(BaseHTTPRequestHandler):
    """A webhook that keeps what it gets, and answers with a status."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts.append((self.path, json.loads(body)))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_args):
        pass


@pytest.fixture
def hook():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.posts, server.status = [], 204
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_webhook_gets_json_and_its_secret_is_in_the_address(hook):
    settings = NotificationSettings(webhook=f"http://127.0.0.1:{hook.server_port}/hook/{{secret}}?a=b")
    assert settings.needs_secret
    send = sender(Target("shift", settings, SecretStr("s3")))
    send(digest([notice()]))
    ((path, content),) = hook.posts
    assert path == "/hook/s3?a=b"
    assert content["text"] == "error: rig hot\n2023-11-14T22:13:20.000Z error rig hot: x is 61"
    assert (content["severity"], content["more"], content["alarms"][0]["alarm"]) == ("error", 0, "hot")
    hook.status = 500
    with pytest.raises(ConnectionError, match="127.0.0.1 answers 500"):
        send(digest([notice()]))


class Mail(socketserver.StreamRequestHandler):
    """As much of SMTP as one message needs."""

    def handle(self):
        self.wfile.write(b"220 test\r\n")
        while line := self.rfile.readline():
            command = line[:4].upper()
            if command == b"DATA":
                self.wfile.write(b"354 go\r\n")
                lines = []
                while (line := self.rfile.readline()) != b".\r\n":
                    lines.append(line.decode())
                self.server.mails.append("".join(lines))
            elif command == b"RCPT":
                self.server.recipients.append(line.decode().strip()[5:])
            self.wfile.write(b"221 bye\r\n" if command == b"QUIT" else b"250 ok\r\n")
            if command == b"QUIT":
                return


def test_email_is_sent_by_smtp():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mail) as server:
        server.mails, server.recipients = [], []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        content = {"server": "127.0.0.1", "port": server.server_address[1], "security": "none"}
        email = {**content, "from": "rig@example.org", "to": ["a@example.org", "b@example.org"]}
        sender(Target("experts", NotificationSettings.model_validate({"email": email})))(digest([notice(text="61 °C")]))
        server.shutdown()
        thread.join()
    (mail,) = server.mails
    assert "Subject: error: rig hot" in mail
    assert "To: a@example.org, b@example.org" in mail
    assert server.recipients == ["TO:<a@example.org>", "TO:<b@example.org>"]


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # which apprise imports
def test_apprise_delivers_by_what_its_url_names(hook):
    settings = NotificationSettings(apprise=f"json://127.0.0.1:{hook.server_port}/{{secret}}")
    send = sender(Target("chat", settings, SecretStr("s3")))
    send(digest([notice()]))
    ((path, content),) = hook.posts
    assert (path.strip("/"), content["title"], content["type"]) == ("s3", "error: rig hot", "failure")
    hook.status = 500
    with pytest.raises(ConnectionError, match="apprise could not deliver to json"):
        send(digest([notice()]))
    with pytest.raises(ConnectionError, match="does not know the URL"):
        sender(Target("chat", NotificationSettings(apprise="nothing://x")))(digest([notice()]))


@pytest.mark.parametrize("secret", ["to ken", "tok\u00e9n", "tok\nen", "a#b"])
def test_secret_with_characters_that_no_url_has_is_encoded(hook, secret):
    settings = NotificationSettings(webhook=f"http://127.0.0.1:{hook.server_port}/hook/{{secret}}")
    sender(Target("shift", settings, SecretStr(secret)))(digest([notice()]))
    ((path, _),) = hook.posts
    assert unquote(path) == f"/hook/{secret}"


class Refusing(Mail):
    """Repeats the command that it refuses, as some servers do."""

    def handle(self):
        self.wfile.write(b"220 test\r\n")
        while line := self.rfile.readline():
            command = line[:4].upper()
            if command == b"EHLO":
                self.wfile.write(b"250-test\r\n250 AUTH LOGIN\r\n")
            elif command == b"AUTH":
                self.wfile.write(b"334 " + b64encode(b"Password:") + b"\r\n")
                password = b64decode(self.rfile.readline())
                self.wfile.write(b"535 no such user: " + password + b"\r\n")
            else:
                self.wfile.write(b"221 bye\r\n")


def test_error_of_a_target_does_not_have_its_secret():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        content = {"server": "127.0.0.1", "port": server.server_address[1], "security": "none", "user": "rig"}
        email = {**content, "from": "rig@example.org", "to": ["anna@example.org"]}
        settings = NotificationSettings.model_validate({"email": email})
        with pytest.raises(OSError, match="no such user") as caught:
            sender(Target("shift", settings, SecretStr("hush \\")))(digest([notice()]))
        server.shutdown()
        thread.join()
    assert "hush" not in str(caught.value)
    assert caught.value.__suppress_context__  # it is not in a traceback either


def test_delivery_that_does_not_end_is_an_outage_until_it_does():
    with Sent() as sent:
        went, go = threading.Event(), threading.Event()
        sent.before = lambda: (went.set(), go.wait(20.0))
        sent.put(notice())
        until(lambda: sent.clock.waited == 1.0)
        sent.clock.step(2.0)
        until(went.is_set)
        sent.notifier.tick()
        assert not sent.outages.failing("notification target shift")
        sent.clock.step(61.0)
        sent.notifier.tick()
        sent.notifier.tick()
        assert sent.outages.failing("notification target shift")
        assert sent.notifier.counters["failures"] == 1
        go.set()
        until(lambda: not sent.outages.failing("notification target shift"))
        assert sent.titles() == ["error: rig hot"]
