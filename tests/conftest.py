"""What all tests share."""

import itertools
import os
import subprocess
import uuid
from collections.abc import Iterator

import pytest
import txaio
from hypothesis import HealthCheck, settings

from tests.demo import RunningDemo, running_demo
from tests.disks import mounted
from tests.kafka.broker import Broker, fetched_jars, missing

# As every program of ours does by importing autobahn.twisted; a test may need a serializer before any of them.
txaio.use_twisted()

# How long examples take says nothing on a machine that does other things as well; fixtures are for all of a test's.
settings.register_profile(
    "sisock", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.load_profile("sisock")

_numbers = itertools.count()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the users of a module's fixture in one process, and those of the demo, and the long tests first.

    Each process would set up the fixture for itself, and one would wait at the end for another's long test.
    """
    for item in items:
        if "demo" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group("demo"))
        fixtures = itertools.chain.from_iterable(item._fixtureinfo.name2fixturedefs.values())  # noqa: SLF001 - of pytest
        if any(each.scope == "module" for each in fixtures) and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.module.__name__))
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture
def unique() -> str:
    """Provide a name for a node that no other test uses on the same router."""
    return f"node-{os.getpid()}-{next(_numbers)}"


@pytest.fixture(scope="session", autouse=True)
def _no_site_runs_yet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the sites that whoever runs the tests has running from being found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        yield


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the settings of whoever runs the tests out of them."""
    for name in ("WAMP_URI", "WAMP_USER", "WAMP_SECRET", "WAMP_CA", "REALM", "BASE_URI", "SISOCK_SITE"):
        monkeypatch.delenv(name, raising=False)
    roles = ("SISOCK_SERVER_", "SISOCK_CONSUMER_", "SISOCK_OPERATOR_", "SISOCK_GATEWAY_")
    for name in [n for n in os.environ if n.startswith(roles)]:
        monkeypatch.delenv(name)
    return


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDemo]:
    """Provide the demo, running as `make demo` runs it, one for all tests; they leave it as it is."""
    with running_demo(tmp_path_factory.mktemp("checkout")) as running:
        yield running


@pytest.fixture
def small(tmp_path):
    """A disk of 8 MB of its own."""
    path = tmp_path / "disk"
    path.mkdir()
    if mounted("-t", "tmpfs", "-o", "size=8m", "sisock-test", str(path)).returncode:
        if "tmpfs" in os.environ.get("SISOCK_TEST_REQUIRE", "").split(","):
            pytest.fail("SISOCK_TEST_REQUIRE asks for tmpfs, but it cannot be mounted")
        pytest.skip("a tmpfs cannot be mounted here; it takes root")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=False)


def _without_kafka(why: str) -> None:
    if "kafka" in os.environ.get("SISOCK_TEST_REQUIRE", ""):
        pytest.fail(f"SISOCK_TEST_REQUIRE asks for kafka, but {why}")
    pytest.skip(f"needs Apache Kafka: {why}")


@pytest.fixture(scope="session")
def jars(tmp_path_factory):
    """The broker's jars."""
    if why := missing():
        _without_kafka(why)
    return fetched_jars(tmp_path_factory.mktemp("jars"))


@pytest.fixture(scope="session")
def servers(request, tmp_path_factory):
    """Where a broker is that all tests share: our own, or the one that SISOCK_TEST_KAFKA names."""
    if given := os.environ.get("SISOCK_TEST_KAFKA"):
        yield given
        return
    broker = Broker(tmp_path_factory.mktemp("kafka") / "broker", request.getfixturevalue("jars"))
    try:
        broker.start()
        yield broker.servers
    finally:
        broker.stop()


@pytest.fixture
def own_broker(jars, tmp_path):
    """A broker of a test's own, which may be killed."""
    broker = Broker(tmp_path / "broker", jars)
    yield broker
    broker.stop()


@pytest.fixture
def topic():
    """The name of a topic that no other test uses."""
    return f"t-{uuid.uuid4().hex[:12]}"
