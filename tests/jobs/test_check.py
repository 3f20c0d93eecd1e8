"""The line for a monitoring system."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from certkeeper.jobs.check import CRITICAL, OK, UNKNOWN, WARNING, check
from certkeeper.jobs.status import Status, Survey
from tests.fakes import START

DAY = timedelta(days=1)
BEGIN, END = START - 50 * DAY, START + 50 * DAY


def good(name: str = "www", left: int = 50) -> Status:
    """Of a hundred days so many are left."""
    end = START + left * DAY
    return Status(name, ("example.com",), "ok", "0001", not_before=end - 100 * DAY, not_after=end)


def of(*statuses: Status, age: timedelta = timedelta(0)) -> Survey:
    return Survey(statuses, START - age)


def test_all_is_well() -> None:
    checked = check(of(good(), good("api", 70)), START, 0.3, 0.1)

    assert checked.code == OK
    assert checked.line == (
        "CERTKEEPER OK - 2 certificates; at least 50% of the lifetime left | "
        "'www'=50%;30:;10:;0;100 'api'=70%;30:;10:;0;100"
    )


@pytest.mark.parametrize(
    ("left", "code"), [(31, OK), (30, WARNING), (11, WARNING), (10, CRITICAL), (0, CRITICAL), (-5, CRITICAL)]
)
def test_shares_of_the_lifetime_decide(left: int, code: int) -> None:
    assert check(of(good(left=left)), START, 0.3, 0.1).code == code


@pytest.mark.parametrize(
    ("state", "code", "why"),
    [
        ("due", OK, ""),
        ("overdue", WARNING, "50% of the lifetime left"),
        ("failing", WARNING, "the last attempt failed"),
        ("retired", WARNING, "no longer in the settings"),
        ("expired", CRITICAL, "expired"),
        ("unreadable", CRITICAL, "unreadable"),
    ],
)
def test_states_are_judged_as_status_shows_them(state: str, code: int, why: str) -> None:
    checked = check(of(replace(good(), state=state)), START, 0.3, 0.1)

    assert checked.code == code
    assert why in checked.line


def test_what_is_missing_is_critical_and_measured_as_nothing_left() -> None:
    checked = check(of(Status("www", ("example.com",), "missing")), START, 0.3, 0.1)

    assert (checked.code, checked.line) == (CRITICAL, "CERTKEEPER CRITICAL - www: missing | 'www'=0%;30:;10:;0;100")


def test_the_worst_comes_first_and_not_all_are_listed() -> None:
    checked = check(of(*(good(f"n{number}", 20) for number in range(7)), good("last", 5)), START, 0.3, 0.1)

    said = checked.line.partition(" | ")[0]
    assert checked.code == CRITICAL
    assert said.startswith("CERTKEEPER CRITICAL - last: 5% of the lifetime left, until 2026-11-28T02:20:00Z; n0: ")
    assert said.endswith("; and 3 more")


def test_an_index_that_nobody_has_noted_for_long_is_a_warning_and_one_that_nobody_ever_did_is_unknown() -> None:
    old = check(of(good(), age=timedelta(hours=7)), START, 0.3, 0.1)
    never = check(Survey((good(),), None), START, 0.3, 0.1)

    assert old.code == WARNING
    assert "no run has noted anything since 2026-11-22T19:20:00Z" in old.line
    assert never.code == UNKNOWN
    assert never.line == "CERTKEEPER UNKNOWN - no run has noted anything yet"


def test_no_certificates_are_no_trouble() -> None:
    assert check(of(), START, 0.3, 0.1).line == "CERTKEEPER OK - 0 certificates"
