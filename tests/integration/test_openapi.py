"""The whole OpenAPI document against a running service: whatever is sent, the answer is one that it promises."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from app.main import create_app
from app.settings import Settings
from stream_jobs.local.endpoints import Endpoints
from tests.services import Api, running_service

EXAMPLES = 20
CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance]

_DOCUMENT = schemathesis.openapi.from_dict(create_app(Settings()).openapi())
OPERATIONS = {operation.label: operation for operation in (found.ok() for found in _DOCUMENT.get_all_operations())}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, endpoints: Endpoints) -> Iterator[str]:
    """A service that knows the stack's cluster; invented addresses are given up soon."""
    with running_service(tmp_path_factory.mktemp("service"), HLINK_FLINK_TIMEOUT_S="1") as service:
        Api(service.url, endpoints).cluster()
        yield service.url


@pytest.mark.parametrize("label", OPERATIONS)
def test_every_answer_is_one_that_the_document_promises(url: str, label: str) -> None:
    @given(case=OPERATIONS[label].as_strategy())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def hold(case: schemathesis.Case) -> None:
        case.call_and_validate(base_url=url, checks=CHECKS, timeout=60)

    hold()
