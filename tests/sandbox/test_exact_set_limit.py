"""The token bucket of certificates per exact set of identifiers."""

from __future__ import annotations

import pytest

from certkeeper.sandbox.exact_set_limit import next_allowed, refusal

HOUR = 3600.0
DAY = 24 * HOUR
NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("issued_at", "hours"),
    [
        pytest.param([], None, id="nothing issued"),
        pytest.param([NOW] * 4, None, id="one token left"),
        pytest.param([NOW] * 5, 33.6, id="all five at once"),
        pytest.param([NOW - 33.6 * HOUR] * 5, 0, id="all five, one refill ago"),
        pytest.param([NOW - 30 * HOUR] * 5, 3.6, id="all five, not quite a refill ago"),
        pytest.param([NOW - day * DAY for day in range(5)], None, id="one a day, five days long"),
        pytest.param([NOW - 8 * DAY] * 5 + [NOW] * 4, None, id="what is older than a week is forgotten"),
        pytest.param([NOW] * 6, 67.2, id="more than the bucket holds"),
    ],
)
def test_the_next_order_is_taken_once_a_token_has_come_back(issued_at: list[float], hours: float | None) -> None:
    allowed = next_allowed(5, issued_at)

    if hours is None:
        assert allowed <= NOW
    else:
        assert allowed == pytest.approx(NOW + hours * HOUR)


def test_one_a_day_runs_dry_after_a_week() -> None:
    """What a site meets that asks for a new certificate at each daily replacement of its instance."""
    issued_at: list[float] = []
    for day in range(30):
        now = NOW + day * DAY
        if next_allowed(5, issued_at) > now:
            break
        issued_at.append(now)

    assert 5 < len(issued_at) < 30


def test_the_refusal_says_when_in_words_and_in_seconds() -> None:
    response = refusal(5, NOW + 90.4, NOW)

    assert response.problem == "rateLimited"
    assert response.header("retry-after") == "90"
    assert "retry after 2027-01-15 08:01:30 UTC: see https://letsencrypt.org/" in response.json["detail"]
