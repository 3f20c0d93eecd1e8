"""The sandbox's CloudFormation: what it says is there is there, and what it does not know it refuses."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from certkeeper.sandbox.aws import AwsServer
from certkeeper.sandbox.calls import Desk, Fault
from certkeeper.sandbox.cloudformation import CloudFormation
from certkeeper.sandbox.route53 import HostedZones

QUEUE = {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "lost"}}
TOPIC = {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "told"}}
BUCKET = {
    "Type": "AWS::S3::Bucket",
    "DeletionPolicy": "RetainExceptOnCreate",
    "Properties": {"BucketName": "kept-bucket", "VersioningConfiguration": {"Status": "Enabled"}},
}


class Account:
    """Clients of one AwsServer, and the steps of a change set."""

    def __init__(self, server: AwsServer) -> None:
        self._session = boto3.session.Session(
            aws_access_key_id="AKIADEPLOYER", aws_secret_access_key="test", region_name=server.region
        )
        self._url = server.url
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = self._session.client(
                service,  # type: ignore[call-overload] # any service
                endpoint_url=self._url,
            )
        return self._clients[service]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def proposed(self, resources: dict[str, Any], kind: str = "CREATE", **more: Any) -> dict[str, Any]:
        sections: dict[str, Any] = {
            key: more.pop(key) for key in ("Parameters", "Conditions", "Outputs") if key in more
        }
        template: dict[str, Any] = {"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources, **sections}
        body = {
            "TemplateBody": json.dumps(template),
            "ChangeSetType": kind,
            "ChangeSetName": f"change-{time.time_ns()}",
        }
        arn = self.client("cloudformation").create_change_set(StackName="stack", **body, **more)["Id"]
        described: dict[str, Any] = self.client("cloudformation").describe_change_set(ChangeSetName=arn)
        return described

    def applied(self, resources: dict[str, Any], kind: str = "CREATE", **more: Any) -> dict[str, Any]:
        arn = self.proposed(resources, kind, **more)["ChangeSetId"]
        self.client("cloudformation").execute_change_set(ChangeSetName=arn)
        return self.settled()

    def settled(self) -> dict[str, Any]:
        """The stack, once nothing happens to it any more."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            found: dict[str, Any] = self.client("cloudformation").describe_stacks(StackName="stack")["Stacks"][0]
            if not found["StackStatus"].endswith("_IN_PROGRESS"):
                return found
            time.sleep(0.01)
        raise AssertionError("the operation does not end")

    def deleted(self, arn: str) -> dict[str, Any]:
        """The stack, once it has been deleted or could not be."""
        self.client("cloudformation").delete_stack(StackName=arn)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            found: dict[str, Any] = self.client("cloudformation").describe_stacks(StackName=arn)["Stacks"][0]
            if found["StackStatus"] in ("DELETE_COMPLETE", "DELETE_FAILED"):
                return found
            time.sleep(0.01)
        raise AssertionError("the deletion does not end")

    def events(self) -> list[tuple[str, str]]:
        said = self.client("cloudformation").describe_stack_events(StackName="stack")["StackEvents"]
        return [(one["LogicalResourceId"], one["ResourceStatus"]) for one in reversed(said)]

    def queues(self) -> list[str]:
        return [url.rpartition("/")[2] for url in self.client("sqs").list_queues().get("QueueUrls", [])]


@pytest.fixture(scope="module")
def server() -> Iterator[AwsServer]:
    desk = Desk()
    with AwsServer(desk, HostedZones()) as server:
        yield server
    desk.stop()


@pytest.fixture
def aws(server: AwsServer) -> Iterator[Account]:
    server.reset()
    formation = CloudFormation(server)
    account = Account(server)
    yield account
    account.close()
    formation.close()


def refused(aws: Account, resources: dict[str, Any], **more: Any) -> str:
    with pytest.raises(ClientError) as caught:
        aws.proposed(resources, **more)
    return str(caught.value.response["Error"]["Message"])


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ({"A": {"Type": "AWS::S3::Bukket", "Properties": {}}}, "Unrecognized resource types: [AWS::S3::Bukket]"),
        ({"A": {"Type": "AWS::SQS::Queue", "Properties": {"Coulour": 1}}}, "does not know Coulour of A"),
        ({"A": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": {"Ref": "B"}}}}, "dependencies [B]"),
        ({"A": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": {"Fn::Rot13": "B"}}}}, "has no Fn::Rot13"),
        (
            {name: {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": {"Ref": other}}}
             for name, other in (("A", "B"), ("B", "A"))},
            "Circular dependency",
        ),
    ],
)  # fmt: skip
def test_what_it_does_not_know_is_refused_and_nothing_is_made(aws: Account, resources: Any, said: str) -> None:
    assert said in refused(aws, resources)
    assert aws.queues() == []


def test_a_role_needs_to_be_acknowledged(aws: Account) -> None:
    trust = {"Version": "2012-10-17", "Statement": []}
    role = {"Type": "AWS::IAM::Role", "Properties": {"RoleName": "r", "AssumeRolePolicyDocument": trust}}

    assert "CAPABILITY_NAMED_IAM" in refused(aws, {"Role": role})
    assert "CAPABILITY_NAMED_IAM" in refused(aws, {"Role": role}, Capabilities=["CAPABILITY_IAM"])
    assert aws.applied({"Role": role}, Capabilities=["CAPABILITY_NAMED_IAM"])["StackStatus"] == "CREATE_COMPLETE"


def test_a_proposal_is_reviewed_before_anything_is_made(aws: Account) -> None:
    proposal = aws.proposed({"Queue": QUEUE})

    assert [one["ResourceChange"]["LogicalResourceId"] for one in proposal["Changes"]] == ["Queue"]
    assert (
        aws.client("cloudformation").describe_stacks(StackName="stack")["Stacks"][0]["StackStatus"]
        == "REVIEW_IN_PROGRESS"
    )
    assert aws.queues() == []


def test_resources_are_made_changed_and_taken_away(aws: Account) -> None:
    made = aws.applied({"Queue": QUEUE, "Topic": TOPIC})
    changed_queue = {**QUEUE, "Properties": {"QueueName": "lost", "MessageRetentionPeriod": 600}}
    changed = aws.applied({"Queue": changed_queue}, "UPDATE")

    assert (made["StackStatus"], changed["StackStatus"]) == ("CREATE_COMPLETE", "UPDATE_COMPLETE")
    sqs = aws.client("sqs")
    url = sqs.get_queue_url(QueueName="lost")["QueueUrl"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert found["MessageRetentionPeriod"] == "600"
    assert aws.client("sns").list_topics()["Topics"] == []
    assert aws.events()[-3:] == [
        ("Topic", "DELETE_IN_PROGRESS"), ("Topic", "DELETE_COMPLETE"), ("stack", "UPDATE_COMPLETE"),
    ]  # fmt: skip


def test_another_name_is_another_resource(aws: Account) -> None:
    aws.applied({"Queue": QUEUE})
    renamed = {"Queue": {**QUEUE, "Properties": {"QueueName": "found"}}}
    (change,) = aws.proposed(renamed, "UPDATE")["Changes"]
    aws.applied(renamed, "UPDATE")

    assert change["ResourceChange"]["Replacement"] == "True"
    assert aws.queues() == ["found"]


def test_no_changes_are_no_change_set(aws: Account) -> None:
    aws.applied({"Queue": QUEUE})
    proposal = aws.proposed({"Queue": QUEUE}, "UPDATE")

    assert proposal["Status"] == "FAILED"
    assert "didn't contain changes" in proposal["StatusReason"]


def test_references_conditions_and_parameters_come_to_what_they_name(aws: Account) -> None:
    more: dict[str, Any] = {
        "Parameters": {"Wanted": {"Type": "String", "Default": "no"}},
        "Conditions": {"IsWanted": {"Fn::Equals": [{"Ref": "Wanted"}, "yes"]}},
        "Outputs": {
            "Arn": {"Value": {"Fn::GetAtt": ["Queue", "Arn"]}},
            "Text": {"Value": {"Fn::Sub": "${Wanted} in ${AWS::Region}"}},
            "Either": {"Value": {"Fn::If": ["IsWanted", "this", "that"]}},
        },
    }
    stack = aws.applied({"Queue": QUEUE, "Topic": {**TOPIC, "Condition": "IsWanted"}}, **more)

    outputs = {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]}
    assert outputs == {"Arn": "arn:aws:sqs:eu-west-1:123456789012:lost", "Text": "no in eu-west-1", "Either": "that"}
    assert aws.client("sns").list_topics()["Topics"] == []


def test_a_first_making_that_fails_leaves_nothing_behind_not_even_what_is_else_kept(
    aws: Account, server: AwsServer
) -> None:
    with server._desk.fault(Fault("refuse", "sns", "CreateTopic", status=403, code="AuthorizationError")):
        stack = aws.applied({"Bucket": BUCKET, "Topic": TOPIC})

    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    assert ("Topic", "CREATE_FAILED") in aws.events()
    assert aws.client("s3").list_buckets()["Buckets"] == []
    assert "already exists" in refused(aws, {"Queue": QUEUE})


def test_a_change_that_fails_is_undone(aws: Account, server: AwsServer) -> None:
    aws.applied({"Queue": QUEUE})
    changed = {**QUEUE, "Properties": {"QueueName": "lost", "MessageRetentionPeriod": 600}}
    with server._desk.fault(Fault("refuse", "sns", "CreateTopic", status=403, code="AuthorizationError")):
        stack = aws.applied({"Queue": changed, "Topic": TOPIC}, "UPDATE")

    assert stack["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert ("Topic", "CREATE_FAILED") in aws.events()
    assert aws.events()[-2:] == [("Queue", "UPDATE_COMPLETE"), ("stack", "UPDATE_ROLLBACK_COMPLETE")]


def test_what_is_kept_outlives_its_stack_and_a_protected_stack_is_not_deleted(aws: Account) -> None:
    formation = aws.client("cloudformation")
    arn = aws.applied({"Bucket": BUCKET, "Queue": QUEUE})["StackId"]
    formation.update_termination_protection(StackName="stack", EnableTerminationProtection=True)
    with pytest.raises(ClientError, match="TerminationProtection"):
        formation.delete_stack(StackName="stack")
    formation.update_termination_protection(StackName="stack", EnableTerminationProtection=False)

    assert aws.deleted(arn)["StackStatus"] == "DELETE_COMPLETE"
    assert [one["Name"] for one in aws.client("s3").list_buckets()["Buckets"]] == ["kept-bucket"]
    assert aws.queues() == []


def test_what_somebody_has_deleted_by_hand_is_as_good_as_deleted(aws: Account) -> None:
    arn = aws.applied({"Queue": QUEUE, "Topic": TOPIC})["StackId"]
    sqs = aws.client("sqs")
    sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName="lost")["QueueUrl"])

    assert aws.deleted(arn)["StackStatus"] == "DELETE_COMPLETE"
