"""The console's part that does work, in a real browser: procedures by kind, runs, alarms, events."""

import re
import time
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel
from twisted.internet.defer import inlineCallbacks

from sisock import DataNodeServer
from sisock.alarm.settings import AlarmSettings
from sisock.fields import Field, Timeline
from sisock.node import Node, open_node
from sisock.procedure import Caller, Command, Operation, Query
from sisock.settings import HistorySettings
from sisock.site import load_site
from sisock.testing import ManualSource
from sisock.testing.serving import Serving
from tests.site.gateway import gateway_of, wait
from tests.site.pages import VIOLATIONS, touch, until
from tests.site.test_gateway import SECRETS

pytestmark = pytest.mark.xdist_group("console")
DEMO = Path(__file__).parents[2] / "examples" / "demo"
TOO_HOT = {"field": "temperature", "above": 35, "severity": "error", "text": "The motor is hot"}
MARIA = Caller("maria", "operator")
# The node of the page has stopped, or a command is refused.
REFUSED = ["502 (Bad Gateway)", "503 (Service Unavailable)", "404 (Not Found)"]


class _To(BaseModel):
    position: float


class _Scan(BaseModel):
    points: int = 3


class Motor(ManualSource):
    """A motor that becomes hot when it scans."""

    def __init__(self):
        fields = [Field("position", units="mm"), Field("temperature", units="°C")]
        super().__init__(Timeline("motor", fields, 0.1, lateness_s=0.5))
        self.calls = []
        self.procedures = [
            Operation("scan", "Measure at points of a range.", _Scan, None, self.scan),
            Operation("calibrate", "Find the switch.", None, None, self.calibrate),
            Command("move", "Move to a position.", _To, None, lambda to: self.calls.append(to.position)),
            Command(
                "erase", "Erase the calibration.", None, None, lambda: self.calls.append("erase"), destructive=True
            ),
            Query("where", "Return the position.", None, None, lambda: {"position": 12.5}),
        ]

    def scan(self, wanted, context):
        for number in range(wanted.points):
            self.measure(number, 30.0 + 10.0 * number)
            context.update({"position": number})
            context.progress((number + 1) / wanted.points, f"at {number} mm")
            if number == 1 and wanted.points > 10:
                context.cancelled.wait()
                context.checkpoint()
        return {"peak": 7.25}

    def calibrate(self, context):
        raise ValueError("the switch is not connected")

    def measure(self, position, temperature):
        self.emit("motor", [time.time()], {"position": np.array([position], float), "temperature": [temperature]})


@pytest.fixture
def motor(sisock_router, unique):
    source = Motor()
    alarms = {"too_hot": AlarmSettings.model_validate(TOO_HOT)}
    node = Node(unique, "a motor", [source], HistorySettings(keep=1e6), alarms=alarms)
    serving = Serving(sisock_router.access("server"))
    serving.serve(node)
    source.name, source.node = unique, node
    yield source
    serving.stop()


def run_of(page, name):
    return page.locator(".run").filter(has=page.locator("strong", has_text=name)).first


def alarm_of(page, node):
    return page.locator(f'.alarm[data-alarm="{node} too_hot"]')


@pytest.fixture
def example(sisock_router, unique):
    """The motor of the demo, which becomes hot when it scans, as its site file describes it."""
    described = load_site(DEMO).nodes["motor"]
    settings = described.model_copy(update={"history": HistorySettings(keep=1e6)})
    node = open_node(unique, settings)
    serving = Serving(sisock_router.access("server"))
    serving.serve(node)
    yield node
    serving.stop()


def test_person_runs_a_scan_watches_and_cancels_it_and_acknowledges_its_alarm(console, example, opened):
    page = opened(f"{console.url}/#node={example.name}&plot={example.name}::temperature", expects=REFUSED)
    alarm = page.locator(f'.alarm[data-alarm="{example.name} motor/hot"]')
    alarm.get_by_text("normal").wait_for()
    page.get_by_text("Measure at points of a range.").click()
    form = page.locator('form[data-procedure="scan"]')
    form.get_by_label("points").fill("500")
    form.locator("button.primary").click()
    run = run_of(page, "scan")
    bar = run.locator("progress")
    bar.wait_for()
    until(page, lambda: float(bar.get_attribute("value") or 0.0) >= 0.002)
    seen = float(bar.get_attribute("value"))
    until(page, lambda: float(bar.get_attribute("value")) > seen)
    run.locator(".updates").get_by_text(
        re.compile(r"position: \d+, signal")
    ).first.wait_for()  # the newest five are shown
    assert "mm" in run.locator(".message").inner_text()
    assert page.evaluate("() => document.activeElement.classList.contains('run')")
    # Its temperature raises an alarm, of which the plot has the limit.
    page.locator("#alarm-banner").get_by_text("1 error").wait_for()
    page.wait_for_function("() => document.getElementById('plot').layout?.shapes.some(({ name }) => name === 'limit')")
    run.get_by_role("button", name="Cancel").click()
    run.get_by_text("cancelled by").wait_for()
    assert run.get_attribute("data-state") == "cancelled"
    assert bar.is_hidden()
    events = page.locator("#events-section .event")
    events.filter(has_text="scan cancelled by").wait_for()
    events.filter(has_text="started scan").wait_for()
    events.filter(has_text="the motor has").wait_for()
    page.get_by_label("Severity of events").select_option("error")
    events.filter(has_text="started scan").wait_for(state="detached")
    events.filter(has_text="the motor has").locator("summary").click()
    events.locator("dl").get_by_text("temperature").wait_for()
    page.get_by_label("Severity of events").select_option("info")
    page.get_by_role("button", name="Show alarms").click()
    assert "the motor has" in alarm.inner_text()
    assert "temperature above 40 °C" in alarm.inner_text()
    alarm.get_by_role("button", name="Acknowledge").click()
    alarm.get_by_label("Comment").fill("it cools down")
    page.keyboard.press("Enter")
    events.filter(has_text="it cools down").first.wait_for()  # live
    # It is acknowledged, or normal where the motor has cooled down meanwhile.
    until(page, lambda: alarm.get_attribute("data-state") in ("acknowledged", "normal"))
    page.locator("#alarm-banner").get_by_text("1 error").wait_for(state="hidden")
    alarm.get_by_role("button", name="Shelve").click()
    alarm.get_by_label("For").select_option("8 h")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    until(page, lambda: alarm.get_attribute("data-state") == "shelved")
    page.locator("#alarm-banner").wait_for(state="hidden")
    (row,) = example.alarms.list()
    assert row["until"] > time.time() + 28_000
    alarm.get_by_role("button", name="Unshelve").click()
    page.keyboard.press("Enter")
    until(page, lambda: alarm.get_attribute("data-state") in ("unacknowledged", "normal"))


def test_operator_defines_suppresses_and_deletes_an_alarm(console, motor, opened):
    page = opened(f"{console.url}/#node={motor.name}", expects=[*REFUSED, "400 (Bad Request)"])
    page.get_by_text(f"New alarm of {motor.name}").click()
    form = page.locator("#alarms-section form")
    form.get_by_label("Name").fill("drive/far")
    form.get_by_label("Field").fill("position")
    form.get_by_label("Limit").fill("80")
    form.get_by_label("Clear at").fill("90")
    form.get_by_role("button", name="Define").click()
    page.locator("#alarms-section details .error").get_by_text("clear (90) must not be above the limit").wait_for()
    form.get_by_label("Clear at").fill("70")
    form.get_by_label("Delay").fill("5 s")
    form.get_by_label("Severity").select_option("critical")
    form.get_by_role("button", name="Define").click()
    alarm = page.locator(f"[data-alarm='{motor.name} drive/far']")
    alarm.get_by_text("position").wait_for()
    (defined,) = motor.node.alarms.list("drive/far")
    assert defined["definition"] == {
        "field": "position",
        "above": 80.0,
        "clear": 70.0,
        "for": 5.0,
        "severity": "critical",
    }
    alarm.get_by_role("button", name="Suppress").click()
    alarm.get_by_label("For").select_option("1 d")
    alarm.get_by_label("Comment").fill("under repair")
    page.keyboard.press("Enter")
    until(page, lambda: alarm.get_attribute("data-state") == "suppressed")
    assert motor.node.alarms.list("drive/far")[0]["comment"] == "under repair"
    delete = alarm.get_by_role("button", name="Delete")
    delete.click()
    assert motor.node.alarms.list("drive/far")  # it asks first
    delete.click()
    alarm.wait_for(state="detached")
    assert motor.node.alarms.list("drive/far") == []


def test_forms_are_by_kind_and_destructive_commands_ask_first(console, motor, opened):
    page = opened(f"{console.url}/#node={motor.name}", expects=[*REFUSED, "400 (Bad Request)"])
    page.locator("#control-section h3", has_text="Queries").wait_for()
    assert page.locator("#control-section h3:visible").all_inner_texts() == ["Operations", "Commands", "Queries"]
    page.get_by_role("button", name="where").click()
    page.locator(".answer dl").get_by_text("12.5").wait_for()
    erase = page.locator(".buttons button", has_text="erase")
    page.locator(".buttons").get_by_text("Erase the calibration.").wait_for()  # also where no pointer shows a title
    erase.click()
    assert erase.inner_text() == "Confirm: erase"
    page.get_by_role("button", name="where").click()  # which is no confirmation
    assert erase.inner_text() == "erase"
    page.get_by_text("Move to a position.").click()
    form = page.locator('form[data-procedure="move"]')
    form.get_by_label("position").fill("3.5")
    page.keyboard.press("Enter")
    until(page, lambda: motor.calls == [3.5])
    erase.click()
    erase.click()
    until(page, lambda: motor.calls == [3.5, "erase"])
    # An operation that is done shows its result, and one that failed its error, also when the page is opened later.
    page.get_by_role("button", name="calibrate").click()
    run_of(page, "calibrate").get_by_text("the switch is not connected").wait_for()
    page.get_by_text("Measure at points of a range.").click()
    page.locator('form[data-procedure="scan"] button.primary').click()
    run_of(page, "scan").locator("dl").get_by_text("7.25").wait_for()
    # What is offered meanwhile appears, and keeps what was typed.
    form.get_by_label("position").fill("99")
    motor.node.work.offer(Command("brake", "Stop at once.", None, None, lambda: None)).result(60)
    page.get_by_role("button", name="brake").wait_for()
    assert form.get_by_label("position").input_value() == "99"
    motor.node.work.withdraw("erase").result(60)
    erase.wait_for(state="detached")
    page.reload()
    assert run_of(page, "calibrate").get_attribute("data-state") == "failed"
    scan = run_of(page, "scan")
    scan.get_by_text("Arguments and result").click()
    scan.locator("dl").get_by_text("7.25").wait_for()


def test_consumer_sees_runs_alarms_and_events_and_no_buttons(sisock_router, motor, opened):
    motor.node.work.operations.start(motor.procedures[0], {"points": 20}, MARIA)
    with gateway_of(sisock_router.site, SECRETS, operator=True) as gateway:
        wait(lambda: gateway.get("/readyz").status_code == 200)
        page = opened(gateway.url, expects=["401 (Unauthorized)", *REFUSED])
        page.get_by_label("User").fill("paul")
        page.get_by_label("Password").fill("battery staple")
        page.locator("#login-form button").click()
        page.locator(f'li[data-node="{motor.name}"] > button').click()
        run_of(page, "scan").locator("progress").wait_for()
        alarm_of(page, motor.name).wait_for()
        page.locator("#events-section .event", has_text="The motor is hot").wait_for()
        page.get_by_role("button", name="where").click()  # a query is for consumers as well
        page.locator(".answer dl").get_by_text("12.5").wait_for()
        assert page.locator("#control-section h3:visible").all_inner_texts() == ["Runs", "Queries"]
        assert page.locator(".run button, .alarm button").count() == 0
        assert "paul is not an operator" in page.locator("#control-section .notice").inner_text()
        page.close()  # before the gateway stops


class Old(DataNodeServer):
    """A node of an older version, which reports neither kinds nor a revision, and registers its commands itself."""

    commands = ()

    @inlineCallbacks
    def onJoin(self, details):
        for command, _ in self.commands:
            yield self.register(command, self.uri(f"control.{self.name}.{command.__name__}"))
        yield super().onJoin(details)

    def get_fields(self, start, end):
        return {}, {}

    def get_data(self, field, start, end, min_stride=None):
        return {"data": {}, "timeline": {}}

    def procedures(self):
        return [
            {"name": command.__name__, "description": command.__doc__, "parameters": parameters}
            for command, parameters in self.commands
        ]

    def status(self):
        return {"name": self.name}


def test_node_of_an_older_version_keeps_its_forms_and_asks_before_each_call(console, sisock_router, unique, opened):
    serving = Serving(sisock_router.access("server"))
    calls = []

    def restart():
        """Restart it."""
        calls.append("restart")
        return "restarted"

    def move(position):
        """Move to a position."""
        return position

    commands = [(restart, {"type": "object", "properties": {}}), (move, _To.model_json_schema())]
    serving.serve(type("TheOld", (Old,), {"name": unique, "commands": commands}))
    try:
        page = opened(f"{console.url}/#node={unique}", expects=REFUSED)
        restart = page.locator(".buttons button", has_text="restart")
        restart.click()
        assert calls == []
        restart.click()
        page.locator(".answer").get_by_text("restarted").wait_for()
        page.get_by_text("Move to a position.").click()
        page.locator('form[data-procedure="move"]').get_by_label("position").fill("8.25")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Confirm: move").click()
        page.locator('form[data-procedure="move"] .answer').get_by_text("8.25").wait_for()
    finally:
        serving.stop()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_axe_finds_no_violation_among_runs_alarms_and_events(console, motor, axe, opened, width, scheme):
    how = {"color_scheme": scheme} if width > 1000 else touch(width, 844, color_scheme=scheme)
    motor.node.work.operations.start(motor.procedures[1], {}, MARIA)
    motor.node.work.operations.start(motor.procedures[0], {"points": 20}, MARIA)
    page = opened(f"{console.url}/#node={motor.name}", **how, expects=REFUSED)
    found = {}
    for pane in ("control", "alarms", "events"):
        if width < 1000:
            page.locator(f'nav button[data-to="{pane}"]').tap()
        if pane == "control":
            run_of(page, "scan").locator("progress").wait_for()
            run_of(page, "calibrate").get_by_text("Arguments and result").click()
        elif pane == "events":
            page.locator("#events-section .event", has_text="The motor is hot").locator("summary").click()
        else:
            alarm_of(page, motor.name).get_by_role("button", name="Shelve").click()
            alarm_of(page, motor.name).get_by_label("Comment").wait_for()
        page.evaluate(axe)
        found[pane] = page.evaluate(VIOLATIONS)
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), pane
    assert found == {pane: [] for pane in found}
    small = "() => [...document.querySelectorAll('button')].filter((b) => b.offsetParent && b.offsetHeight < 40).map((b) => b.textContent)"
    assert width > 1000 or page.evaluate(small) == []
