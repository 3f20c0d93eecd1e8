from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from certkeeper.core.gauges import LISTED, Concern, Gauges, mark, metrics_line, notice, trial

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
STORE = "s3://bucket/prod"
WELL = Concern("www", serial_number="4a1b", not_after=NOW + 20 * DAY)
FAILING = replace(
    WELL, failing=True, since=NOW - timedelta(hours=1), error="no zone", hint="make one", next_attempt=NOW
)
URGENT = replace(FAILING, urgent=True, not_after=NOW + 3 * DAY)


def test_the_metrics_line_declares_every_gauge_that_it_carries() -> None:
    line: Any = metrics_line(Gauges(failing=2, urgent=1, budget_left=4), "prod", NOW)

    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert line["_aws"]["Timestamp"] == 1795435200000
    assert (directive["Namespace"], directive["Dimensions"]) == ("certkeeper", [["Deployment"]])
    assert {one["Name"]: line[one["Name"]] for one in directive["Metrics"]} == {
        "TickCompleted": 1, "CertificatesFailing": 2, "CertificatesUrgent": 1, "BudgetLeft": 4,
    }  # fmt: skip
    assert line["Deployment"] == "prod"


def test_a_budget_without_limit_is_no_gauge() -> None:
    assert "BudgetLeft" not in metrics_line(Gauges(0, 0), "prod", NOW)


def test_what_nobody_knows_is_no_gauge() -> None:
    line = metrics_line(Gauges(1, None), "prod", NOW)

    assert "CertificatesUrgent" not in json.dumps(line)
    assert line["CertificatesFailing"] == 1


@pytest.mark.parametrize(
    ("concern", "marked"),
    [
        pytest.param(WELL, None, id="well"),
        pytest.param(FAILING, None, id="failing for an hour may pass by itself"),
        pytest.param(replace(FAILING, since=NOW - DAY), "failing 2026-11-22T12:00:00Z", id="failing for a day"),
        pytest.param(replace(FAILING, needs_a_person=True), "failing 2026-11-23T11:00:00Z", id="a person must act"),
        pytest.param(URGENT, "urgent 4a1b", id="urgent"),
        pytest.param(replace(WELL, failing=True), None, id="unreadable, which the alarm counts"),
    ],
)
def test_a_person_is_told_of_what_does_not_pass_by_itself(concern: Concern, marked: str | None) -> None:
    assert mark(concern, NOW) == marked


def test_a_notice_says_what_why_what_to_do_and_until_when_and_ends_with_the_line_to_paste() -> None:
    told = notice([URGENT], STORE, NOW)

    assert told.subject == "certkeeper: www runs out and is not renewed"
    assert told.text.splitlines() == [
        "www: expires 2026-11-26T12:00:00Z, in 3 days",
        "  why: no zone",
        "  what to do: make one",
        "  tried again by itself: from 2026-11-23T12:00:00Z on",
        "",
        "To see everything, and to try at once:",
        "",
        "certkeeper --from s3://bucket/prod status",
        "certkeeper --from s3://bucket/prod renew www",
    ]


def test_the_most_pressing_stand_first_and_a_long_list_is_cut() -> None:
    many = [replace(FAILING, name=f"n{number:02}") for number in range(LISTED + 5)]

    told = notice([*many, URGENT], STORE, NOW)

    assert told.text.startswith("www: expires")
    assert told.subject == f"certkeeper: www and {LISTED + 5} more runs out and is not renewed"
    assert "and 6 more" in told.text
    assert told.text.endswith("renew\n")


@pytest.mark.parametrize(
    ("not_after", "said"),
    [(None, "www: there is no certificate yet"), (NOW - DAY, "www: expired since 2026-11-22T12:00:00Z"),
     (NOW + DAY, "www: expires 2026-11-24T12:00:00Z, in 24 hours")],
)  # fmt: skip
def test_a_notice_says_how_long_there_is_left(not_after: datetime | None, said: str) -> None:
    assert notice([replace(URGENT, not_after=not_after)], STORE, NOW).text.splitlines()[0] == said


def test_a_subject_is_what_sns_takes() -> None:
    subject = notice([replace(URGENT, name="n" * 64), FAILING, FAILING], STORE, NOW).subject

    assert subject.isascii() and subject.isprintable() and len(subject) < 100


def test_a_trial_says_that_nothing_is_wrong() -> None:
    assert "nothing is wrong" in trial(STORE, NOW).subject
