"""RFC 8555 section 7.1.6, row by row."""

from __future__ import annotations

from dataclasses import replace

import pytest

from certkeeper.core.order import (
    Abandon,
    Authorization,
    Challenge,
    Download,
    Finalize,
    Order,
    Problem,
    Prove,
    Step,
    Wait,
    next_step,
)

ORDER = Order(
    "https://ca.test/order/1", "pending", ("a.test", "b.test"), ("1", "2"), "https://ca.test/order/1/finalize"
)
CAA = Problem("caa", "CAA forbids")


def authorization(status: str, identifier: str = "a.test", problem: Problem | None = None) -> Authorization:
    return Authorization(f"https://ca.test/{identifier}", identifier, status, Challenge("u", "v", status), problem)


PENDING, VALID = authorization("pending"), authorization("valid", "b.test")


@pytest.mark.parametrize(
    ("order", "step"),
    [
        pytest.param(replace(ORDER, status="ready"), Finalize(), id="ready"),
        pytest.param(replace(ORDER, status="processing"), Wait(), id="processing"),
        pytest.param(replace(ORDER, status="processing", retry_after=7.0), Wait(7.0), id="processing, with a hint"),
        pytest.param(replace(ORDER, status="valid", certificate_url="c"), Download(), id="valid"),
        pytest.param(replace(ORDER, status="valid", retry_after=3.0), Wait(3.0), id="valid, but no certificate yet"),
        pytest.param(replace(ORDER, status="invalid", problem=CAA), Abandon(CAA), id="invalid, and why"),
        pytest.param(ORDER, Wait(), id="pending, authorizations not looked at"),
    ],
)
def test_the_next_step_of_an_order(order: Order, step: Step) -> None:
    assert next_step(order) == step


@pytest.mark.parametrize("status", ["invalid", "expired", "revoked", "something new"])
def test_an_order_that_is_over_says_so_where_the_ca_does_not(status: str) -> None:
    step = next_step(replace(ORDER, status=status))

    assert step == Abandon(Problem("", f"the CA calls the order {status} and does not say why"))


@pytest.mark.parametrize(
    ("authorizations", "step"),
    [
        pytest.param((PENDING, VALID), Prove((PENDING,)), id="one is still to be proven"),
        pytest.param((PENDING, authorization("pending", "b.test")),
                     Prove((PENDING, authorization("pending", "b.test"))), id="both are still to be proven"),
        pytest.param((authorization("valid"), VALID), Wait(5.0), id="all are proven and the CA is at work"),
        pytest.param((replace(PENDING, challenge=None),),
                     Abandon(Problem("", "the CA does not offer dns-01 for it", "a.test")), id="no dns-01 offered"),
        pytest.param((replace(VALID, challenge=None),), Wait(5.0), id="proven without dns-01 is proven"),
    ],
)  # fmt: skip
def test_the_next_step_of_a_pending_order(authorizations: tuple[Authorization, ...], step: Step) -> None:
    assert next_step(replace(ORDER, retry_after=5.0), authorizations) == step


@pytest.mark.parametrize("status", ["invalid", "expired", "deactivated", "revoked"])
@pytest.mark.parametrize("place", [0, 1], ids=["the first", "the second"])
def test_one_dead_authorization_ends_the_order_and_is_named(status: str, place: int) -> None:
    dead = authorization(status, "b.test")
    both = (dead, PENDING) if place == 0 else (PENDING, dead)

    step = next_step(ORDER, both)

    assert step == Abandon(Problem("", f"its authorization is {status} and the CA does not say why", "b.test"))


def test_a_dead_authorization_says_why() -> None:
    dead = authorization("invalid", "*.a.test", Problem("dns", "SERVFAIL", "a.test"))

    assert next_step(ORDER, (dead,)) == Abandon(Problem("dns", "SERVFAIL", "*.a.test"))


@pytest.mark.parametrize(
    ("status", "challenge", "problem", "unmet"),
    [
        pytest.param("pending", "pending", CAA, CAA, id="it has looked, and leaves it open"),
        pytest.param("pending", "pending", None, None, id="it has not looked yet"),
        pytest.param("pending", "processing", CAA, None, id="it goes on looking by itself (section 8.2)"),
        pytest.param("invalid", "invalid", CAA, None, id="it has given it up"),
        pytest.param("valid", "valid", None, None, id="proven"),
    ],
)
def test_only_a_challenge_that_the_ca_leaves_open_with_a_problem_is_to_be_answered_again(
    status: str, challenge: str, problem: Problem | None, unmet: Problem | None
) -> None:
    assert replace(authorization(status, problem=problem), challenge=Challenge("u", "v", challenge)).unmet == unmet
