"""Control procedures: described, checked, and for operators only."""

import queue
from dataclasses import replace

import pytest
from pydantic import BaseModel, ConfigDict, Field, create_model

from sisock import DataNodeServer
from sisock.consumer import BlockingConsumer, in_reactor
from sisock.errors import BadRequest, NodeFailed, NoSuchNode, NotAllowed, SiteError, TooLarge
from sisock.procedure import Command
from tests.site.links import called, opened_link

# What no message can carry: integers of more than 64 bits, lone surrogates, what has no form, more than the limit.
UNSPEAKABLE = {4: 2**70, 5: "\ud800", 6: object(), 7: "x" * 20_000_000}


class Gain(BaseModel):
    """How much."""

    model_config = ConfigDict(extra="forbid")
    gain: float = Field(ge=0, le=10)
    channel: int = 0


@pytest.fixture
def amplifier(sisock_serve, unique):
    done = []

    def set_gain(gain):
        if gain.channel == 9:
            raise RuntimeError("it smokes")
        if gain.channel == 8:
            raise BadRequest("it says \ud800")  # which the log does not repeat: pytest could not report it
        if gain.channel in UNSPEAKABLE:
            return UNSPEAKABLE[gain.channel]
        done.append((gain.gain, gain.channel))
        return {"gain": gain.gain}

    class Amplifier(DataNodeServer):
        name = unique
        control = (Command("set_gain", "Set the gain.", Gain, None, set_gain),)

        def get_fields_blocking(self, start, end):
            return {}, {}

    sisock_serve(Amplifier)
    return unique, done


def test_operator_calls_and_bad_arguments_are_told(amplifier, sisock_router):
    name, done = amplifier
    with BlockingConsumer(sisock_router.access("operator")) as operator:
        assert operator.call(name, "set_gain", gain=2) == {"gain": 2.0}
        assert done == [(2.0, 0)]
        for arguments, message in [
            ({}, "set_gain: gain: is missing"),
            ({"gain": 11}, "gain: Input should be less than or equal to 10"),
            ({"gain": 1, "chanel": 2}, "chanel: is not known"),
            ({"gain": "much", "channel": "x"}, "gain: .*; channel: "),
        ]:
            with pytest.raises(BadRequest, match=message):
                operator.call(name, "set_gain", **arguments)
        with pytest.raises(NodeFailed, match="it smokes"):
            operator.call(name, "set_gain", gain=1, channel=9)
        with pytest.raises(BadRequest, match="no control procedure 'explode'; it has: set_gain"):
            operator.call(name, "explode")
        with pytest.raises(NoSuchNode, match="no node 'nobody'"):
            operator.call("nobody", "set_gain", gain=1)
        (described,) = operator.procedures(name)
    assert done == [(2.0, 0)]
    assert (described["name"], described["description"]) == ("set_gain", "Set the gain.")
    assert described["parameters"]["properties"]["gain"] == {
        "maximum": 10,
        "minimum": 0,
        "title": "Gain",
        "type": "number",
    }
    assert described["parameters"]["required"] == ["gain"]


@pytest.mark.parametrize(
    "url", ["unix:{site.socket_path}", "ws://127.0.0.1:{site.router.port}/ws"], ids=["RawSocket", "WebSocket"]
)
def test_what_no_message_can_carry_is_told_at_once(amplifier, sisock_router, url):
    name, done = amplifier
    access = replace(sisock_router.access("operator"), url=url.format(site=sisock_router.site))
    with BlockingConsumer(access) as operator:
        for value in UNSPEAKABLE.values():
            with pytest.raises(BadRequest, match=rf"arguments of control\.{name}\.set_gain cannot be sent: "):
                operator.call(name, "set_gain", gain=value)
        for channel in (*UNSPEAKABLE, 8):
            too_large = channel == 7
            text = "return less" if too_large else f"'{name}' has an answer that cannot be sent: "
            with pytest.raises(TooLarge if too_large else NodeFailed, match=text):
                operator.call(name, "set_gain", gain=1, channel=channel)
        assert operator.call(name, "set_gain", gain=3) == {"gain": 3.0}
    assert done == [(3.0, 0)]


def test_arguments_that_would_end_the_session_of_a_node_or_the_hub_are_refused(amplifier, sisock_router):
    name, _ = amplifier
    with BlockingConsumer(sisock_router.access("operator")) as operator:
        for procedure in (
            *(f"consumer.{name}.{each}" for each in ("get_data", "get_fields", "status", "procedures")),
            *(f"control.{name}.set_gain", "consumer.get_data_node"),
        ):
            for taken in ("f", "fun"):
                with pytest.raises(BadRequest, match=f"an argument cannot be called '{taken}'"):
                    called(sisock_router.access("operator"), procedure, arguments={taken: 1})
        with pytest.raises(BadRequest, match="an argument cannot be called 'self'"):
            operator.call(name, "set_gain", self=1)
        assert operator.call(name, "set_gain", gain=4) == {"gain": 4.0}
    with pytest.raises(BadRequest, match="tune: a parameter cannot be called 'f'"):
        Command("tune", "Tune.", create_model("Tune", f=float), None, print)


def test_event_with_arguments_that_would_end_a_session_is_taken_without_them(sisock_router, unique):
    heard = queue.Queue()
    topic = f"consumer.{unique}.feed.tl"
    with (
        opened_link(sisock_router.access()) as consumer,
        opened_link(sisock_router.access("server")) as server,
    ):
        in_reactor(lambda: consumer.subscribe(topic, heard.put)).result(15.0)
        session = in_reactor(server.session).result(15.0)
        for i in range(2):
            in_reactor(lambda: session.publish(session.uri(topic), i, f=1, fun=2)).result(15.0)  # noqa: B023
        assert [heard.get(timeout=60.0), heard.get(timeout=60.0)] == [0, 1]


def test_consumer_may_not(amplifier, sisock_router):
    name, done = amplifier
    with BlockingConsumer(sisock_router.access("consumer")) as consumer:
        assert [each["name"] for each in consumer.procedures(name)] == ["set_gain"]
        with pytest.raises(
            NotAllowed,
            match=r"""'consumer' may not call .*; log in .*: BlockingConsumer\(role="operator"\) .*env --role operator""",
        ):
            consumer.call(name, "set_gain", gain=1)
    assert done == []


def test_call_as_the_consumer_of_the_environment_is_told_what_decides_that(amplifier, sisock_router, monkeypatch):
    access = sisock_router.access("consumer")
    for variable, value in {"URI": access.url, "USER": access.user, "SECRET": access.secret}.items():
        monkeypatch.setenv(f"WAMP_{variable}", value)
    monkeypatch.setenv("REALM", access.realm)
    monkeypatch.setenv("BASE_URI", access.base_uri)
    with (
        BlockingConsumer() as consumer,
        pytest.raises(NotAllowed, match="may not call .*; WAMP_USER in .* decides .*`sisock env --role operator`"),
    ):
        consumer.call(amplifier[0], "set_gain", gain=1)


def test_operator_may_not_serve(sisock_router, unique):
    from sisock.testing.serving import Serving

    class Node(DataNodeServer):
        name = unique

    with pytest.raises(NotAllowed, match="'operator' may not serve nodes"):
        Serving(sisock_router.access("operator")).serve(Node)


def test_site_without_an_operator_says_what_to_add(tmp_path):
    from sisock.site import load_site

    (tmp_path / "site.yaml").write_text("{}")
    secrets = tmp_path / "secrets.yaml"
    secrets.write_text("server: {user: a, secret: one}\nconsumer: {user: b, secret: two}\n")
    secrets.chmod(0o600)
    site = load_site(tmp_path)
    assert site.access("consumer").user == "b"
    with pytest.raises(SiteError, match="has no account `operator`; add one"):
        site.access("operator")
    secrets.write_text("server: {user: a, secret: one}\nconsumer: {user: a, secret: two}\n")
    with pytest.raises(SiteError, match="two roles have the user 'a'"):
        load_site(tmp_path).access("consumer")
