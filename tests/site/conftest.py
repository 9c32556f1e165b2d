"""What the tests of whole sites share."""

import os
import shutil
import signal
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from sisock.consumer import BlockingConsumer
from sisock.testing.fixtures import RunningRouter
from tests.npm import installed
from tests.site.gateway import gateway_of, wait
from tests.site.pages import WAIT_MS

HANGS = """
import sys

from twisted.internet.defer import inlineCallbacks

import sisock


class node(sisock.DataNodeServer):
    name = sys.argv[1]

    @inlineCallbacks
    def onJoin(self, details):
        yield self.register(lambda: "done", self.uri(f"control.{self.name}.restart"))
        yield super().onJoin(details)

    def get_fields(self, start, end):
        return {"x": {"type": "number", "timeline": "tl"}}, {"tl": {"interval": 1.0, "field": ["x"]}}

    def get_data(self, field, start, end, min_stride=None):
        return {"data": {"x": [1.0]}, "timeline": {"tl": {"t": [1.0], "finalized_until": None}}}


sisock.run(node)
"""


@pytest.fixture(scope="module")
def gateway(sisock_router):
    """Provide the gateway of the router that all tests share."""
    with gateway_of(sisock_router.site) as gateway:
        wait(lambda: gateway.get("/readyz").status_code == 200)
        yield gateway


@pytest.fixture(scope="session")
def _mortal(tmp_path_factory):
    router = RunningRouter(tmp_path_factory.mktemp("mortal"))
    try:
        yield router
    finally:
        router.stop()


@pytest.fixture
def mortal_router(_mortal):
    """Provide a router and a hub that a test may kill or freeze, and has to itself; what was killed runs again."""
    if missing := [part for part in ("router", "hub") if part not in _mortal.processes]:
        _mortal.start(*missing)
    return _mortal


@pytest.fixture
def hung(sisock_router, unique):
    """A node in a process of its own that is frozen once the hub knows it."""
    access = sisock_router.access("server")
    environment = {**os.environ, "WAMP_URI": access.url, "WAMP_USER": access.user, "WAMP_SECRET": access.secret}
    process = subprocess.Popen([sys.executable, "-c", HANGS, unique], env=environment)
    try:
        with BlockingConsumer(sisock_router.access()) as consumer:
            wait(lambda: unique in [info.name for info in consumer.nodes()])
            consumer.fields(unique)
        process.send_signal(signal.SIGSTOP)
        process.name = unique
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium."""
    path = shutil.which("chromium")
    if path is None:
        if "chromium" in os.environ.get("SISOCK_TEST_REQUIRE", "").split(","):
            pytest.fail("SISOCK_TEST_REQUIRE asks for chromium, but it is not installed")
        pytest.skip("needs a browser: Debian's package chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def console(sisock_router):
    """A gateway whose clients may call commands."""
    with gateway_of(sisock_router.site, operator=True) as gateway:
        wait(lambda: gateway.get("/readyz").status_code == 200)
        yield gateway


@pytest.fixture
def opened(browser):
    """A function that opens a page. At the end, the page has logged no error and has loaded nothing from other hosts."""
    contexts, errors, asked, expected, failed = [], [], [], [], []

    def open_page(url, expects=(), **how):
        how = {"viewport": {"width": 1280, "height": 900}, "timezone_id": "Europe/Berlin", **how}
        context = browser.new_context(**how)
        contexts.append(context)
        expected.extend(expects)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on(
            "console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.on(
            "response",
            lambda response: failed.append(f"{response.status} {response.url}") if response.status >= 500 else None,
        )
        page.asked = asked
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    unexpected = [text for text in errors if not any(each in text for each in expected)]
    assert unexpected == [], failed
    assert {urlsplit(url).hostname for url in asked if not url.startswith(("data:", "blob:"))} <= {"127.0.0.1"}


@pytest.fixture(scope="session")
def axe(tmp_path_factory):
    """The source of npm's axe-core, which finds violations of accessibility."""
    folder = installed("axe", tmp_path_factory.mktemp("axe"))
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text()
