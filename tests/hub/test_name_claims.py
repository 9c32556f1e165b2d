"""Who keeps a name that another session claims: the hub's decision, its calls to the router answered by the test."""

import logging
from types import SimpleNamespace

import pytest
from autobahn.wamp.exception import ApplicationError
from twisted.internet.defer import Deferred, fail, succeed

from sisock.errors import NotAllowed
from sisock_hub.hub import Hub

HOLDER, CLAIMANT = 1, 2


class Asked(Hub):
    """A hub with one node, which answers as it is given: by procedure, a value, an error or a Deferred."""

    def __init__(self, **answers):
        super().__init__()
        self.answers, self.calls, self.told = answers, [], []
        assert self.registry.add("rig", None, HOLDER, ("server", "the rig's"))

    def call(self, procedure, *args, **_kwargs):
        name = procedure.rpartition(".")[2]
        self.calls.append((name, *args))
        answer = self.answers.get(name, ApplicationError(ApplicationError.NO_SUCH_PROCEDURE))
        if isinstance(answer, Deferred):
            return answer
        return fail(answer) if isinstance(answer, Exception) else succeed(answer)

    def publish(self, topic, *args, **_kwargs):
        self.told.append((topic.rpartition(".")[2], *args))

    def claim(self, instance=None, authid="server", caller=CLAIMANT):
        outcome = []
        details = SimpleNamespace(caller=caller, caller_authid=authid)
        self._claim("rig", CLAIMANT, instance, details=details).addBoth(outcome.append)
        return outcome[0]

    def add(self, session, instance):
        outcome = []
        details = SimpleNamespace(caller=session, caller_authid="server")
        self._add("rig", None, session, instance, details=details).addBoth(outcome.append)
        return outcome[0]

    @property
    def ended(self):
        return [call for call in self.calls if call[0] in ("end_session", "kill")]


CANCELLED = ApplicationError(ApplicationError.CANCELED)


@pytest.mark.parametrize(
    "answers", [{"status": {}}, {"status": ApplicationError("some.error")}, {"get_fields": [{}, {}]}, {}]
)
def test_session_that_answers_keeps_its_name_be_it_by_an_error_or_by_the_lack_of_procedures(answers):
    hub = Asked(**answers)
    assert hub.claim("another") is False
    assert hub.ended == []
    assert hub.registry.get("rig").session == HOLDER


def test_session_whose_call_is_cancelled_has_left_and_its_name_is_free(caplog):
    hub = Asked(status=CANCELLED, end_session=True)
    with caplog.at_level(logging.WARNING):
        assert hub.claim("another") is True
    assert hub.ended == [("end_session", HOLDER)]
    assert hub.told == [("data_node_subtracted", {"name": "rig", "description": None})]
    assert [record.getMessage() for record in caplog.records] == [
        "the session of node rig is ended: it does not answer within 5 s"
    ]


def test_same_node_takes_its_name_over_without_a_probe(caplog):
    hub = Asked(status={}, end_session=True)
    with caplog.at_level(logging.WARNING):
        assert hub.claim("the rig's") is True
    assert hub.calls == [("end_session", HOLDER)]
    assert [record.getMessage() for record in caplog.records] == [
        "the session of node rig is ended: the same node has joined again"
    ]


@pytest.mark.parametrize(
    ("instance", "authid"), [("the rig's", "another account"), ("", "server"), (None, "server"), (7, "server")]
)
def test_node_is_the_same_by_its_account_and_its_id_together(instance, authid):
    hub = Asked(status={}, end_session=True)
    assert hub.claim(instance, authid) is False
    assert hub.ended == []


def test_node_without_an_id_is_nobody_elses_self():
    hub = Asked(status={}, end_session=True)
    hub.registry.subtract("rig", HOLDER)
    assert hub.claim("") is False  # nobody has it: it is free to be added, and nothing is to be ended
    assert hub.add(HOLDER, "") is True
    for instance in ("", None):
        assert hub.claim(instance) is False
    assert hub.ended == []


def test_session_that_cannot_be_ended_keeps_its_name(caplog):
    hub = Asked(status=CANCELLED)  # neither our router's procedure nor WAMP's own
    with caplog.at_level(logging.ERROR):
        assert hub.claim("another") is False
    assert hub.ended == [("end_session", HOLDER), ("kill", HOLDER)]
    assert hub.registry.get("rig").session == HOLDER
    assert caplog.records[-1].getMessage().startswith("the session of node rig cannot be ended: ")


def test_session_that_the_router_does_not_know_any_more_gives_its_name_free():
    hub = Asked(status=CANCELLED, end_session=ApplicationError("wamp.error.no_such_session"))
    assert hub.claim("another") is True
    assert hub.registry.get("rig") is None


@pytest.mark.parametrize(("caller", "message"), [(None, "does not disclose callers"), (3, "cannot act for session 2")])
def test_session_that_is_not_the_callers_or_not_disclosed_claims_nothing(caller, message):
    hub = Asked(status=CANCELLED, end_session=True)
    failure = hub.claim("another", caller=caller)
    assert failure.check(NotAllowed)
    assert message in failure.value.message
    assert hub.calls == []
