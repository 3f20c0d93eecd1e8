"""A CA that refuses every second nonce, good as it may be."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from certkeeper.sandbox.acme_traffic import AcmeRequest, AcmeResponse
from certkeeper.sandbox.stack import Sandbox
from tests.live.operators import Operator

pytestmark = [pytest.mark.live, pytest.mark.timeout(450)]

ISSUANCES = 300


@dataclass(frozen=True)
class Exchange:
    """One POST: where to, with which nonce, and the problem and the nonce of its answer."""

    path: str
    used: str
    problem: str
    given: str


class Nonces:
    """Notes the nonce of each request and each answer, as they come past the proxy."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []

    def __call__(self, request: AcmeRequest, forward: Callable[[], AcmeResponse]) -> AcmeResponse:
        response = forward()
        if request.method == "POST":
            protected = json.loads(request.body)["protected"]
            used = json.loads(base64.urlsafe_b64decode(protected + "=" * (-len(protected) % 4)))["nonce"]
            self.exchanges.append(Exchange(request.path, used, response.problem, response.header("Replay-Nonce")))
        return response


def test_half_of_all_nonces_refused_300_issuances_all_succeed_and_each_retry_uses_the_nonce_of_its_refusal() -> None:
    with Sandbox(nonce_reject=50) as sandbox, Operator(sandbox, count=ISSUANCES) as operator:
        nonces = Nonces()
        with operator.proxy.script("", nonces):
            said = operator.start("renew", "--json").end(400)

        assert said.status == 0, said.talk
        assert {one["outcome"] for one in said.outcomes.values()} == {"renewed"}
        assert len(operator.proxy.issued()) == ISSUANCES
        refused = [one for one in nonces.exchanges if one.problem == "badNonce"]
        assert len(refused) > 3 * ISSUANCES
        by_nonce = {one.used: one for one in nonces.exchanges}
        assert len(by_nonce) == len(nonces.exchanges)
        assert [one.path for one in refused] == [by_nonce[one.given].path for one in refused]
        # A nonce was asked for once by each connection, and after that every answer brought one.
        assert len(operator.calls("acme", "newNonce")) <= 20
        assert operator.txt_records() == []
        # All in one zone: one batch to present all records, and one to take them away.
        assert len(operator.calls("route53", "ChangeResourceRecordSets")) == 2
