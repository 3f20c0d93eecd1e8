"""Notices by Amazon SNS: one Publish to a topic that people have subscribed to."""

from __future__ import annotations

from typing import Any

from certkeeper.adapters.aws_refusals import Refused, code_of, hint_for
from certkeeper.core.errors import NoticeError
from certkeeper.core.gauges import Notice

HINTS = {
    "NotFound": "the topic is gone: certkeeper deploy makes it anew",
    "AuthorizationError": "the role lacks sns:Publish on the topic",
    "KMSAccessDenied": "the role may not use the KMS key of the topic",
}


class SnsNotices:
    """Messages to one topic."""

    def __init__(self, sns: Any, topic_arn: str) -> None:
        self._sns = sns
        self._topic_arn = topic_arn

    def send(self, notice: Notice) -> None:
        try:
            self._sns.publish(TopicArn=self._topic_arn, Subject=notice.subject, Message=notice.text)
        except Refused as error:
            raise NoticeError(
                f"the notice {notice.subject!r} could not be sent to {self._topic_arn}: {code_of(error)}",
                hint_for(error, HINTS, "check the topic and the role's right to publish there"),
            ) from None


def unconfirmed(sns: Any, topic_arn: str) -> list[str]:
    """The addresses that have not confirmed their subscription, and get nothing until then. Raises NoticeError."""
    try:
        pages = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic_arn)
        listed = [one for page in pages for one in page["Subscriptions"]]
    except Refused as error:
        raise NoticeError(
            f"SNS does not say who has subscribed to {topic_arn}: {code_of(error)}",
            hint_for(error, HINTS, "check the right to sns:ListSubscriptionsByTopic"),
        ) from None
    return sorted(one["Endpoint"] for one in listed if one["SubscriptionArn"] == "PendingConfirmation")
