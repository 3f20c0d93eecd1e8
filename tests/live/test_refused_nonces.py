"""A CA that refuses every second nonce, good as it may be."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import pytest

from certkeeper.sandbox.acme_traffic import AcmeRequest, AcmeResponse
from certkeeper.sandbox.stack import Sandbox
from tests.live.operators import Operator

pytestmark = pytest.mark.live


class Nonces:
    """Notes the nonce of each request and each answer, as they come past the proxy."""

    def __init__(self) -> None:
        self.exchanges: list[tuple[str, str, str]] = []

    def __call__(self, request: AcmeRequest, forward: Callable[[], AcmeResponse]) -> AcmeResponse:
        response = forward()
        if request.method == "POST":
            protected = json.loads(request.body)["protected"]
            used = json.loads(base64.urlsafe_b64decode(protected + "=" * (-len(protected) % 4)))["nonce"]
            self.exchanges.append((used, response.problem, response.header("Replay-Nonce")))
        return response


def test_half_of_all_nonces_refused_each_retry_uses_the_nonce_of_the_refusal() -> None:
    with Sandbox(nonce_reject=50) as sandbox, Operator(sandbox, count=3) as operator:
        nonces = Nonces()
        with operator.proxy.script("", nonces):
            # One name after another, so that one exchange follows the other.
            said = [operator.renew(name) for name in operator.names]

        assert [one.status for one in said] == [0, 0, 0], said[0].talk
        refused = [number for number, (_, problem, _) in enumerate(nonces.exchanges) if problem == "badNonce"]
        assert len(refused) > 5
        for number in refused:
            assert nonces.exchanges[number + 1][0] == nonces.exchanges[number][2]
        assert len(operator.calls("acme", "newNonce")) == len(said)
        for name in operator.names:
            operator.assert_one_good_certificate(name)
