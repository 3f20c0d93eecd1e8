"""Law 1 on real parts: a store that cannot answer for one name costs nothing, and holds up no other name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import pytest

from certkeeper.sandbox.calls import Fault
from certkeeper.sandbox.stack import BUCKET, Sandbox
from tests.live.keepers import IMPATIENT
from tests.live.operators import Operator

pytestmark = pytest.mark.live

SIDE_BY_SIDE = 12
KINDS = ("certificates", "journal")
REFUSALS = {
    "500": Fault("refuse", status=500, code="InternalError"),
    "403": Fault("refuse", status=403, code="AccessDenied"),
    "503": Fault("refuse", status=503, code="SlowDown"),
    "404 NoSuchBucket": Fault("refuse", status=404, code="NoSuchBucket"),
    "hangs": Fault("hang", code="ReadTimeoutError", seconds=300),
    "drops": Fault("drop", code="ConnectionClosedError"),
}
NOT_DECODING = {
    "not JSON": b"\x00\xff certainly not JSON",
    "an empty object": b"",
    "another format": b'{"format": 2}',
    "torn in two": b'{"format": 1, "name": "',
}


def orders(operator: Operator, name: str) -> int:
    taken = [call for call in operator.calls("acme", "newOrder") if call.fault != "badNonce"]
    return sum(name in value for call in taken for _, value in call.context)


def standing(operator: Operator, fault: Fault, operation: str, kind: str, name: str) -> AbstractContextManager[Fault]:
    contains = f"{operator.prefix}/{kind}/{name}" if name else f"{operator.prefix}/{kind}/"
    own = Fault(fault.kind, "s3", operation, contains, fault.times, fault.status, fault.code, seconds=fault.seconds)
    return operator.sandbox.desk.fault(own)


def assert_only_the_one_failed(operator: Operator, what: str, during: AbstractContextManager[object]) -> None:
    bad, good = operator.names
    with during:
        said = operator.start("renew", "--json", **{IMPATIENT: "3"}).end()

    assert said.status == 1, said.talk
    outcome = said.outcomes[bad]
    assert outcome["outcome"] == "failed"
    assert what in outcome["error"]
    assert outcome["hint"]
    assert f"error: {bad}: {outcome['error']}" in said.talk
    assert f"hint: {outcome['hint']}" in said.talk
    assert "Traceback" not in said.talk
    assert said.outcomes[good]["outcome"] == "renewed"
    operator.assert_one_good_certificate(good)


def assert_good_again(operator: Operator) -> None:
    said = operator.renew(operator.name)

    assert said.status == 0, said.talk
    operator.assert_one_good_certificate()


def unreadable(sandbox: Sandbox, kind: str, how: str) -> None:
    with Operator(sandbox, count=2) as operator:
        fault = REFUSALS[how]
        assert_only_the_one_failed(operator, fault.code, standing(operator, fault, "GetObject", kind, operator.name))
        assert orders(operator, operator.name) == 0
        assert_good_again(operator)


def not_decoding(sandbox: Sandbox, kind: str, how: str) -> None:
    with Operator(sandbox, count=2) as operator:
        object_key = f"{operator.prefix}/{kind}/{operator.name}"
        sandbox.aws.put_object(BUCKET, object_key, NOT_DECODING[how])
        assert_only_the_one_failed(operator, "", nullcontext())
        assert orders(operator, operator.name) == 0
        assert operator.object(f"{kind}/{operator.name}") == NOT_DECODING[how]
        sandbox.aws.delete_object(BUCKET, object_key)
        assert_good_again(operator)


def not_writable(sandbox: Sandbox, kind: str, how: str) -> None:
    with Operator(sandbox, count=2) as operator:
        fault = REFUSALS[how]
        assert_only_the_one_failed(operator, fault.code, standing(operator, fault, "PutObject", kind, operator.name))
        # Where the certificate cannot be written it has been paid for, and the next run fetches it.
        assert len(operator.issued()) == orders(operator, operator.name) == (0 if kind == "journal" else 1)
        assert_good_again(operator)


def lost(sandbox: Sandbox, kind: str, how: str) -> None:
    with Operator(sandbox) as operator:
        fault = Fault("lose", times=1 if how == "once" else None)
        with standing(operator, fault, "PutObject", kind, ""):
            said = operator.renew()

        assert said.status == 0, said.talk
        assert said.outcomes[operator.name]["outcome"] == "renewed"
        assert "journal" not in said.outcomes[operator.name]["reason"]
        assert [call.status for call in operator.calls("acme", "newAccount")].count(201) == 1
        operator.assert_one_good_certificate()


Case = tuple[Callable[[Sandbox, str, str], None], str, str]
CASES: list[Case] = [
    *((unreadable, kind, how) for kind in KINDS for how in REFUSALS),
    *((not_decoding, kind, how) for kind in KINDS for how in NOT_DECODING),
    *((not_writable, kind, how) for kind in KINDS for how in ("500", "403")),
    *((lost, kind, how) for kind in (*KINDS, "accounts") for how in ("once", "every time")),
]
Verdicts = Mapping[Case, Future[None]]


@pytest.fixture(scope="module", name="verdicts")
def _verdicts(sandbox: Sandbox, request: pytest.FixtureRequest) -> Iterator[Verdicts]:
    """All chosen cases, under way side by side: most of a run is boto3's pauses between its tries."""
    chosen = [
        cast("Case", item.callspec.params["case"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == request.path and hasattr(item, "callspec")
    ]
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        yield {case: pool.submit(case[0], sandbox, *case[1:]) for case in chosen}
        pool.shutdown(cancel_futures=True)


def cases(how: Callable[[Sandbox, str, str], None]) -> pytest.MarkDecorator:
    chosen = [case for case in CASES if case[0] is how]
    return pytest.mark.parametrize("case", chosen, ids=[f"{kind}-{what}" for _, kind, what in chosen])


@cases(unreadable)
def test_a_store_that_cannot_answer_for_one_name_fails_that_name_alone_and_nothing_is_ordered(
    case: Case, verdicts: Verdicts
) -> None:
    verdicts[case].result()


@cases(not_decoding)
def test_bytes_that_do_not_decode_fail_that_name_alone_and_stay(case: Case, verdicts: Verdicts) -> None:
    verdicts[case].result()


@cases(not_writable)
def test_an_object_that_cannot_be_written_fails_that_name_alone_and_never_costs_a_second_certificate(
    case: Case, verdicts: Verdicts
) -> None:
    verdicts[case].result()


@cases(lost)
def test_a_put_whose_answer_is_lost_counts_as_done(case: Case, verdicts: Verdicts) -> None:
    verdicts[case].result()
