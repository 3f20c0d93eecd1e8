"""Outcomes as JSON: what `renew --json` prints and the function answers and logs. A contract."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from certkeeper.core.document import instant, written
from certkeeper.core.errors import DocumentError
from certkeeper.core.model import Account, Outcome


def outcomes_json(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The object that `renew --json` prints."""
    return {
        "outcomes": [
            {
                "name": one.name,
                "outcome": one.outcome,
                "reason": one.reason,
                "serial_number": one.serial_number,
                "not_after": _instant(one.not_after),
                "error": one.error,
                "hint": one.hint,
                "next_attempt": _instant(one.next_attempt),
            }
            for one in outcomes
        ]
    }


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


def _instant(moment: datetime | None) -> str | None:
    return written(moment) if moment else None
