"""An AWS for commands that are run in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from certkeeper.sandbox.aws import AwsServer
from certkeeper.sandbox.calls import Desk
from certkeeper.sandbox.route53 import HostedZones


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsServer]:
    """An account of its own for each test, with nothing in it, which the environment leads to."""
    desk = Desk()
    with AwsServer(desk, HostedZones()) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server
    desk.stop()
