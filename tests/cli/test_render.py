"""Values to text and JSON: the same values always look the same, and the JSON is a contract."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from certkeeper import __version__
from certkeeper.cli import render
from certkeeper.core.budget import EXACT_SET, FAILED_AUTHORIZATIONS, ORDERS, REGISTERED_DOMAIN, Budget, Limit
from certkeeper.core.model import Outcome
from certkeeper.core.report import budget_json
from certkeeper.jobs.status import Planned, Served, Status, Survey, planned_json
from tests.fakes import START

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
NOW = START + 10 * DAY
WEEK = timedelta(days=7)


def exact(left: float) -> Budget:
    return Budget(EXACT_SET, "0123", left, Limit(5, WEEK), NOW)


def below(left: float) -> Budget:
    return Budget(REGISTERED_DOMAIN, "example.com", left, Limit(50, WEEK), NOW)


OK = Status(
    name="example.com",
    identifiers=("example.com", "*.example.com"),
    state="ok",
    serial_number="4a1b",
    not_before=START,
    not_after=START + 90 * DAY,
    renewal_time=START + 60 * DAY,
    issuer="E7",
    budget=(exact(3.7), below(50.0)),
)
FAILING = Status(
    name="api",
    identifiers=("api.example.com",),
    state="failing",
    last_error="no hosted zone for _acme-challenge.api.example.com",
    hint="create one",
    failures=3,
    next_attempt=NOW + HOUR,
)
SURVEY = Survey((OK, FAILING), NOW)


def test_outcomes_as_text() -> None:
    outcomes = [
        Outcome("example.com", "renewed", "due since 2027-01-22 02:20Z", "4a1b", START + 90 * DAY, None, None, NOW),
        Outcome("api", "failed", "not issued yet", error="it failed", next_attempt=NOW + HOUR),
    ]

    assert render.outcomes_text(outcomes, colour=False) == (
        "NAME         OUTCOME  EXPIRES            NEXT               REASON\n"
        "example.com  renewed  2027-02-21 02:20Z  2026-12-03 02:20Z  due since 2027-01-22 02:20Z\n"
        "api          failed   -                  2026-12-03 03:20Z  not issued yet\n"
    )


def test_a_plan_as_text() -> None:
    planned = [
        Planned("example.com", "keep", "not due yet", START + 60 * DAY, budget=(exact(5.0),)),
        Planned("api", "renew", "not issued yet"),
    ]

    assert render.planned_text(planned_json(planned, NOW)["plan"], colour=False) == (
        "NAME         ACTION  UNTIL              BUDGET  REASON\n"
        "example.com  keep    2027-01-22 02:20Z  5 of 5  not due yet\n"
        "api          renew   -                  -       not issued yet\n"
    )


def test_a_status_as_text() -> None:
    assert render.status_text(SURVEY, NOW, colour=False) == (
        "NAME         EXPIRES            LEFT  RENEWAL            BUDGET  STATE\n"
        "example.com  2027-02-21 02:20Z  80 d  2027-01-22 02:20Z  3 of 5  ok\n"
        "api          -                  -     -                  -       failing\n"
        "api: no hosted zone for _acme-challenge.api.example.com (3 in a row, next attempt 2026-12-03 03:20Z)\n"
        "  hint: create one\n"
        "as of 2026-12-03 02:20Z\n"
    )


def test_what_servers_serve_as_text() -> None:
    served = (
        Served("example.com", "4a1b", same=True),
        Served("www.example.com", "0001", same=False),
        Served("api.example.com", None, same=False, error="cannot be asked: Connection refused"),
    )

    lines = render.status_text(Survey((replace(OK, served=served),), None), NOW, colour=False).splitlines()

    assert lines[2:] == [
        "example.com: example.com serves what is stored",
        "example.com: www.example.com serves another certificate than the stored one",
        "example.com: api.example.com cannot be asked: Connection refused",
        "as of never: no run has noted anything yet",
    ]


def test_states_are_coloured_on_a_terminal_and_only_there() -> None:
    coloured = render.status_text(SURVEY, NOW, colour=True)

    assert "\x1b[32mok     \x1b[0m" in coloured and "\x1b[31mfailing\x1b[0m" in coloured
    assert "\x1b" not in render.status_text(SURVEY, NOW, colour=False)


@pytest.mark.parametrize(
    ("span", "told"),
    [
        (80 * DAY, "80 d"),
        (2 * DAY, "2 d"),
        (2 * DAY - timedelta(minutes=1), "48 h"),
        (5 * HOUR, "5 h"),
        (timedelta(0), "0 h"),
        (-5 * HOUR, "-5 h"),
        (-3 * DAY, "-3 d"),
    ],
)
def test_how_long_is_left(span: timedelta, told: str) -> None:
    assert render.left(NOW + span, NOW) == told


# JSON.


def test_a_status_as_json_has_exactly_the_fields_that_were_promised() -> None:
    assert render.status_json(SURVEY) == {
        "as_of": "2026-12-03T02:20:00Z",
        "versions": {"cli": __version__, "function": None},
        "certificates": [
            {
                "name": "example.com",
                "identifiers": ["example.com", "*.example.com"],
                "state": "ok",
                "serial_number": "4a1b",
                "not_before": "2026-11-23T02:20:00Z",
                "not_after": "2027-02-21T02:20:00Z",
                "renewal_time": "2027-01-22T02:20:00Z",
                "issuer": "E7",
                "profile": None,
                "last_error": None,
                "hint": None,
                "failures": 0,
                "next_attempt": None,
                "waiting": None,
                "budget": {
                    "exact_set": {
                        "left": 3,
                        "of": 5,
                        "period_seconds": 604800,
                        "possible_from": "2026-12-03T02:20:00Z",
                    },
                    "registered_domain": {
                        "left": 50,
                        "of": 50,
                        "period_seconds": 604800,
                        "about": "example.com",
                        "possible_from": "2026-12-03T02:20:00Z",
                    },
                },
                "pinned_since": None,
            },
            {
                "name": "api",
                "identifiers": ["api.example.com"],
                "state": "failing",
                "serial_number": None,
                "not_before": None,
                "not_after": None,
                "renewal_time": None,
                "issuer": None,
                "profile": None,
                "last_error": "no hosted zone for _acme-challenge.api.example.com",
                "hint": "create one",
                "failures": 3,
                "next_attempt": "2026-12-03T03:20:00Z",
                "waiting": None,
                "budget": None,
                "pinned_since": None,
            },
        ],
    }


def test_what_servers_serve_is_in_the_json_only_if_they_were_asked() -> None:
    served = replace(OK, served=(Served("example.com", "0001", same=False),))

    (fields,) = render.status_json(Survey((served,), None))["certificates"]

    assert fields["served"] == [{"identifier": "example.com", "serial_number": "0001", "same": False, "error": None}]
    assert render.status_json(Survey((), None))["certificates"] == []


def test_a_function_of_another_version_is_told() -> None:
    same, other = Survey((OK,), NOW, {"function": __version__}), Survey((OK,), NOW, {"function": "0.0.1"})

    assert render.status_json(other)["versions"] == {"cli": __version__, "function": "0.0.1"}
    assert f"this is certkeeper {__version__}, and the function runs 0.0.1" in render.status_text(other, NOW, False)
    assert "the function runs" not in render.status_text(same, NOW, False)


def test_a_plan_as_json() -> None:
    planned = [Planned("api", "wait", "due", NOW, "it failed", "mend it", (exact(1.0),))]

    assert planned_json(planned, NOW) == {
        "as_of": "2026-12-03T02:20:00Z",
        "plan": [
            {
                "name": "api",
                "action": "wait",
                "reason": "due",
                "until": "2026-12-03T02:20:00Z",
                "last_error": "it failed",
                "hint": "mend it",
                "budget": {
                    "exact_set": {
                        "left": 1,
                        "of": 5,
                        "period_seconds": 604800,
                        "possible_from": "2026-12-04T11:56:00Z",
                    }
                },
            }
        ],
    }


def test_what_waits_for_a_limit_says_until_when_and_how_it_need_not() -> None:
    why, hint = "only 1 of the CA's 5 is left", "certkeeper renew api --spend-reserve"
    waiting = Status("api", ("a.test",), "due", hint=hint, next_attempt=NOW, waiting=why)

    text = render.status_text(Survey((waiting,), NOW), NOW, colour=False)

    assert f"api: {why}; possible from 2026-12-03 02:20Z\n  hint: {hint}\n" in text
    rows = planned_json([Planned("api", "wait", why, NOW, hint=hint)], NOW)["plan"]
    assert f"api: hint: {hint}\n" in render.planned_text(rows, colour=False)


def test_what_only_a_person_can_try_again_says_so() -> None:
    text = render.status_text(Survey((replace(FAILING, next_attempt=None),), NOW), NOW, colour=False)

    assert "(3 in a row, the next when a person asks)" in text


@pytest.mark.parametrize(
    ("budgets", "text"),
    [
        pytest.param((), "-", id="no limit is known"),
        pytest.param((exact(5.0), below(50.0)), "5 of 5", id="nothing is spent"),
        pytest.param((exact(0.0), below(49.0)), "0 of 5, 49 of 50 below example.com", id="of two limits"),
        pytest.param(
            (
                exact(-1.0),
                Budget(ORDERS, "", 299.0, Limit(300, 3 * HOUR), NOW),
                Budget(FAILED_AUTHORIZATIONS, "a.test", 0.2, Limit(5, HOUR), NOW),
            ),
            "0 of 5, 299 of 300 orders, 0 of 5 failures of a.test",
            id="of the others",
        ),
    ],
)
def test_budgets_in_a_cell(budgets: tuple[Budget, ...], text: str) -> None:
    assert render.budget_text(budget_json(budgets)) == text


def test_everything_that_is_json_can_be_written_as_json() -> None:
    assert json.dumps(render.status_json(SURVEY))


# HTML.


def test_a_page_holds_no_markup_of_others_and_fetches_nothing() -> None:
    evil = replace(FAILING, last_error='<script>alert("x")</script>', name="a&b")

    page = render.status_html(Survey((evil,), NOW), NOW)

    assert "<script" not in page and "a&amp;b" in page and "&lt;script&gt;" in page
    assert "http:" not in page and "https:" not in page and "src=" not in page
    assert '<tr class="failing">' in page
