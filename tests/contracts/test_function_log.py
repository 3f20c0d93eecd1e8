"""What the function says while it works, as CloudWatch Logs lists it: page after page, and empty pages among them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from certkeeper.adapters.function_log import FunctionLog


class Logs:
    """A log group's pages, or none for whoever may not look."""

    def __init__(self, *pages: list[str]) -> None:
        self.pages = list(pages)
        self.closed = False

    def get_paginator(self, operation: str) -> Logs:
        assert operation == "filter_log_events"
        return self

    def paginate(self, **asked: Any) -> Iterator[dict[str, Any]]:
        assert asked == {"logGroupName": "/aws/lambda/keeper", "startTime": 1}
        if self.closed:
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "FilterLogEvents")
        for page in self.pages:
            yield {"events": [{"eventId": line, "message": line + "\n"} for line in page]}


def test_every_line_is_told_once_though_a_page_before_it_is_empty() -> None:
    logs = Logs([], ['{"doing": "proving"}', "no JSON", '["a list"]'], ['{"doing": "stored"}'])
    log = FunctionLog(logs, "/aws/lambda/keeper", 1)

    assert log.new_lines() == [{"doing": "proving"}, {"doing": "stored"}]
    logs.pages.append(['{"doing": "finalizing"}'])
    assert log.new_lines() == [{"doing": "finalizing"}]


def test_not_being_allowed_to_look_is_an_empty_log() -> None:
    logs = Logs(['{"doing": "proving"}'])
    logs.closed = True

    assert FunctionLog(logs, "/aws/lambda/keeper", 1).new_lines() == []
