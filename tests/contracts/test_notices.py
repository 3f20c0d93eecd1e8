"""The promise of the Notices port: Amazon SNS on the sandbox, and the fake."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import boto3
import pytest

from certkeeper.adapters.sns_notices import SnsNotices
from certkeeper.core.errors import NoticeError
from certkeeper.core.gauges import Concern, Notice, notice
from certkeeper.core.ports import Notices
from certkeeper.sandbox.aws import AwsServer
from certkeeper.sandbox.calls import Desk, Fault
from certkeeper.sandbox.route53 import HostedZones
from tests.fakes import START, FakeNotices

LONG = notice([Concern("n" * 64, urgent=True, error="x" * 500, not_after=START)] * 40, "s3://bucket/prod", START)


@dataclass
class Place:
    """Where notices go; `received` tells what arrived, `close` has everything be refused from now on."""

    notices: Notices
    received: Callable[[], list[Notice]]
    close: Callable[[], object]


@pytest.fixture(name="place", params=["fake", "sns"])
def _place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    if request.param == "fake":
        fake = FakeNotices()
        yield Place(fake, lambda: fake.sent, lambda: setattr(fake, "refuse", NoticeError("no", "ask")))
        return
    desk = Desk()
    with AwsServer(desk, HostedZones()) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        sns, sqs = boto3.client("sns"), boto3.client("sqs")
        topic = sns.create_topic(Name="certkeeper-notices")["TopicArn"]
        queue = sqs.create_queue(QueueName="people")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)

        def received() -> list[Notice]:
            found = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
            said = [json.loads(one["Body"]) for one in found]
            return [Notice(one["Subject"], one["Message"]) for one in said]

        yield Place(SnsNotices(sns, topic), received, lambda: sns.delete_topic(TopicArn=topic))
    desk.stop()


@pytest.mark.parametrize("sent", [Notice("a trial", "nothing is wrong\n"), LONG], ids=["short", "long"])
def test_a_notice_arrives_as_it_was_sent(place: Place, sent: Notice) -> None:
    place.notices.send(sent)

    assert place.received() == [sent]


def test_a_notice_that_cannot_be_sent_is_an_error_with_a_hint(place: Place) -> None:
    place.close()

    with pytest.raises(NoticeError) as caught:
        place.notices.send(Notice("a trial", "nothing is wrong"))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("code", "hint"), [("NotFound", "certkeeper deploy"), ("AuthorizationError", "sns:Publish"), ("Strange", "check")]
)
def test_a_refusal_by_sns_says_what_to_do(monkeypatch: pytest.MonkeyPatch, code: str, hint: str) -> None:
    desk = Desk()
    with AwsServer(desk, HostedZones()) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        notices = SnsNotices(boto3.client("sns"), "arn:aws:sns:eu-west-1:123456789012:certkeeper-notices")
        with desk.fault(Fault("refuse", "sns", "Publish", status=403, code=code)), pytest.raises(NoticeError) as caught:
            notices.send(Notice("a trial", "nothing is wrong"))
    desk.stop()

    assert caught.value.hint is not None and hint in caught.value.hint
    assert code in caught.value.message
