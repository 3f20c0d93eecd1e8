"""The exact-set limit as the CA's token bucket sees it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from certkeeper.core.budget import Limit, exact_set, limits_of

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
LIMIT = Limit(5, timedelta(days=7))


@pytest.mark.parametrize(
    ("hours_ago", "left", "usual", "emergency"),
    [
        pytest.param([], 5, True, True, id="nothing issued"),
        pytest.param([0], 4, True, True, id="one just now"),
        pytest.param([0, 0, 0], 2, True, True, id="three just now"),
        pytest.param([0, 0, 0, 0], 1, False, True, id="four just now: the last one is the reserve"),
        pytest.param([0, 0, 0, 0, 0], 0, False, False, id="all spent"),
        pytest.param([34, 34, 34, 34, 34], 1, False, True, id="all spent 34 hours ago: one is back"),
        pytest.param([168] * 5, 5, True, True, id="all spent a week ago"),
        pytest.param([100, 100, 66, 66, 0], 2, True, True, id="one every 34 hours keeps pace"),
    ],
)
def test_tokens_are_spent_by_issuance_and_come_back_one_by_one(
    hours_ago: list[int], left: int, usual: bool, emergency: bool
) -> None:
    budget = exact_set([NOW - timedelta(hours=one) for one in hours_ago], NOW, LIMIT)

    assert budget.whole == left
    assert budget.allows(reserve=False) == usual
    assert budget.allows(reserve=True) == emergency


def test_the_instant_at_which_it_becomes_possible_is_told() -> None:
    budget = exact_set([NOW] * 4, NOW, LIMIT)

    assert budget.possible_from == NOW + timedelta(hours=33.6)
    assert exact_set([NOW] * 4, budget.possible_from, LIMIT).allows(reserve=False)
    assert not exact_set([NOW] * 4, budget.possible_from - timedelta(minutes=1), LIMIT).allows(reserve=False)


def test_only_known_cas_have_limits() -> None:
    assert limits_of("https://acme-v02.api.letsencrypt.org/directory").exact_set == LIMIT
    assert limits_of("https://127.0.0.1:14000/dir").exact_set is None
