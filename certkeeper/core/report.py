"""Outcomes as JSON: what `renew --json` prints and the function answers and logs. A contract."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from certkeeper.core.budget import FAILED_AUTHORIZATIONS, REGISTERED_DOMAIN, Budget
from certkeeper.core.document import instant, written
from certkeeper.core.errors import DocumentError
from certkeeper.core.model import Account, Outcome

LARGEST_ANSWER = 5_000_000
"""Bytes of all rows together; of what a function answers Lambda takes 6 MB, and makes a failure of more."""


def outcomes_json(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The object that `renew --json` prints."""
    return {"outcomes": [outcome_json(one) for one in outcomes]}


def outcome_json(one: Outcome) -> dict[str, Any]:
    """One of these outcomes."""
    return {
        "name": one.name,
        "outcome": one.outcome,
        "reason": one.reason,
        "serial_number": one.serial_number,
        "not_after": _instant(one.not_after),
        "error": one.error,
        "hint": one.hint,
        "next_attempt": _instant(one.next_attempt),
    }


def shortened(answer: dict[str, Any], rows: str = "outcomes", sort: str = "outcome") -> dict[str, Any]:
    """An answer with no more rows than the function can give: those of names that are kept go first, and `left_out`
    tells how many of each sort went. One that is small enough is left as it is.
    """
    sizes = [len(json.dumps(one)) for one in answer[rows]]
    if sum(sizes) <= LARGEST_ANSWER:
        return answer
    left, said, left_out = LARGEST_ANSWER, [], Counter[str]()
    for one, size in sorted(zip(answer[rows], sizes, strict=True), key=lambda pair: pair[0][sort] in ("kept", "keep")):
        left -= size
        if left >= 0:
            said.append(one)
        else:
            left_out[one[sort]] += 1
    return {**answer, rows: said, "left_out": dict(left_out)}


def left_out_of(answer: dict[str, Any]) -> dict[str, int]:
    """By outcome, how many an answer of the function has left out. Raises DocumentError."""
    said = answer.get("left_out", {})
    if not isinstance(said, dict) or not all(isinstance(count, int) for count in said.values()):
        raise DocumentError("the answer is not that of a tick", "is the function's version the same?")
    return said


def outcomes_from_json(said: dict[str, Any]) -> tuple[Outcome, ...]:
    """What the function answered. Raises DocumentError if that is something else."""
    try:
        return tuple(
            Outcome(
                name=str(one["name"]),
                outcome=str(one["outcome"]),
                reason=str(one["reason"]),
                serial_number=one["serial_number"],
                not_after=instant(one["not_after"]) if one["not_after"] else None,
                error=one["error"],
                hint=one["hint"],
                next_attempt=instant(one["next_attempt"]) if one["next_attempt"] else None,
            )
            for one in said["outcomes"]
        )
    except (KeyError, TypeError, ValueError):
        raise DocumentError("the answer is not that of a tick", "is the function's version the same?") from None


def accounts_json(accounts: Sequence[Account | None]) -> dict[str, Any]:
    """The object that `account --json` prints and the function answers. No word of the keys but how they are sealed."""
    return {
        "accounts": [
            {
                "ca_directory": one.ca,
                "account_url": one.url,
                "sealing": one.private_key.sealing,
                "kms_key_arn": one.private_key.kms_key_arn,
                "rollover_unfinished": one.next_key is not None,
            }
            for one in accounts
            if one is not None
        ]
    }


def budget_json(budgets: Sequence[Budget]) -> dict[str, Any] | None:
    """By limit: what is left, of how many, in which period, of what, and from when one more certificate is possible
    that leaves the reserve alone; None if no limit is known.
    """
    return {
        one.limit: {
            "left": one.whole,
            "of": one.of.count,
            "period_seconds": int(one.of.period.total_seconds()),
            **({"about": one.about} if one.limit in (REGISTERED_DOMAIN, FAILED_AUTHORIZATIONS) else {}),
            "possible_from": _instant(one.possible_from()),
        }
        for one in budgets
    } or None


def _instant(moment: datetime | None) -> str | None:
    return written(moment) if moment else None
