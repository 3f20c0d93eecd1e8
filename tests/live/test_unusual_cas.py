"""CAs that need a Pebble of their own: one that takes proofs for lasting, one that wants accounts to be bound."""

from __future__ import annotations

import json
from typing import Any

import pytest

from certkeeper.sandbox.authority import ExternalAccountBinding
from certkeeper.sandbox.stack import Sandbox
from tests.live.operators import Operator

pytestmark = pytest.mark.live
KID, MAC_KEY = "kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"


def said_of(operator: Operator, *arguments: str) -> tuple[int, dict[str, Any]]:
    said = operator.renew(*arguments, operator.name)
    return said.status, said.outcomes[operator.name]


def test_an_order_that_is_ready_at_birth_touches_no_dns() -> None:
    with Sandbox(authz_reuse=100) as sandbox, Operator(sandbox) as operator:
        first, _ = said_of(operator)
        before = len(operator.calls("route53", "ChangeResourceRecordSets"))

        second, outcome = said_of(operator, "--force")

        assert (first, second, outcome["outcome"]) == (0, 0, "renewed")
        assert len(operator.calls("route53", "ChangeResourceRecordSets")) == before == 2
        operator.assert_one_good_certificate(issued=2)


def test_an_external_account_binding_is_asked_for_by_its_settings_and_a_good_one_is_taken() -> None:
    binding = ExternalAccountBinding({KID: MAC_KEY})
    with Sandbox(external_account_binding=binding) as sandbox, Operator(sandbox) as operator:
        missing, outcome = said_of(operator)
        text = operator.config.read_text()
        operator.config.write_text(text.replace("[ca]", f'[ca]\neab_kid = "{KID}"\neab_hmac_key = "{"x" * 43}"'))
        wrong, refused = said_of(operator)
        operator.config.write_text(text.replace("[ca]", f'[ca]\neab_kid = "{KID}"\neab_hmac_key = "{MAC_KEY}"'))
        good, _ = said_of(operator)

        assert (missing, outcome["error"]) == (1, "the CA wants an external account binding")
        assert "eab_kid and eab_hmac_key" in outcome["hint"]
        assert wrong == 1 and refused["error"]
        assert good == 0
        assert MAC_KEY not in json.dumps([outcome, refused])
        operator.assert_one_good_certificate()
