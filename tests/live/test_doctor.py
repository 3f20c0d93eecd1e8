"""`certkeeper doctor` on real parts: what it finds before a renewal would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from certkeeper.sandbox.iam_simulator import simulate
from certkeeper.sandbox.stack import Sandbox
from tests.live.operators import Operator

pytestmark = pytest.mark.live

WEB = "arn:aws:iam::123456789012:role/web"


@pytest.fixture(scope="module", name="operator")
def _operator(sandbox: Sandbox) -> Iterator[Operator]:
    simulate(sandbox.aws)
    with Operator(sandbox, wildcard=True) as operator:
        yield operator


def findings(operator: Operator, *more: str) -> tuple[int, dict[str, dict[str, Any]]]:
    said = operator.run("doctor", "--json", *more)
    return said.status, {one["check"]: one for one in json.loads(said.data)["findings"]}


def test_all_is_well_before_the_first_certificate_and_nothing_is_changed(operator: Operator) -> None:
    status, found = findings(operator)

    assert status == 0, [one for one in found.values() if one["result"] != "good"]
    assert {one["result"] for one in found.values()} == {"good"}, found
    assert set(found) >= {"clock", "KMS key", "CA", "hosted zone", "CAA", "delegation"}
    assert operator.calls("acme", "newAccount") == []
    assert operator.txt_records() == []


def test_a_reader_that_may_write_the_zone_is_warned_about(operator: Operator, sandbox: Sandbox) -> None:
    wide = {"Effect": "Allow", "Action": "route53:ChangeResourceRecordSets", "Resource": "*"}
    sandbox.aws.rights.act_as("AKIAWEBSERVER0000000", WEB, {"Version": "2012-10-17", "Statement": [wide]})
    operator.settings(more=f"[defaults]\nreaders = [{json.dumps(WEB)}]")

    status, found = findings(operator)

    assert status == 0
    assert (found["reader"]["about"], found["reader"]["result"]) == (WEB, "warning")
    assert "issued to itself" in found["reader"]["what"]


def test_a_name_without_a_hosted_zone_is_bad_news(operator: Operator) -> None:
    operator.config.write_text(operator.config.read_text().replace(".example.com", ".nobody.test"))

    status, found = findings(operator)

    assert status == 1
    assert found["hosted zone"]["result"] == "bad"
    assert found["hosted zone"]["hint"]


@pytest.mark.pebble("Caddy answers 501 to a change of key")
def test_another_kms_key_takes_over_step_by_step_and_doctor_says_what_is_left(sandbox: Sandbox) -> None:
    with Operator(sandbox) as operator:
        kms = operator.kms()
        before, after = (kms.create_key()["KeyMetadata"]["Arn"] for _ in range(2))
        operator.settings(kms_key=before)
        assert operator.renew().status == 0

        operator.settings(kms_key=after)
        left = [warned(operator)]
        assert operator.run("account", "rollover", "--here").status == 0
        left.append(warned(operator))
        assert operator.renew(operator.name, "--force").status == 0

        host = operator.proxy.directory_url.split("/")[2]
        told = "not that of the settings, has sealed"
        assert left == [
            {before: f"{told} the account at {host}, {operator.name}"},
            {before: f"{told} {operator.name}"},
        ]
        assert warned(operator) == {}
        operator.assert_one_good_certificate(issued=2)


def warned(operator: Operator) -> dict[str, str]:
    found = json.loads(operator.run("doctor", "--json").data)["findings"]
    return {one["about"]: one["what"] for one in found if (one["check"], one["result"]) == ("sealing", "warning")}
