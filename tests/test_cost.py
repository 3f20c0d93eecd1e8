"""The figures of docs/cost.md: the calls are counted here, the money is computed from them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import handler as door
import pytest

from certkeeper import wiring
from certkeeper.core import certificates, journal
from certkeeper.core.model import CertificateSpec
from certkeeper.deployment import templates
from certkeeper.jobs.tick import tick
from certkeeper.sandbox.aws import ACCOUNT, AwsServer
from certkeeper.sandbox.calls import Desk
from certkeeper.sandbox.route53 import HostedZones
from tests.fakes import FakeClock, World

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "cost.md").read_text()
TICKS = 730  # in a month
# US dollars, us-east-1, as docs/cost.md quotes them.
KEY, GET, PUT = 1.0, 0.0004 / 1000, 0.005 / 1000
KMS_CALL, GIGABYTE_SECOND, SECRET = 0.03 / 10_000, 0.0000133334, 0.40
ALARM, METRIC = 0.10, 0.30
SECONDS, GIGABYTES = 5, 0.5
"""Of one tick, on the safe side; and the function's memory."""
IDLE = {"GetObject": 2, "ListObjectsV2": 2, "PutObject": 1, "GetCallerIdentity": 1}


class Context:
    def get_remaining_time_in_millis(self) -> int:
        return 900_000


@pytest.fixture(name="aws")
def _aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[AwsServer, Desk]]:
    desk = Desk()
    with AwsServer(desk, HostedZones()) as server:
        server.create_bucket("bucket")
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("CERTKEEPER_STORE", "s3://bucket/prod")
        yield server, desk
    desk.stop()


def test_an_idle_tick_does_not_load_the_acme_stack(aws: tuple[AwsServer, Desk]) -> None:
    fill(aws[0])
    door.handler({}, Context())  # fills the index
    statement = (
        "import sys; sys.path[:0] = ['lambda', '.']; import handler\n"
        "class Context:\n    def get_remaining_time_in_millis(self): return 900_000\n"
        "handler.handler({}, Context()); print(*sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-c", statement], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )

    loaded = set(done.stdout.splitlines()[-1].split())
    assert "boto3" in loaded
    assert not {"acme", "josepy", "requests", "dns", "cryptography", "OpenSSL", "certkeeper.adapters.x509"} & loaded


def test_an_idle_tick_makes_the_calls_that_are_paid_for_and_no_other(aws: tuple[AwsServer, Desk]) -> None:
    server, desk = aws
    fill(server)
    door.handler({}, Context())  # fills the index

    since = desk.mark()
    (outcome,) = door.handler({"names": []}, Context())["outcomes"]

    assert outcome["outcome"] == "kept"
    assert Counter(call.operation for call in desk.calls(since=since)) == IDLE
    for operation, count in IDLE.items():
        assert f"| `{operation}` | {count} |" in PAGE


def fill(server: AwsServer) -> None:
    """What fakes have issued today, stored for real."""
    world = World(FakeClock(datetime.now(UTC)))
    spec = CertificateSpec("www", ("example.com",), "https://ca.test/directory", sealing="store")
    tick(world.keeper(), [spec])
    held, _ = world.keeper().certificates.read("www")
    assert held is not None
    held = replace(held, chain=replace(held.chain, certificate_id=None))  # there is no CA to ask
    held = replace(held, request=replace(held.request, private_key=replace(held.request.private_key, sealing="store")))
    server.put_object("bucket", "prod/certificates/www", certificates.encode(held))
    server.put_object("bucket", "prod/journal/www", journal.encode(journal.Entry(), "www"))
    settings = 'store = "s3://bucket/prod"\nsealing = "store"\n[ca]\ndirectory = "https://ca.test/directory"\n'
    settings += '[certificates.www]\nidentifiers = ["example.com"]\n'
    server.put_object("bucket", f"prod/{wiring.SETTINGS_PATH}", settings.encode())


def ticks() -> float:
    calls = IDLE["GetObject"] * GET + (IDLE["ListObjectsV2"] + IDLE["PutObject"]) * PUT
    return TICKS * (calls + SECONDS * GIGABYTES * GIGABYTE_SECOND)


def renewals(names: int) -> float:
    """Of certificates that live 90 days and are renewed after 60; the calls of one are counted in tests/live."""
    return names * 0.5 * (12 * PUT + 6 * GET + 2 * KMS_CALL)


def pulls(instances: int) -> float:
    return instances * TICKS * GET


@pytest.mark.parametrize(("names", "instances"), [(1, 1), (10, 10), (1000, 100)])
def test_the_page_says_what_a_month_costs(names: int, instances: int) -> None:
    work = ticks() + renewals(names) + pulls(instances)

    row = f"| {names:,} | {instances} | ${KEY + work:.2f} | ${work:.2f} | ${SECRET * names + KEY + work:,.2f} |"
    assert row in PAGE


def test_the_page_says_what_is_free_only_for_a_while() -> None:
    place = templates.Place("prod", "aws", "eu-west-1", ACCOUNT, "bucket", "prod", "alias/certkeeper")
    stack = templates.function_template(place)
    kinds = Counter(one["Type"] for one in stack["Resources"].values())
    gauges = 4

    assert kinds["AWS::CloudWatch::Alarm"] == 3
    assert kinds["AWS::CloudWatch::Dashboard"] == 1
    assert f"${gauges * METRIC + 3 * ALARM:.2f} a month" in PAGE
    assert json.dumps(stack).count('"TickCompleted"') >= 1


def test_every_figure_is_as_of_a_day() -> None:
    assert timedelta(0) <= datetime.now(UTC) - datetime(2026, 11, 23, tzinfo=UTC)
    assert "23 November 2026" in PAGE
