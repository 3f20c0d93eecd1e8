"""Twenty keepers at once on an empty store: the fence lets one of them pay, whoever it is."""

from __future__ import annotations

import pytest

from tests.live.keepers import Said
from tests.live.operators import Operator

pytestmark = pytest.mark.live

AT_ONCE = 20


def all_at_once(operator: Operator, *arguments: str) -> list[Said]:
    keepers = [operator.start("renew", "--json", *arguments) for _ in range(AT_ONCE)]
    return [keeper.end() for keeper in keepers]


@pytest.mark.parametrize("how", ["as ticks", "by name"])
def test_twenty_keepers_at_once_get_one_certificate_with_one_account(operator: Operator, how: str) -> None:
    said = all_at_once(operator, *([operator.name] if how == "by name" else []))

    assert [(one.status, one.talk) for one in said] == [(0, "")] * AT_ONCE
    assert {one.outcomes[operator.name]["serial_number"] for one in said} == set(operator.issued())
    assert [call.status for call in operator.calls("acme", "newAccount")].count(201) == 1
    assert len([path for path in operator.objects() if path.startswith("accounts/")]) == 1
    operator.assert_one_good_certificate()
