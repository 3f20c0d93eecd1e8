"""A CA that forgets everything, or loses an order: what a keeper makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from certkeeper.core.journal import PendingOrder
from certkeeper.sandbox.acme_traffic import AcmeRequest, AcmeResponse
from certkeeper.sandbox.calls import Call, Dropped, Phase
from certkeeper.sandbox.stack import Sandbox
from tests.live.operators import BOTH_CAS, Operator

pytestmark = [pytest.mark.live, BOTH_CAS]


def killed_with_an_order_under_way(operator: Operator) -> PendingOrder:
    """Kill a renew as soon as it has written its order down."""

    def watcher(phase: Phase, call: Call) -> None:
        if phase == "after" and call.operation == "PutObject" and operator.journal().pending:
            keeper.kill()
            raise Dropped

    with operator.watching(watcher):
        keeper = operator.start("renew")
        said = keeper.end()
    pending = operator.journal().pending

    assert said.status == -9
    assert pending is not None
    return pending


def test_a_ca_that_has_forgotten_everything_is_told_the_same_account_again(
    sandbox: Sandbox, operator: Operator
) -> None:
    assert operator.renew().status == 0
    account_key = operator.account()["sealed_account_key"]
    sandbox.ca.restart()

    first = operator.renew("--force", operator.name)
    held_in_between = operator.certificate()
    second = operator.renew("--force", operator.name)

    assert first.status in (0, 1)
    assert "Traceback" not in first.talk + second.talk
    assert "unexpected" not in first.talk + second.talk
    if first.status:
        assert first.outcomes[operator.name]["error"]
        assert first.outcomes[operator.name]["hint"]
    assert held_in_between is not None
    assert second.status == 0, second.talk
    assert second.outcomes[operator.name]["outcome"] == "renewed"
    assert operator.account()["sealed_account_key"] == account_key
    assert [call.status for call in operator.calls("acme", "newAccount")].count(201) == 2
    operator.assert_one_good_certificate(issued=len(operator.issued()))


def test_an_order_that_went_with_the_cas_memory_is_placed_again_and_issued_once(
    sandbox: Sandbox, operator: Operator
) -> None:
    killed_with_an_order_under_way(operator)
    sandbox.ca.restart()

    first, second = operator.renew(operator.name), operator.renew(operator.name)

    assert first.status in (0, 1)
    assert "unexpected" not in first.talk
    assert second.status == 0, second.talk
    assert operator.proxy.orders == 2
    operator.assert_one_good_certificate()


def test_an_order_that_the_ca_alone_has_lost_is_placed_again_and_issued_once(operator: Operator) -> None:
    lost = killed_with_an_order_under_way(operator)
    path = "/" + lost.url.split("/", 3)[3]

    def forgotten(request: AcmeRequest, forward: Callable[[], AcmeResponse]) -> AcmeResponse:
        if request.path == path:
            return AcmeResponse.of_problem(404, "malformed", "no such order")
        return forward()

    with operator.proxy.script("order", forgotten):
        said = operator.renew(operator.name)

    assert said.status == 0, said.talk
    assert operator.proxy.orders == 2
    operator.assert_one_good_certificate()


PRIVATE_KEY = (
    "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg\n-----END PRIVATE KEY-----\n"
)
END = "-----END CERTIFICATE-----\n"
# What became of a chain on its way, from it and the one that is held.
SPOILT: dict[str, Callable[[str, str], str]] = {
    "a private key among the certificates": lambda new, held: new + PRIVATE_KEY,
    "the chain of another certificate": lambda new, held: held,
    "cut off": lambda new, held: new[: len(new) // 2],
    "without its issuer, another one in its place": lambda new, held: (
        new.split(END)[0] + END + held.split(END)[0] + END
    ),
    "an error page": lambda new, held: "<html>502 Bad Gateway</html>",
}


@pytest.mark.parametrize("how", list(SPOILT))
def test_a_chain_that_must_not_be_kept_leaves_the_old_certificate_and_is_fetched_again_without_another_order(
    operator: Operator, how: str
) -> None:
    assert operator.renew().status == 0
    held = operator.certificate()
    assert held is not None

    def spoil(request: AcmeRequest, forward: Callable[[], AcmeResponse]) -> AcmeResponse:
        response = forward()
        return replace(response, body=SPOILT[how](response.body.decode(), held.chain.pem).encode())

    with operator.proxy.script("certificate", spoil):
        said = operator.renew("--force", operator.name)
    kept = operator.certificate()
    again = operator.renew(operator.name)

    assert said.status == 1
    assert said.outcomes[operator.name]["outcome"] == "failed"
    assert "-----" not in said.talk + said.data
    assert kept == held
    assert again.outcomes[operator.name]["outcome"] == "renewed", again.talk
    operator.assert_one_good_certificate(issued=2)


def test_an_order_that_is_processed_for_longer_than_the_run_is_finished_by_the_next_and_finalized_once(
    operator: Operator,
) -> None:
    def processing(request: AcmeRequest, forward: Callable[[], AcmeResponse]) -> AcmeResponse:
        response = forward()
        order = json.loads(response.body)
        if order.get("status") != "valid":
            return response
        body = {key: value for key, value in order.items() if key != "certificate"} | {"status": "processing"}
        return replace(response, body=json.dumps(body).encode())

    with operator.proxy.script("order", processing), operator.proxy.script("finalize", processing):
        said = operator.run("renew", "--json", "--deadline", "16")

    assert said.outcomes[operator.name]["outcome"] == "waiting", said.talk
    assert operator.journal().pending is not None
    assert operator.certificate() is None
    again = operator.renew(operator.name)
    assert again.status == 0, again.talk
    assert len([call for call in operator.calls("acme", "finalize") if not call.fault]) == 1
    operator.assert_one_good_certificate()


def test_a_ca_without_answers_loses_no_certificate_to_a_dropped_finalize(operator: Operator) -> None:
    lost: list[AcmeResponse] = []

    def lose(request: AcmeRequest, forward: Callable[[], AcmeResponse]) -> AcmeResponse:
        response = forward()
        if response.problem == "badNonce" or lost:  # a refused nonce is no finalize
            return response
        lost.append(response)
        raise Dropped

    with operator.proxy.script("finalize", lose):
        said = operator.renew()

    assert said.status == 0, said.talk
    assert len(lost) == 1
    assert len([call for call in operator.calls("acme", "newOrder") if not call.fault]) == 1
    operator.assert_one_good_certificate()
