"""Alarms and notifications in the site file."""

import pytest

from sisock.errors import SiteError
from sisock.site import check_site, load_site

SECRETS = "server: {user: server, secret: s}\nconsumer: {user: consumer, secret: c}\n"


@pytest.fixture
def site(tmp_path):
    def write(text, secrets=SECRETS):
        path = tmp_path / "site.yaml"
        path.write_text(text)
        (tmp_path / "secrets.yaml").write_text(secrets)
        (tmp_path / "secrets.yaml").chmod(0o600)
        return path

    return write


ALARMS = """\
nodes:
  host:
    type: host
    alarms:
      cpu/busy: {field: cpu.total, above: 90, clear: 80, for: 1m, severity: error, text: "CPU at {value:.0f} %"}
      cpu/silent:
        field: cpu.total
        stale_after: 5m
"""


def test_alarms_are_below_a_node_of_any_type(site):
    alarms = load_site(site(ALARMS)).nodes["host"].alarms
    assert list(alarms) == ["cpu/busy", "cpu/silent"]
    assert (alarms["cpu/busy"].on_delay, alarms["cpu/silent"].stale_after) == (60.0, 300.0)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("cpu/busy:", "cpu busy:", ":5: nodes.host.alarms.cpu busy: 'cpu busy' is not a valid name for an alarm"),
        (
            "stale_after: 5m",
            "stale_afer: 5m",
            ":8: nodes.host.alarms.cpu/silent.stale_afer: is not a key that is known here; did you mean stale_after?",
        ),
        ("stale_after: 5m", "fo: 5m", "did you mean for"),
        ("for: 1m", "for: soon", ":5: nodes.host.alarms.cpu/busy.for: 'soon' is not a valid duration"),
        (
            "stale_after: 5m",
            "units: K",
            ":6: nodes.host.alarms.cpu/silent: an alarm has no condition; give one of above",
        ),
        ("severity: error", "severity: bad", ":5: nodes.host.alarms.cpu/busy.severity: input should be 'info'"),
    ],
)
def test_error_in_an_alarm_has_its_line_and_key(site, old, new, problem):
    with pytest.raises(SiteError) as caught:
        load_site(site(ALARMS.replace(old, new)))
    assert any(problem in each for each in caught.value.problems), caught.value.problems


NOTIFICATIONS = """\
notifications:
  shift:
    webhook: https://hooks.example.org/{secret}
    severity: error
  experts:
    email: {server: smtp.example.org, from: rig@example.org, to: [a@example.org], user: rig}
    nodes: ["camera.*"]
  log: {apprise: "json://localhost"}
nodes:
  camera.one: {type: host}
"""


def test_target_of_nodes_that_the_site_does_not_have_is_an_error(site):
    text = 'notifications:\n  a: {webhook: "http://x/", nodes: ["ho*", hots]}\nnodes: {host: {type: host}}\n'
    with pytest.raises(SiteError) as caught:
        check_site(site(text))
    (problem,) = caught.value.problems
    assert problem.endswith(":2: notifications.a.nodes: the site has no node 'hots'; did you mean host?")


def test_targets_of_a_node_come_with_their_secrets(site):
    secrets = SECRETS + "notifications: {shift: t0ken, experts: password}\n"
    found = check_site(site(NOTIFICATIONS, secrets))
    assert [target.name for target in found.targets("host")] == ["shift", "log"]
    shift, experts, log = found.targets("camera.one")
    assert (shift.secret.get_secret_value(), experts.secret.get_secret_value()) == ("t0ken", "password")
    assert log.secret is None


def test_target_without_its_secret_is_an_error_that_names_the_remedy(site):
    path = site(NOTIFICATIONS)
    with pytest.raises(SiteError) as caught:
        check_site(path)
    assert [problem.partition(": ")[2] for problem in caught.value.problems] == [
        "notification target shift has no secret; add `notifications: {shift: …}`",
        "notification target experts has no secret; add `notifications: {experts: …}`",
    ]
    with pytest.raises(SiteError, match="target shift has no secret"):
        load_site(path).targets("host")


def test_target_that_needs_apprise_is_an_error_where_it_is_not_installed(site, monkeypatch):
    monkeypatch.setattr("sisock.alarm.notify.find_spec", lambda _name: None)
    with pytest.raises(
        SiteError, match=r":2: notifications.log: apprise is not installed; pip install 'sisock\[notify\]'"
    ):
        check_site(site('notifications:\n  log: {apprise: "json://localhost"}\n'))
