"""The gateway's API, tried out along its OpenAPI description: nothing that is asked makes it fail."""

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from sisock.fields import Field, Timeline
from sisock.node import Node
from sisock.testing import ManualSource
from tests.site.gateway import gateway_of, wait

CHECKS = (not_a_server_error, status_code_conformance, response_schema_conformance)


def test_nothing_that_is_asked_makes_it_fail(sisock_router, sisock_serve):
    sisock_serve(Node("0", None, [ManualSource(Timeline("tl", [Field("x")]))]))  # a name that is tried out
    tried = []
    with gateway_of(sisock_router.site, operator=True) as gateway:
        wait(lambda: gateway.get("/readyz").status_code == 200)
        schema = schemathesis.openapi.from_url(gateway.url + "/api/openapi.json")
        # Streams do not end by themselves.
        for operation in (found.ok() for found in schema.exclude(path_regex="live").get_all_operations()):

            @settings(
                max_examples=25,
                derandomize=True,
                database=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.nested_given],
            )
            @given(case=operation.as_strategy())
            def ask(case):
                case.call_and_validate(checks=CHECKS, timeout=30)

            ask()
            tried.append(operation.label)
        assert gateway.get("/readyz").status_code == 200
    assert {"GET /api/v1/nodes/{node}/data", "POST /api/v1/nodes/{node}/procedures/{procedure}"} <= set(tried)
