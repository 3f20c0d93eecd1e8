"""Killed at the moments that may cost something, on a CA without renewal information and profiles."""

from __future__ import annotations

import pytest

from certkeeper.sandbox.calls import Phase
from certkeeper.sandbox.stack import Sandbox
from tests.live.operators import Operator
from tests.live.test_killed_anywhere import killed_and_run_again

pytestmark = [pytest.mark.live, pytest.mark.parametrize("sandbox", ["Caddy"], indirect=True, scope="module")]


@pytest.mark.parametrize(
    ("moment", "phase", "again"),
    [
        ("acme newAccount 1", "after", "tick"),
        ("acme newOrder 1", "after", "renew NAME"),
        ("s3 PutObject journal 2", "after", "tick"),
        ("route53 ChangeResourceRecordSets 1", "after", "tick"),
        ("acme challenge 2", "after", "renew NAME"),
        ("acme finalize 1", "before", "tick"),
        ("acme finalize 1", "after", "tick"),
        ("acme certificate 1", "after", "renew NAME"),
        ("s3 PutObject certificates 1", "after", "tick"),
    ],
)
def test_killed_the_next_run_ends_with_one_certificate(sandbox: Sandbox, moment: str, phase: Phase, again: str) -> None:
    killed_and_run_again(sandbox, moment, phase, again)


def test_forced_renewals_name_no_predecessor_and_each_costs_one_certificate(sandbox: Sandbox) -> None:
    with Operator(sandbox, wildcard=True) as operator:
        for _ in range(2):
            said = operator.renew("--force", operator.name)

            assert said.status == 0, said.talk
        operator.assert_one_good_certificate(issued=2)
