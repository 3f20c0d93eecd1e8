"""Who has not confirmed yet, as SNS lists it; moto confirms every subscription by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from certkeeper.adapters.sns_notices import unconfirmed
from certkeeper.core.errors import NoticeError

TOPIC = "arn:aws:sns:eu-west-1:123456789012:keeper-notices"


class Sns:
    """Two pages of a topic's subscriptions."""

    def __init__(self, *pages: dict[str, str]) -> None:
        self._pages = pages

    def get_paginator(self, operation: str) -> Sns:
        assert operation == "list_subscriptions_by_topic"
        return self

    def paginate(self, **asked: Any) -> Iterator[dict[str, Any]]:
        if asked["TopicArn"] != TOPIC:
            raise ClientError({"Error": {"Code": "NotFound", "Message": "Topic does not exist"}}, "ListSubscriptions")
        for page in self._pages:
            yield {"Subscriptions": [{"Endpoint": to, "SubscriptionArn": arn} for to, arn in page.items()]}


def test_only_those_who_have_not_confirmed_are_listed() -> None:
    sns = Sns(
        {"ops@example.com": f"{TOPIC}:1234", "pager@example.com": "PendingConfirmation"},
        {"boss@example.com": "PendingConfirmation"},
    )

    assert unconfirmed(sns, TOPIC) == ["boss@example.com", "pager@example.com"]


def test_a_topic_that_is_not_there_is_an_error() -> None:
    with pytest.raises(NoticeError, match="NotFound"):
        unconfirmed(Sns(), TOPIC + "-gone")
