"""What the tests of whole sites share."""

import pytest

from tests.site.gateway import gateway_of, wait


@pytest.fixture(scope="module")
def gateway(sisock_router):
    """Provide the gateway of the router that all tests share."""
    with gateway_of(sisock_router.site) as gateway:
        wait(lambda: gateway.get("/readyz").status_code == 200)
        yield gateway
