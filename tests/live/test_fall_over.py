"""Pebble on its bad days, and Caddy's ACME server as the fallback CA."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from certkeeper.core.document import instant, written
from certkeeper.sandbox.acme_proxy import AcmeProxy
from certkeeper.sandbox.acme_traffic import AcmeRequest, AcmeResponse
from certkeeper.sandbox.authority import Caddy
from certkeeper.sandbox.calls import Desk
from certkeeper.sandbox.stack import Sandbox
from tests.live.operators import Operator

pytestmark = pytest.mark.live
INSTANTS = ("since", "last", "next_attempt", "our_pause", "not_before")


@pytest.fixture(scope="module", name="second")
def _second(sandbox: Sandbox) -> Iterator[AcmeProxy]:
    """Caddy, behind a proxy of its own."""
    caddy, desk = Caddy(sandbox.dns.address, sandbox.tls), Desk()
    proxy = AcmeProxy(caddy.directory_url, desk, sandbox.tls)
    yield proxy
    desk.stop()
    proxy.close()
    caddy.close()


def fall_back_to(operator: Operator, second: AcmeProxy) -> None:
    bundle = json.dumps(str(operator.sandbox.tls.bundle))
    operator.settings(
        more=f"[fallback_ca.second]\ndirectory = {json.dumps(second.directory_url)}\nca_bundle = {bundle}"
    )


def failed_longer_ago(operator: Operator, by: timedelta) -> None:
    """Make what the journal says of failures older."""

    def aged(said: dict[str, Any]) -> dict[str, Any]:
        return {
            key: written(instant(value) - by) if key in INSTANTS and value else value for key, value in said.items()
        }

    stored = operator.object(f"journal/{operator.name}")
    assert stored is not None
    entry = json.loads(stored)
    failure = aged(entry["failure"])
    entry["failure"] = {**failure, "troubles": [aged(one) for one in failure["troubles"]]}
    operator.put(f"journal/{operator.name}", json.dumps(entry).encode())


def issued_by_second(operator: Operator, second: AcmeProxy) -> list[str]:
    return [one.serial for one in second.issued() if list(one.identifiers) == operator.identifiers[operator.name]]


def test_while_the_first_ca_is_down_the_second_issues_and_its_certificate_is_kept(
    sandbox: Sandbox, operator: Operator, second: AcmeProxy
) -> None:
    fall_back_to(operator, second)
    sandbox.ca.stop()
    try:
        first = operator.renew()
        failed_longer_ago(operator, timedelta(hours=1))
        fallen_over = operator.renew()
    finally:
        sandbox.ca.restart()
    after = operator.renew()

    assert first.status == 1
    assert "502" in first.outcomes[operator.name]["error"]
    assert fallen_over.status == 0, fallen_over.talk
    outcome = fallen_over.outcomes[operator.name]
    assert outcome["outcome"] == "renewed"
    assert "instead of" in outcome["reason"]
    assert after.outcomes[operator.name]["outcome"] == "kept"
    certificate = operator.certificate()
    assert certificate is not None
    assert certificate.ca == second.directory_url
    assert [certificate.chain.serial_number] == issued_by_second(operator, second)
    assert operator.issued() == []
    assert operator.journal().tidy
    assert operator.txt_records() == []


def test_a_limit_of_the_first_ca_sends_the_next_attempt_to_the_second(operator: Operator, second: AcmeProxy) -> None:
    fall_back_to(operator, second)
    operator.proxy.exact_set_limit = 5
    operator.proxy.spend(*operator.identifiers[operator.name], times=5)

    refused, renewed = operator.renew(operator.name), operator.renew(operator.name)

    assert "rate" in (refused.outcomes[operator.name]["hint"] or "")
    assert renewed.outcomes[operator.name]["outcome"] == "renewed", renewed.talk
    assert len(issued_by_second(operator, second)) == 1
    assert operator.proxy.orders == 0


def test_a_caa_record_that_forgot_the_second_ca_is_told_and_the_record_of_the_hint_mends_it(
    sandbox: Sandbox, operator: Operator, second: AcmeProxy
) -> None:
    def named(request: AcmeRequest, forward: Callable[[], AcmeResponse]) -> AcmeResponse:
        response = forward()
        said = json.loads(response.body)
        said["meta"] = {**said.get("meta", {}), "caaIdentities": ["second.example"]}
        return AcmeResponse(response.status, response.headers, json.dumps(said).encode())

    fall_back_to(operator, second)
    operator.proxy.exact_set_limit = 5
    operator.proxy.spend(*operator.identifiers[operator.name], times=5)
    zone = sandbox.zone_ids["example.com"]
    sandbox.zones.put(zone, operator.name, "CAA", '0 issue "pebble.example"')
    with second.script("directory", named):
        operator.renew(operator.name)
        refused = operator.renew(operator.name)
        hint = refused.outcomes[operator.name]["hint"]
        _, _, value = hint.partition("CAA ")
        sandbox.zones.put(zone, operator.name, "CAA", '0 issue "pebble.example"', value)
        mended = operator.renew(operator.name)

    assert (
        f"the CAA records at {operator.name} do not allow second.example" in (refused.outcomes[operator.name]["error"])
    )
    assert hint == f'add the record: {operator.name}. CAA 0 issue "second.example"'
    assert mended.outcomes[operator.name]["outcome"] == "renewed", mended.talk
    assert len(issued_by_second(operator, second)) == 1


def test_each_ca_has_an_account_of_its_own_with_a_key_of_its_own(operator: Operator, second: AcmeProxy) -> None:
    fall_back_to(operator, second)
    operator.proxy.exact_set_limit = 5
    operator.proxy.spend(*operator.identifiers[operator.name], times=5)
    operator.renew(operator.name)
    operator.renew(operator.name)

    accounts = [json.loads(body) for path, body in operator.objects().items() if path.startswith("accounts/")]

    assert {one["ca_directory"] for one in accounts} == {operator.proxy.directory_url, second.directory_url}
    assert len({one["sealed_account_key"] for one in accounts}) == 2
