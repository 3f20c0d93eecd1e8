"""What the function says while it works: its log in CloudWatch (FilterLogEvents), for a person who waits."""

from __future__ import annotations

import json
from typing import Any

from certkeeper.adapters.aws_refusals import Refused


class FunctionLog:
    """The lines that were logged from an instant on, each told once. Not being allowed to look is an empty log."""

    def __init__(self, logs: Any, group: str, since: int) -> None:
        """`since` is in milliseconds since 1970."""
        self._logs = logs
        self._group = group
        self._since = since
        self._seen: set[str] = set()

    def new_lines(self) -> list[dict[str, Any]]:
        """The JSON objects that were logged since the last call."""
        try:
            # Page after page: one may be empty, and the next one not.
            pages = self._logs.get_paginator("filter_log_events").paginate(
                logGroupName=self._group, startTime=self._since
            )
            events = [one for page in pages for one in page["events"]]
        except Refused:
            return []
        new = [one for one in events if one["eventId"] not in self._seen]
        self._seen.update(one["eventId"] for one in new)
        return [line for one in new if (line := _object(one["message"])) is not None]


def _object(message: str) -> dict[str, Any] | None:
    try:
        said = json.loads(message)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None
