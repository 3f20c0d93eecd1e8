"""The CA's limits and its word, on a real CA: what is refused is asked for once, and failures never add up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from certkeeper.sandbox.acme_traffic import AcmeRequest, AcmeResponse
from certkeeper.sandbox.stack import Sandbox
from tests.live.operators import BOTH_CAS, Operator

pytestmark = [pytest.mark.live, BOTH_CAS]

Forward = Callable[[], AcmeResponse]
LIMITS = '[ca.limits]\nfailed_authorizations = "5/1h"\n'


@contextmanager
def servfail_for_the_ca(sandbox: Sandbox, operator: Operator) -> Iterator[None]:
    """The name servers fail from the moment at which the CA is told to look, until the CA has looked."""
    names = [f"_acme-challenge.{name}" for name in operator.names]

    def answered(request: AcmeRequest, forward: Forward) -> AcmeResponse:
        for name in names:
            sandbox.dns.fail(name)
        return forward()

    with operator.proxy.script("challenge", answered):
        yield


def healed(sandbox: Sandbox, operator: Operator) -> None:
    for name in operator.names:
        sandbox.dns.heal(f"_acme-challenge.{name}")


def test_a_look_up_that_fails_is_retried_later_and_succeeds_when_it_is_mended(
    sandbox: Sandbox, operator: Operator
) -> None:
    with servfail_for_the_ca(sandbox, operator):
        failed = operator.renew()
    healed(sandbox, operator)
    waiting = operator.renew()
    mended = operator.renew(operator.name)

    assert failed.outcomes[operator.name]["outcome"] == "failed"
    assert operator.name in failed.outcomes[operator.name]["error"]
    assert waiting.outcomes[operator.name]["outcome"] == "waiting"
    assert mended.status == 0, mended.talk
    # An order goes on whose challenge the CA has left open.
    assert operator.proxy.orders == (1 if sandbox.ca.leaves_challenges_open else 2)
    operator.assert_one_good_certificate()


@pytest.mark.pebble("with Caddy no authorization fails: it leaves the challenge open")
def test_a_person_who_retries_and_retries_never_fails_more_than_five_times_an_hour(
    sandbox: Sandbox, operator: Operator
) -> None:
    operator.settings(more=LIMITS)
    said = []
    for _ in range(7):
        with servfail_for_the_ca(sandbox, operator):
            said.append(operator.renew(operator.name))
        healed(sandbox, operator)

    outcomes = [one.outcomes[operator.name] for one in said]
    last = outcomes[-1]
    assert [one["outcome"] for one in outcomes] == ["failed"] * 5 + ["waiting"] * 2
    assert operator.proxy.orders == 5
    assert [call.status for call in operator.calls("acme", "challenge")].count(200) == 5  # others: refused nonces
    assert f"could not prove {operator.name} so often" in last["error"]
    assert last["next_attempt"] is not None
    wait = datetime.fromisoformat(last["next_attempt"]) - datetime.now(UTC)
    assert timedelta(minutes=5) < wait < timedelta(minutes=20)


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_what_a_ca_refuses_until_a_day_after_tomorrow_is_not_asked_for_before(operator: Operator, form: str) -> None:
    assert operator.renew().status == 0
    held = operator.certificate()
    until = datetime.now(UTC) + timedelta(hours=36)
    retry_after = "129600" if form == "seconds" else format_datetime(until, usegmt=True)

    def refused(request: AcmeRequest, forward: Forward) -> AcmeResponse:
        return AcmeResponse.of_problem(429, "rateLimited", "too many certificates", (("Retry-After", retry_after),))

    with operator.proxy.script("newOrder", refused):
        first = operator.renew("--force")
    before = len(operator.calls("acme", "newOrder"))
    again = [operator.renew("--force"), operator.renew("--force", operator.name)]

    told = first.outcomes[operator.name]
    assert told["outcome"] == "failed" and first.status == 1
    assert abs(datetime.fromisoformat(told["next_attempt"]) - until) < timedelta(minutes=2)
    assert [one.outcomes[operator.name]["outcome"] for one in again] == ["waiting"] * 2
    assert [one.outcomes[operator.name]["next_attempt"] for one in again] == [told["next_attempt"]] * 2
    assert len(operator.calls("acme", "newOrder")) == before
    assert operator.certificate() == held


def test_a_ca_that_is_down_is_asked_once_for_all_names(sandbox: Sandbox) -> None:
    with Operator(sandbox, 4) as operator:

        def down(request: AcmeRequest, forward: Forward) -> AcmeResponse:
            return AcmeResponse.of_problem(503, "serverInternal", "maintenance", (("Retry-After", "604800"),))

        with operator.proxy.script("newOrder", down):
            said = operator.renew()
        again = operator.renew()
        day = datetime.now(UTC) + timedelta(days=1)

        outcomes = sorted(one["outcome"] for one in said.outcomes.values())
        assert outcomes == ["failed", "waiting", "waiting", "waiting"]
        assert all(datetime.fromisoformat(one["next_attempt"]) <= day for one in said.outcomes.values())
        # The CA's refusal comes before its look at the nonce.
        assert len(operator.calls("acme", "newOrder")) == 1
        assert {one["outcome"] for one in again.outcomes.values()} == {"waiting"}


def test_paused_names_show_their_page_and_wait_for_a_person(operator: Operator) -> None:
    page = "https://portal.test/sfe/v1/unpause?jwt=a.b.c"

    def paused(request: AcmeRequest, forward: Forward) -> AcmeResponse:
        return AcmeResponse.of_problem(429, "rateLimited", f"Your account is prevented from this. Visit: {page}")

    with operator.proxy.script("newOrder", paused):
        first = operator.renew()
    again = operator.renew()
    shown = operator.run("status")
    person = operator.renew(operator.name)

    assert page in first.outcomes[operator.name]["hint"]
    assert first.outcomes[operator.name]["next_attempt"] is None
    assert again.outcomes[operator.name]["outcome"] == "waiting"
    assert page in shown.data
    assert person.status == 0, person.talk
    assert operator.proxy.orders == 1


def test_the_one_of_three_names_that_a_caa_record_forbids_is_named(sandbox: Sandbox, operator: Operator) -> None:
    names = [operator.name, f"a.{operator.name}", f"b.{operator.name}"]
    operator.identifiers[operator.name] = names
    operator.settings()
    blamed: list[dict[str, Any]] = [
        {
            "type": "urn:ietf:params:acme:error:caa",
            "detail": "CAA record forbids issuance",
            "identifier": {"type": "dns", "value": names[1]},
        }
    ]

    def forbidden(request: AcmeRequest, forward: Forward) -> AcmeResponse:
        return AcmeResponse.of_problem(403, "compound", "some identifiers were refused", subproblems=blamed)

    with operator.proxy.script("finalize", forbidden):
        said = operator.renew()

    told = said.outcomes[operator.name]
    assert told["outcome"] == "failed"
    assert f"{names[1]}: CAA record forbids issuance" in told["error"]
    assert names[2] not in told["error"]
    assert "CAA record" in told["hint"]
