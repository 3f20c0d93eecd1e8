"""One sandbox a module: moto's state is the process's, so there can be only one at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from certkeeper.sandbox.stack import Sandbox
from tests.live.operators import Operator


@pytest.fixture(scope="module", name="sandbox")
def _sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with Sandbox(caddy=getattr(request, "param", "") == "Caddy") as sandbox:
        yield sandbox


@pytest.fixture(name="operator")
def _operator(sandbox: Sandbox) -> Iterator[Operator]:
    with Operator(sandbox) as operator:
        yield operator
