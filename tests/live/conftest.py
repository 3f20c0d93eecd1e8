"""One sandbox a module: moto's state is the process's, so there can be only one at a time.

CERTKEEPER_LIVE_CA=Caddy runs on Caddy's ACME server whatever does not say that it needs another one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from certkeeper.sandbox.stack import Sandbox
from tests.live.operators import Operator

LIVE_CA = os.environ.get("CERTKEEPER_LIVE_CA", "")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [one for one in items if one.get_closest_marker("pebble") and ca_of(one) == "Caddy"]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [one for one in items if one not in left_out]


def ca_of(item: pytest.Item) -> str:
    """The CA that a test runs on, where one is given to it; see BOTH_CAS."""
    given = getattr(item, "callspec", None)
    ca: str = given.params.get("sandbox", LIVE_CA) if given else LIVE_CA
    return ca


@pytest.fixture(scope="module", name="sandbox")
def _sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    ca = getattr(request, "param", LIVE_CA)
    with Sandbox(caddy=ca == "Caddy") as sandbox:
        yield sandbox


@pytest.fixture(name="operator")
def _operator(sandbox: Sandbox) -> Iterator[Operator]:
    with Operator(sandbox) as operator:
        yield operator
