"""Programs of others that the gateway is tried with."""

import os
import shutil

import pytest


@pytest.fixture(scope="session")
def program():
    """Return where a program is; skip, or fail where SISOCK_TEST_REQUIRE names promtool, when it is missing."""

    def found(name):
        if path := shutil.which(name):
            return path
        why = f"{name} is not installed; it is in Debian's package prometheus"
        if "promtool" in os.environ.get("SISOCK_TEST_REQUIRE", "").split(","):
            pytest.fail(f"SISOCK_TEST_REQUIRE asks for promtool, but {why}")
        pytest.skip(f"needs {name}: {why}")

    return found
