from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from botocore.utils import InstanceMetadataFetcher, InstanceMetadataRegionFetcher

from certkeeper.sandbox.calls import Desk, Fault
from certkeeper.sandbox.imds import InstanceMetadata, RoleCredentials

TTL = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
ROLES = "/latest/meta-data/iam/security-credentials/"
START = datetime(2026, 10, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.seconds = START.timestamp()

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def imds(desk: Desk, clock: Clock) -> Iterator[InstanceMetadata]:
    with InstanceMetadata(desk, RoleCredentials("ASIAROLE", "hush", "session"), role="web", now=clock) as running:
        yield running


@pytest.fixture
def connection(imds: InstanceMetadata) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(imds.url.removeprefix("http://"), timeout=5)
    yield connection
    connection.close()


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, headers: dict[str, str] | None = None
) -> tuple[int, str]:
    connection.request(method, path, headers=headers or {})
    response = connection.getresponse()
    return response.status, response.read().decode()


def session(connection: http.client.HTTPConnection) -> dict[str, str]:
    status, imds_token = ask(connection, "PUT", "/latest/api/token", TTL)
    assert status == 200
    return {"X-aws-ec2-metadata-token": imds_token}


@pytest.mark.parametrize(
    "headers", [{}, {"X-aws-ec2-metadata-token-ttl-seconds": "0"}, {"X-aws-ec2-metadata-token-ttl-seconds": "21601"}]
)
def test_a_token_needs_a_ttl(connection: http.client.HTTPConnection, headers: dict[str, str]) -> None:
    assert ask(connection, "PUT", "/latest/api/token", headers)[0] == 400


def test_no_token_for_a_request_through_a_proxy(connection: http.client.HTTPConnection) -> None:
    assert ask(connection, "PUT", "/latest/api/token", TTL | {"X-Forwarded-For": "192.0.2.1"})[0] == 403


def test_nothing_is_read_without_a_token_or_with_a_wrong_or_old_one(
    connection: http.client.HTTPConnection, clock: Clock
) -> None:
    headers = session(connection)

    assert ask(connection, "GET", ROLES)[0] == 401
    assert ask(connection, "GET", ROLES, {"X-aws-ec2-metadata-token": "guess"})[0] == 401
    assert ask(connection, "GET", ROLES, headers)[0] == 200
    clock.seconds += 60
    assert ask(connection, "GET", ROLES, headers)[0] == 401


def test_the_role_and_its_credentials(connection: http.client.HTTPConnection) -> None:
    headers = session(connection)

    assert ask(connection, "GET", ROLES, headers) == (200, "web")
    document = json.loads(ask(connection, "GET", ROLES + "web", headers)[1])

    assert document == {
        "Code": "Success",
        "LastUpdated": "2026-10-01T00:00:00Z",
        "Type": "AWS-HMAC",
        "AccessKeyId": "ASIAROLE",
        "SecretAccessKey": "hush",
        "Token": "session",
        "Expiration": "2026-10-01T06:00:00Z",
    }
    assert ask(connection, "GET", ROLES + "other", headers)[0] == 404


def test_an_instance_without_a_profile_has_no_role(
    connection: http.client.HTTPConnection, imds: InstanceMetadata
) -> None:
    imds.role = None
    headers = session(connection)

    assert ask(connection, "GET", ROLES, headers)[0] == 404
    assert ask(connection, "GET", "/latest/meta-data/instance-id", headers)[0] == 200


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("placement/region", "eu-west-1"),
        ("placement/availability-zone", "eu-west-1a"),
        ("instance-id", "i-0123456789abcdef0"),
        ("public-ipv4", "203.0.113.10"),
    ],
)
def test_facts_about_the_instance(connection: http.client.HTTPConnection, path: str, text: str) -> None:
    assert ask(connection, "GET", "/latest/meta-data/" + path, session(connection)) == (200, text)


def test_one_connection_serves_many_requests(connection: http.client.HTTPConnection) -> None:
    headers = session(connection)
    first = connection.sock
    ask(connection, "GET", "/latest/meta-data/instance-id", headers)
    ask(connection, "GET", "/latest/meta-data/nothing", headers)

    assert connection.sock is first is not None


def test_botocore_finds_its_credentials_here(desk: Desk) -> None:
    with InstanceMetadata(desk, RoleCredentials("ASIAROLE", "hush", "session", timedelta(hours=6))) as imds:
        found = InstanceMetadataFetcher(base_url=imds.url + "/").retrieve_iam_role_credentials()
        region = InstanceMetadataRegionFetcher(base_url=imds.url + "/").retrieve_region()

    assert (found["role_name"], found["access_key"], found["secret_key"], found["token"]) == (
        "certkeeper-instance",
        "ASIAROLE",
        "hush",
        "session",
    )
    assert region == "eu-west-1"


def test_calls_are_counted_and_can_be_refused(
    connection: http.client.HTTPConnection, imds: InstanceMetadata, desk: Desk
) -> None:
    session(connection)
    with desk.fault(Fault("refuse", "imds", status=503)):
        assert ask(connection, "GET", ROLES)[0] == 503
    with desk.fault(Fault("drop", "imds")), pytest.raises(http.client.RemoteDisconnected):
        ask(connection, "GET", ROLES)

    assert [(call.operation, call.resource, call.status) for call in desk.calls("imds")] == [
        ("PutToken", "/latest/api/token", 200),
        ("GetMetadata", ROLES, 503),
        ("GetMetadata", ROLES, None),
    ]


def test_secrets_are_not_in_the_repr() -> None:
    assert "hush" not in repr(RoleCredentials("ASIAROLE", "hush", "session"))
