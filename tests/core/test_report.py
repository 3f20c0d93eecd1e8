"""The JSON of outcomes: a contract."""

from __future__ import annotations

from certkeeper.core.model import Outcome
from certkeeper.core.report import outcomes_json
from tests.fakes import START


def test_an_outcome_has_exactly_the_fields_that_were_promised() -> None:
    full = Outcome("www", "failed", "due", "4a1b", START, "it failed", "mend it", START)

    assert outcomes_json([full]) == {
        "outcomes": [
            {
                "name": "www",
                "outcome": "failed",
                "reason": "due",
                "serial_number": "4a1b",
                "not_after": "2026-11-23T02:20:00Z",
                "error": "it failed",
                "hint": "mend it",
                "next_attempt": "2026-11-23T02:20:00Z",
            }
        ]
    }


def test_what_is_not_known_is_null_and_not_left_out() -> None:
    (fields,) = outcomes_json([Outcome("www", "waiting", "due")])["outcomes"]

    assert [fields[key] for key in ("serial_number", "not_after", "error", "hint", "next_attempt")] == [None] * 5


def test_outcomes_keep_their_order() -> None:
    named = outcomes_json([Outcome(name, "kept", "") for name in "cab"])["outcomes"]

    assert [one["name"] for one in named] == ["c", "a", "b"]
