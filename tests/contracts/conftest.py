"""The sandbox's AWS and DNS for the contract suites, one set per module, with a clock that the tests turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import boto3
import pytest
from botocore.config import Config

from certkeeper.sandbox.aws import AwsServer
from certkeeper.sandbox.calls import Desk
from certkeeper.sandbox.dns_server import DnsServer
from certkeeper.sandbox.route53 import HostedZones
from certkeeper.sandbox.tls import TestTls
from tests.fakes import FakeClock

BUCKET = "certkeeper-sandbox"
ClientOf = Callable[..., Any]


@dataclass
class ZonesClock:
    """The clock of the hosted zones; each test puts its own in."""

    clock: FakeClock

    def __call__(self) -> float:
        return self.clock.now().timestamp()


@pytest.fixture(scope="module")
def tls() -> Iterator[TestTls]:
    tls = TestTls()
    yield tls
    tls.close()


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.stop()


@pytest.fixture(scope="module")
def zones_clock() -> ZonesClock:
    return ZonesClock(FakeClock())


@pytest.fixture(scope="module")
def hosted_zones(zones_clock: ZonesClock) -> HostedZones:
    return HostedZones(now=zones_clock)


@pytest.fixture(scope="module")
def server(desk: Desk, hosted_zones: HostedZones) -> Iterator[AwsServer]:
    with AwsServer(desk, hosted_zones) as running:
        yield running


@pytest.fixture
def signed_in(server: AwsServer, monkeypatch: pytest.MonkeyPatch) -> AwsServer:
    """The sandbox's AWS, which the environment leads to."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture(scope="module")
def name_server(desk: Desk, hosted_zones: HostedZones) -> Iterator[DnsServer]:
    with DnsServer(hosted_zones, desk) as running:
        yield running


@pytest.fixture(scope="module")
def client_of(server: AwsServer) -> Iterator[ClientOf]:
    """Makes clients of the sandbox; `attempts` counts the first one, `patience` is in seconds."""
    made: list[Any] = []

    def client(service: str, attempts: int = 1, patience: float = 10.0) -> Any:
        client = boto3.session.Session().client(
            service,  # type: ignore[call-overload] # any service
            endpoint_url=server.url,
            region_name=server.region,
            aws_access_key_id="AKIATEST",
            aws_secret_access_key="test",
            config=Config(
                retries={"mode": "standard", "total_max_attempts": attempts},
                connect_timeout=patience,
                read_timeout=patience,
            ),
        )
        made.append(client)
        return client

    yield client
    for one in made:
        one.close()


@pytest.fixture
def aws(server: AwsServer) -> AwsServer:
    server.reset()
    server.create_bucket(BUCKET)
    return server


@pytest.fixture
def clock(zones_clock: ZonesClock) -> FakeClock:
    """A fresh clock that goes on where the last test's stopped, so that time never goes back in the zones."""
    zones_clock.clock = FakeClock(zones_clock.clock.now() + timedelta(seconds=1))
    return zones_clock.clock
