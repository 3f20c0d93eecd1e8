"""`certkeeper deploy` and `destroy` for real: from an empty account to the first certificate, and back.

What is deployed runs from its own zip, under the policies of its own stack; the tests follow one deployment's life.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from certkeeper.sandbox.alarms import Alarms
from certkeeper.sandbox.calls import Fault
from certkeeper.sandbox.cloudformation import CloudFormation
from certkeeper.sandbox.functions import Functions, Point, service_client
from certkeeper.sandbox.stack import Sandbox
from tests.live.keepers import RIGHTS_TAKE, Said
from tests.live.operators import NEEDS_THE_RUNTIME, TARGET, Operator, awaited

PATIENCE = 300
pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(2 * PATIENCE),
    NEEDS_THE_RUNTIME,
]

BUCKET = "certkeeper-123456789012-eu-west-1-fresh"


class Deployer(Operator):
    """An operator with an account in which nothing is deployed yet; of the two names the settings have the first."""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(sandbox, 2)
        self.second = self.names.pop()
        self.later = self.identifiers.pop(self.second)
        self.write()

    @property
    def store(self) -> str:
        return f"s3://{BUCKET}/prod"

    def write(self, contact: str = "ops@example.com") -> None:
        alerts = '[alerts]\nemail = "ops@example.com"\nurgent = "pager@example.com"\n'
        text = self.settings(kms_key="alias/fresh", more=alerts)
        text = text.replace("[ca]", f'[ca]\ncontact = "{contact}"')
        self.config.write_text(f'deployment = "fresh"\n{text}')

    def run(self, *arguments: str) -> Said:
        """A deployment is a hundred calls and more, which take their time where others use the machine."""
        return self.start(*arguments).end(PATIENCE)

    def deploy(self, *more: str) -> Said:
        return self.run("deploy", "--yes", "--json", *TARGET, *more)

    def outcomes(self, said: Said) -> dict[str, str]:
        assert said.status == 0, said.talk
        return {name: one["outcome"] for name, one in said.outcomes.items()}

    def client(self, service: str) -> Any:
        return service_client(self.sandbox.aws, service)

    def stored(self) -> dict[str, bytes]:
        return {path.removeprefix("prod/"): body for path, body in self.sandbox.aws.objects(BUCKET).items()}


@pytest.fixture(scope="module", name="functions")
def _functions(sandbox: Sandbox) -> Iterator[Functions]:
    functions = Functions(sandbox.aws)
    yield functions
    functions.close()


@pytest.fixture(scope="module", name="formation")
def _formation(sandbox: Sandbox) -> Iterator[CloudFormation]:
    formation = CloudFormation(sandbox.aws)
    yield formation
    formation.close()


@pytest.fixture(scope="module", name="begun")
def _begun(sandbox: Sandbox, functions: Functions, formation: CloudFormation) -> Iterator[tuple[Deployer, Said]]:
    with Deployer(sandbox) as operator:
        assert isinstance(operator, Deployer)
        yield operator, operator.deploy()


@pytest.fixture(name="deployer")
def _deployer(begun: tuple[Deployer, Said]) -> Deployer:
    """Whose deployment stands."""
    return begun[0]


def test_one_command_leads_from_nothing_to_the_first_certificate(
    begun: tuple[Deployer, Said], formation: CloudFormation
) -> None:
    deployer, said = begun

    assert deployer.outcomes(said) == {deployer.name: "renewed"}
    assert said.outcomes[deployer.name]["serial_number"] == deployer.issued()[0]
    assert len(deployer.issued()) == 1
    assert formation.stacks["fresh-store"].protected
    assert {"settings.toml", "index", f"certificates/{deployer.name}", f"journal/{deployer.name}"} <= set(
        deployer.stored()
    )
    for word in ("Bucket", "Renewer", "make", "AWS::Lambda::Function", f"certkeeper --from {deployer.store} status"):
        assert word in said.talk


def test_the_stored_settings_need_nothing_of_the_machine_that_deployed(deployer: Deployer) -> None:
    stored = deployer.stored()["settings.toml"].decode()

    assert "BEGIN CERTIFICATE" in stored
    assert str(deployer.sandbox.folder) not in stored
    deployer.config.rename(deployer.config.with_suffix(".away"))
    try:
        said = deployer.run("--from", deployer.store, "status", "--json")
    finally:
        deployer.config.with_suffix(".away").rename(deployer.config)
    assert [one["state"] for one in json.loads(said.data)["certificates"]] == ["ok"]


def test_the_schedule_starts_a_tick_whose_log_and_gauges_arrive(deployer: Deployer, functions: Functions) -> None:
    before = len(functions.points)

    fired = functions.fire("fresh")

    assert fired is not None
    assert fired.error is None
    told = {one.name: one.value for one in functions.points[before:]}
    assert (told["TickCompleted"], told["CertificatesFailing"], told["CertificatesUrgent"]) == (1, 0, 0)
    assert {one.dimensions for one in functions.points} == {frozenset({("Deployment", "fresh")})}
    events = deployer.client("logs").filter_log_events(logGroupName="/aws/lambda/fresh")["events"]
    assert any('"tick": "ended"' in one["message"] for one in events)


def test_a_run_that_cannot_run_is_told_to_the_queue_and_not_repeated(deployer: Deployer, functions: Functions) -> None:
    sqs = deployer.client("sqs")
    queue = sqs.get_queue_url(QueueName="fresh-undelivered")["QueueUrl"]
    since = len(functions.points)
    with deployer.sandbox.desk.fault(
        Fault("refuse", "s3", "GetObject", "settings.toml", status=403, code="AccessDenied")
    ):
        mark = deployer.sandbox.desk.mark()
        fired = functions.fire("fresh")
        asked = deployer.sandbox.desk.calls("s3", "GetObject", since=mark)

    assert fired is not None
    assert fired.error is not None
    assert len([one for one in asked if "settings.toml" in one.resource]) == 1
    assert not [one for one in functions.points[since:] if one.name == "TickCompleted"]
    (message,) = sqs.receive_message(QueueUrl=queue)["Messages"]
    assert "AccessDenied" in message["Body"]
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])


def test_each_alarm_rings_when_it_should_and_is_heard(deployer: Deployer, functions: Functions) -> None:
    inbox = deployer.client("sqs").create_queue(QueueName="inbox")["QueueUrl"]
    arn = deployer.client("sqs").get_queue_attributes(QueueUrl=inbox, AttributeNames=["QueueArn"])["Attributes"][
        "QueueArn"
    ]
    topic = "arn:aws:sns:eu-west-1:123456789012:fresh-notices"
    deployer.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    (pattern,) = [one for one in functions.points if one.name == "TickCompleted"][:1]
    start = datetime(2026, 11, 23, 0, 5, tzinfo=UTC)

    def ticks(hours: range, **gauges: int) -> list[Point]:
        values = {"TickCompleted": 1, "CertificatesFailing": 0, "CertificatesUrgent": 0, **gauges}
        return [
            replace(pattern, name=name, value=value, at=start + timedelta(hours=hour))
            for hour in hours
            for name, value in values.items()
        ]

    alarms = Alarms(deployer.sandbox.aws)

    def rung(points: list[Point], hour: int) -> set[str]:
        alarms.evaluate(points, start + timedelta(hours=hour, minutes=5))
        return {name.removeprefix("fresh-") for name, state in alarms.states.items() if state == "ALARM"}

    try:
        good = ticks(range(48))
        assert rung(good, 47) == set()
        # One name fails for ever: ticks stay green, and it rings once, after a day.
        failing = good + ticks(range(48, 120), CertificatesFailing=1)
        assert rung(failing, 60) == set()
        assert rung(failing, 72) == {"certificates-failing"}
        assert rung(failing, 119) == {"certificates-failing"}
        # Mended: quiet again.
        mended = failing + ticks(range(120, 150))
        assert rung(mended, 149) == set()
        assert rung(mended + ticks(range(150, 151), CertificatesUrgent=1), 150) == {"urgent-certificates"}
        # No tick at all: three hours, and then it rings.
        assert rung(mended, 151) == {"urgent-certificates"}
        assert rung(mended, 153) == {"urgent-certificates", "urgent-no-tick"}
    finally:
        alarms.close()
    heard = []
    while messages := deployer.client("sqs").receive_message(QueueUrl=inbox, MaxNumberOfMessages=10).get("Messages"):
        for one in messages:
            deployer.client("sqs").delete_message(QueueUrl=inbox, ReceiptHandle=one["ReceiptHandle"])
            heard.append(json.loads(json.loads(one["Body"])["Message"]))
    rings = [one["AlarmName"] for one in heard if one["NewStateValue"] == "ALARM"]
    assert rings == ["fresh-certificates-failing", "fresh-urgent-certificates", "fresh-urgent-no-tick"]
    assert all(f"certkeeper --from {deployer.store} status" in one["AlarmDescription"] for one in heard)


def test_where_only_settings_differ_no_stack_is_touched(deployer: Deployer) -> None:
    since = deployer.sandbox.desk.mark()
    deployer.write(contact="others@example.com")

    said = deployer.deploy()

    assert deployer.outcomes(said) == {deployer.name: "kept"}
    assert b"others@example.com" in deployer.stored()["settings.toml"]
    assert deployer.sandbox.desk.calls("cloudformation", "CreateChangeSet", since=since) == []
    assert "as they should be" in said.talk


def test_names_and_a_deployment_that_only_the_stored_settings_have_are_told_before_they_go(deployer: Deployer) -> None:
    stored = deployer.stored()["settings.toml"]
    added = stored + b'\n[certificates."added.example.com"]\nidentifiers = ["added.example.com"]\n'
    added = added.replace(b'deployment = "fresh"', b'deployment = "earlier"')
    deployer.sandbox.aws.put_object(BUCKET, "prod/settings.toml", added)

    said = deployer.deploy()

    assert "so not renewed any more: added.example.com" in said.talk
    assert "the stored settings are of the deployment earlier" in said.talk
    assert deployer.stored()["settings.toml"] == stored


def test_a_new_name_gets_its_rights_and_its_certificate_by_one_command_though_iam_is_late(
    deployer: Deployer, functions: Functions
) -> None:
    deployer.names.append(deployer.second)
    deployer.identifiers[deployer.second] = deployer.later
    deployer.write()
    functions.late_rights = 1

    said = deployer.start("deploy", "--yes", "--json", *TARGET, **{RIGHTS_TAKE: "0.1"}).end(PATIENCE)

    functions.late_rights = 0
    assert "AWS may not know the function's new rights everywhere yet" in said.talk
    assert deployer.outcomes(said) == {deployer.name: "kept", deployer.second: "renewed"}
    assert f"certificates/{deployer.second}" in deployer.stored()
    assert [len(deployer.issued(name)) for name in deployer.names] == [1, 1]
    changed = [line.split() for line in said.talk.splitlines() if "AWS::" in line]
    assert changed == [["change", "Renewer", "AWS::IAM::Role"]]


def test_a_look_up_that_fails_takes_no_right_away(deployer: Deployer) -> None:
    with deployer.sandbox.desk.fault(Fault("refuse", "route53", "ListHostedZones", status=403, code="AccessDenied")):
        said = deployer.deploy()

    assert "gets no new right" in said.talk
    assert "AWS::" not in said.talk


def test_the_printed_templates_are_those_of_the_stacks(deployer: Deployer, formation: CloudFormation) -> None:
    for which, name in (("store", "fresh-store"), ("function", "fresh")):
        said = deployer.run("deploy", "--print", which, *TARGET)

        assert said.status == 0
        assert said.data == formation.stacks[name].template


def test_destroy_keeps_the_certificates_and_deploy_finds_them(deployer: Deployer, formation: CloudFormation) -> None:
    before = {path: body for path, body in deployer.stored().items() if path.startswith("certificates/")}

    refused = deployer.run("destroy")
    destroyed = deployer.run("destroy", "--yes")

    assert refused.status == 1
    assert "say it with --yes" in refused.talk
    assert destroyed.status == 0, destroyed.talk
    assert list(formation.stacks) == ["fresh-store"]
    assert "remains" in destroyed.talk
    assert "$1 a month" in destroyed.talk
    assert deployer.client("scheduler").list_schedules()["Schedules"] == []
    assert {path: body for path, body in deployer.stored().items() if path.startswith("certificates/")} == before

    again = deployer.deploy()

    assert deployer.outcomes(again) == dict.fromkeys(deployer.names, "kept")
    assert [len(deployer.issued(name)) for name in deployer.names] == [1, 1]


def test_certificates_are_deleted_only_for_whoever_types_the_name(
    deployer: Deployer, formation: CloudFormation
) -> None:
    # Standard input is empty here: nothing was typed.
    refused = deployer.run("destroy", "--delete-certificates", "--yes")

    assert refused.status == 1
    assert "its name is fresh" in refused.talk
    assert set(formation.stacks) == {"fresh", "fresh-store"}


# What is lost: the recipes of docs/operating.md.


def test_a_lost_role_comes_back_by_destroying_and_deploying_again(deployer: Deployer) -> None:
    iam, role = deployer.client("iam"), "fresh-eu-west-1-renewer"
    for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        iam.delete_role_policy(RoleName=role, PolicyName=policy)
    iam.delete_role(RoleName=role)

    destroyed = deployer.run("destroy", "--yes")
    again = deployer.deploy()

    assert destroyed.status == 0, destroyed.talk
    assert deployer.outcomes(again) == dict.fromkeys(deployer.names, "kept")


def forget_the_store(deployer: Deployer, formation: CloudFormation) -> None:
    """What docs/operating.md says to type where the store's stack describes what is gone."""
    client = deployer.client("cloudformation")
    client.update_termination_protection(StackName="fresh-store", EnableTerminationProtection=False)
    client.delete_stack(StackName="fresh-store")
    assert awaited(lambda: "fresh-store" not in formation.stacks)


def test_after_the_bucket_is_gone_everything_is_obtained_anew_and_the_kms_key_stays(
    deployer: Deployer, formation: CloudFormation
) -> None:
    kms_key_arn = deployer.client("kms").describe_key(KeyId="alias/fresh")["KeyMetadata"]["Arn"]
    s3 = deployer.client("s3")
    listed = s3.list_object_versions(Bucket=BUCKET)
    for one in listed["Versions"] + listed.get("DeleteMarkers", []):
        s3.delete_object(Bucket=BUCKET, Key=one["Key"], VersionId=one["VersionId"])
    s3.delete_bucket(Bucket=BUCKET)

    stuck = deployer.deploy()
    forget_the_store(deployer, formation)
    said = deployer.deploy()

    assert stuck.status == 2
    assert "docs/operating.md, The bucket is gone" in stuck.talk
    assert deployer.outcomes(said) == dict.fromkeys(deployer.names, "renewed")
    assert formation.stacks["fresh-store"].outputs["KmsKeyArn"] == kms_key_arn
    assert "settings.toml" in deployer.stored()


def test_after_the_kms_key_is_gone_another_key_and_another_account_take_its_place(
    deployer: Deployer, formation: CloudFormation
) -> None:
    kms = deployer.client("kms")
    lost = kms.describe_key(KeyId="alias/fresh")["KeyMetadata"]["Arn"]
    kms.delete_alias(AliasName="alias/fresh")
    kms.schedule_key_deletion(KeyId=lost, PendingWindowInDays=7)
    forget_the_store(deployer, formation)
    deployer.client("s3").delete_bucket_policy(Bucket=BUCKET)
    for path in deployer.stored():
        if path.startswith("accounts/"):
            deployer.sandbox.aws.delete_object(BUCKET, f"prod/{path}")

    said = deployer.deploy()
    forced = deployer.run("renew", "--force", "--yes", "--json")

    assert f"the policy of the bucket {BUCKET}, which is yours, lacks TlsOnly of certkeeper's" in said.talk
    assert deployer.outcomes(said) == dict.fromkeys(deployer.names, "kept")
    assert deployer.outcomes(forced) == dict.fromkeys(deployer.names, "renewed")
    certificate = json.loads(deployer.stored()[f"certificates/{deployer.name}"])
    assert certificate["kms_key_arn"] == formation.stacks["fresh-store"].outputs["KmsKeyArn"] != lost
