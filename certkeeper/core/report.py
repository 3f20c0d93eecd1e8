"""Outcomes as JSON: what `renew --json` prints and the function answers and logs. A contract."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from certkeeper.core.document import written
from certkeeper.core.model import Outcome


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


def _instant(moment: datetime | None) -> str | None:
    return written(moment) if moment else None
