"""What all tests share."""

import itertools
import os
from collections.abc import Iterator

import pytest
import txaio

# As every program of ours does by importing autobahn.twisted; a test may need a serializer before any of them.
txaio.use_twisted()

_numbers = itertools.count()


@pytest.fixture
def unique() -> str:
    """Provide a name for a node that no other test uses on the same router."""
    return f"node-{os.getpid()}-{next(_numbers)}"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the settings of whoever runs the tests out of them."""
    for name in ("WAMP_URI", "WAMP_USER", "WAMP_SECRET", "WAMP_CA", "REALM", "BASE_URI", "SISOCK_SITE"):
        monkeypatch.delenv(name, raising=False)
    for name in [n for n in os.environ if n.startswith(("SISOCK_SERVER_", "SISOCK_CONSUMER_"))]:
        monkeypatch.delenv(name)
    return
