"""A CA that forgets everything, or loses an order: what a keeper makes of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from certkeeper.core.journal import PendingOrder
from certkeeper.sandbox.acme_traffic import AcmeRequest, AcmeResponse
from certkeeper.sandbox.calls import Call, Dropped, Phase
from certkeeper.sandbox.stack import Sandbox
from tests.live.operators import Operator

pytestmark = pytest.mark.live


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
