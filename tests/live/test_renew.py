"""`certkeeper renew` on real parts: what one name costs, and that a healthy certificate is left alone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from certkeeper.sandbox.stack import Sandbox
from tests.live.keepers import ROOT
from tests.live.operators import BOTH_CAS, Operator

pytestmark = [pytest.mark.live, BOTH_CAS]


def test_a_second_renew_orders_nothing_touches_no_dns_and_says_kept_and_until_when(operator: Operator) -> None:
    command = [sys.executable, "-m", "certkeeper", "renew"]
    first = subprocess.run(command, env=operator.environment, cwd=ROOT, capture_output=True, text=True, check=False)
    began = time.monotonic()

    second = subprocess.run(command, env=operator.environment, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (first.returncode, second.returncode) == (0, 0)
    assert "renewed" in first.stdout
    certificate = operator.certificate()
    assert certificate is not None
    (line,) = (line for line in second.stdout.splitlines() if line.startswith(operator.name))
    assert "kept" in line
    assert f"{certificate.chain.validity.not_after:%Y-%m-%d %H:%M}Z" in line
    until = operator.renew().outcomes[operator.name]["next_attempt"]
    assert until[:16].replace("T", " ") + "Z" in line
    # Nothing is signed, so nothing is asked for but the directory and renewal information.
    assert {call.operation for call in operator.calls("acme", since=began)} <= {"directory", "renewalInfo"}
    assert operator.calls("route53", since=began) == []
    assert operator.calls("kms", since=began) == []
    operator.assert_one_good_certificate()


def test_a_first_certificate_costs_at_most_five_route_53_calls_and_fourteen_requests_to_the_ca(
    operator: Operator,
) -> None:
    said = operator.renew()

    assert said.status == 0
    taken = [call for call in operator.calls("acme") if call.fault != "badNonce"]
    assert 0 < len(taken) <= 14, [call.operation for call in taken]
    route53 = operator.calls("route53")
    assert 0 < len(route53) <= 5, [call.operation for call in route53]
    operator.assert_one_good_certificate()


@pytest.fixture
def slow(sandbox: Sandbox) -> Iterator[Sandbox]:
    """With a Route 53 that takes five seconds and five requests a second."""
    zones = sandbox.zones
    zones.propagation, zones.requests_per_second, zones.burst = 5.0, 5.0, 5.0
    yield sandbox
    zones.propagation, zones.requests_per_second, zones.burst = 0.0, None, 1.0


def test_one_certificate_of_fifty_names_costs_at_most_eight_route_53_calls(slow: Sandbox) -> None:
    with Operator(slow) as operator:
        operator.identifiers[operator.name] = [f"h{number}.{operator.name}" for number in range(50)]
        operator.settings()

        said = operator.renew()

        assert said.status == 0, said.talk
        route53 = operator.calls("route53")
        assert 0 < len(route53) <= 8, [call.operation for call in route53]
        assert "Throttling" not in {call.fault for call in route53}
        operator.assert_one_good_certificate()


def test_twenty_names_wait_for_dns_once(slow: Sandbox) -> None:
    with Operator(slow, count=20) as operator:
        said = operator.renew()

        assert said.status == 0, said.talk
        assert [one["outcome"] for one in said.outcomes.values()] == ["renewed"] * 20
        presented, taken_away = operator.calls("route53", "ChangeResourceRecordSets")
        waited = [call for call in operator.calls("acme", "challenge") if call.at < presented.at + 5.0]
        assert waited == []
        # Everybody's challenge was answered before the one taking away; nobody waited for a second change.
        answered = [call.at for call in operator.calls("acme", "challenge")]
        assert len({one for call in operator.calls("acme", "challenge") for one in call.context}) == 20
        assert max(answered) < taken_away.at
        assert len(operator.calls("route53", "GetChange")) <= 5
        assert len(operator.calls("route53")) <= 12
        for name in operator.names:
            operator.assert_one_good_certificate(name)


def test_one_name_whose_record_is_refused_does_not_stop_the_nineteen_others(sandbox: Sandbox) -> None:
    with Operator(sandbox, count=20) as operator:
        culprit, *others = operator.names
        sandbox.zones.protect(f"_acme-challenge.{culprit}")

        said = operator.renew()

        assert said.status == 1
        assert [said.outcomes[name]["outcome"] for name in others] == ["renewed"] * 19
        assert said.outcomes[culprit]["outcome"] == "failed"
        assert "InvalidChangeBatch" in said.outcomes[culprit]["error"]
        assert "Route 53" in said.outcomes[culprit]["hint"]
        assert operator.issued(culprit) == []
        for name in others:
            operator.assert_one_good_certificate(name)
