from __future__ import annotations

from datetime import UTC, datetime

import pytest

from certkeeper.core.stacks import OTHERWISE, STACK, Event, Stack, first_failure, hint, step

AT = datetime(2026, 11, 23, tzinfo=UTC)


def stack(status: str) -> Stack:
    return Stack("keeper", "arn:aws:cloudformation:eu-west-1:123456789012:stack/keeper/1", status)


def event(logical_id: str, status: str, reason: str = "", kind: str = "AWS::SNS::Topic") -> Event:
    return Event(f"{logical_id}-{status}", AT, logical_id, kind, status, reason)


# Every status that CloudFormation's API reference knows.
@pytest.mark.parametrize(
    ("status", "next_step"),
    [
        ("REVIEW_IN_PROGRESS", "create"),
        ("DELETE_COMPLETE", "create"),
        ("CREATE_COMPLETE", "update"),
        ("UPDATE_COMPLETE", "update"),
        ("UPDATE_ROLLBACK_COMPLETE", "update"),
        ("UPDATE_FAILED", "update"),
        ("IMPORT_COMPLETE", "update"),
        ("IMPORT_ROLLBACK_COMPLETE", "update"),
        ("CREATE_IN_PROGRESS", "wait"),
        ("DELETE_IN_PROGRESS", "wait"),
        ("ROLLBACK_IN_PROGRESS", "wait"),
        ("UPDATE_IN_PROGRESS", "wait"),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "wait"),
        ("UPDATE_ROLLBACK_IN_PROGRESS", "wait"),
        ("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", "wait"),
        ("IMPORT_IN_PROGRESS", "wait"),
        ("IMPORT_ROLLBACK_IN_PROGRESS", "wait"),
        ("UPDATE_ROLLBACK_FAILED", "finish the rollback"),
        ("CREATE_FAILED", "delete"),
        ("ROLLBACK_COMPLETE", "delete"),
        ("ROLLBACK_FAILED", "delete"),
        ("DELETE_FAILED", "delete"),
        ("IMPORT_ROLLBACK_FAILED", "delete"),
    ],
)
def test_every_state_of_a_stack_has_its_next_step(status: str, next_step: str) -> None:
    assert step(stack(status)) == next_step
    assert stack(status).busy == (next_step == "wait")


def test_a_stack_that_is_not_there_is_made() -> None:
    assert step(None) == "create"


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "UPDATE_COMPLETE"])
def test_what_was_meant_to_be_done_was_done(status: str) -> None:
    assert stack(status).good


@pytest.mark.parametrize(
    "status", ["UPDATE_ROLLBACK_COMPLETE", "ROLLBACK_COMPLETE", "DELETE_COMPLETE", "CREATE_FAILED"]
)
def test_what_was_undone_was_not_done(status: str) -> None:
    assert not stack(status).good


def test_the_first_failure_is_told_and_not_what_followed_from_it() -> None:
    events = [
        event("Log", "CREATE_COMPLETE"),
        event("Function", "CREATE_FAILED", "Resource creation cancelled"),
        event("Notices", "CREATE_FAILED", "is not authorized to perform: sns:CreateTopic"),
        event("keeper", "CREATE_FAILED", "The following resource(s) failed", STACK),
    ]

    found = first_failure(events)

    assert found is not None
    assert found.logical_id == "Notices"
    assert "the right that is named there" in hint(found.reason)


def test_where_only_the_stack_itself_failed_that_is_told() -> None:
    found = first_failure([event("keeper", "ROLLBACK_FAILED", "Internal failure", STACK)])

    assert found is not None
    assert found.logical_id == "keeper"


def test_nothing_failed_where_nothing_failed() -> None:
    assert first_failure([event("Log", "CREATE_COMPLETE")]) is None


def test_what_an_organization_forbids_no_right_of_the_role_would_allow() -> None:
    reason = "User: x is not authorized to perform: kms:CreateKey with an explicit deny in a service control policy"

    assert "a policy of the organization forbids it" in hint(reason)


def test_an_unknown_reason_has_a_hint_too() -> None:
    assert hint("something nobody has seen") == OTHERWISE
