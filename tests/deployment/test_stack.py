"""Deploying and destroying on a CloudFormation that really makes things; without the function's real zip."""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import boto3
import pytest

from certkeeper.adapters.cloudformation_stacks import CloudFormationStacks, drifts
from certkeeper.adapters.kms_keys import find_arn
from certkeeper.adapters.lambda_function import LambdaFunction
from certkeeper.adapters.s3_bucket import S3Bucket
from certkeeper.core import permissions
from certkeeper.core.errors import StoreError
from certkeeper.core.model import CertificateSpec
from certkeeper.core.stacks import ChangeSet, Event, StackError
from certkeeper.deployment import package, stack, templates
from certkeeper.deployment.package import Package, PackageError, Target
from certkeeper.sandbox.aws import ACCOUNT, AwsServer
from certkeeper.sandbox.calls import Desk, Fault
from certkeeper.sandbox.cloudformation import CloudFormation
from certkeeper.sandbox.functions import service_client
from certkeeper.sandbox.route53 import HostedZones

PLACE = templates.Place(
    name="keeper",
    partition="aws",
    region="eu-west-1",
    account=ACCOUNT,
    bucket="keeper-bucket",
    prefix="prod",
    kms_alias="alias/keeper",
    email="ops@example.com",
    specs=(CertificateSpec("example.com", ("example.com",), "https://ca.example/directory"),),
    challenges=(permissions.ChallengeName("Z0123456789ABCDEFGHIJ", "_acme-challenge.example.com"),),
)


@dataclass
class Account:
    """An account at the hands of a deployer, and what the deployer was told and asked."""

    server: AwsServer
    desk: Desk
    formation: CloudFormation
    clients: dict[str, Any]
    place: templates.Place = PLACE
    approving: bool = True
    told: list[str] = field(default_factory=list)
    shown: list[ChangeSet] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    built: int = 0

    @property
    def deployer(self) -> stack.Deployer:
        return stack.Deployer(
            place=self.place,
            stacks=CloudFormationStacks(self.client("cloudformation")),
            bucket=S3Bucket(self.client("s3"), self.place.bucket, ACCOUNT),
            talk=stack.Talk(self.told.append, self.events.append, self.asked),
            code_sha256=lambda name: LambdaFunction(self.client("lambda"), name).code_sha256(),
            kms_key_arn=lambda: find_arn(self.client("kms"), self.place.kms_alias or ""),
            build=self.build,
            wait=lambda seconds: self.formation.settle(),
        )

    def client(self, service: str) -> Any:
        if service not in self.clients:
            self.clients[service] = service_client(self.server, service)
        return self.clients[service]

    def asked(self, change_set: ChangeSet) -> bool:
        self.shown.append(change_set)
        return self.approving

    def build(self, target: Target, path: Path) -> Package:
        self.built += 1
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(zipfile.ZipInfo("handler.py"), f"# {target.runtime}\n")
        return Package(path, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest(), "")

    def deploy(self) -> bool:
        self.told.clear()
        self.shown.clear()
        self.events.clear()
        return stack.deploy(self.deployer)

    def asked_for(self, operation: str, since: int) -> int:
        return len(self.desk.calls("cloudformation", operation, since=since))

    def status(self, name: str) -> str | None:
        found = self.formation.stacks.get(name)
        return found.status if found else None


@pytest.fixture(scope="module")
def desk() -> Desk:
    return Desk()


@pytest.fixture(scope="module")
def server(desk: Desk) -> Iterator[AwsServer]:
    with AwsServer(desk, HostedZones()) as server:
        yield server
    desk.stop()


@pytest.fixture(scope="module")
def formation(server: AwsServer) -> Iterator[CloudFormation]:
    formation = CloudFormation(server)
    yield formation
    formation.close()


@pytest.fixture(scope="module")
def clients() -> Iterator[dict[str, Any]]:
    """Made once, since each takes a tenth of a second."""
    clients: dict[str, Any] = {}
    yield clients
    for client in clients.values():
        client.close()


@pytest.fixture
def account(server: AwsServer, desk: Desk, formation: CloudFormation, clients: dict[str, Any]) -> Account:
    formation.settle()
    formation.stacks.clear()
    server.reset()
    return Account(server, desk, formation, clients)


@pytest.fixture
def deployed(account: Account) -> Account:
    account.deploy()
    return account


def resources(account: Account) -> dict[str, list[str]]:
    """What is there, asked of each service itself."""
    client = account.client
    functions = [one["FunctionName"] for one in client("lambda").list_functions()["Functions"]]
    return {
        "buckets": [one["Name"] for one in client("s3").list_buckets()["Buckets"]],
        "aliases": [
            one["AliasName"] for one in client("kms").list_aliases()["Aliases"] if "alias/aws" not in one["AliasName"]
        ],
        "roles": sorted(one["RoleName"].split("-eu-west-1")[0] for one in client("iam").list_roles()["Roles"]),
        "functions": functions,
        "retries": [
            client("lambda").get_function_event_invoke_config(FunctionName=one)["MaximumRetryAttempts"]
            for one in functions
        ],
        "log groups": [one["logGroupName"] for one in client("logs").describe_log_groups()["logGroups"]],
        "schedules": [one["Name"] for one in client("scheduler").list_schedules()["Schedules"]],
        "queues": [one.rpartition("/")[2] for one in client("sqs").list_queues().get("QueueUrls", [])],
        "topics": [one["TopicArn"].rpartition(":")[2] for one in client("sns").list_topics()["Topics"]],
        "subscriptions": [one["Endpoint"] for one in client("sns").list_subscriptions()["Subscriptions"]],
        "alarms": sorted(one["AlarmName"] for one in client("cloudwatch").describe_alarms()["MetricAlarms"]),
        "dashboards": [one["DashboardName"] for one in client("cloudwatch").list_dashboards()["DashboardEntries"]],
    }


KEPT = {"buckets": ["keeper-bucket"], "aliases": ["alias/keeper"]}


def test_every_resource_of_both_templates_is_there_and_after_destroy_only_the_store(deployed: Account) -> None:
    there = resources(deployed)
    schedule_role = [name for name in there.pop("roles") if name != "keeper"]

    assert there == {
        **KEPT,
        "functions": ["keeper"],
        "retries": [0],
        "log groups": ["/aws/lambda/keeper"],
        "schedules": ["keeper"],
        "queues": ["keeper-undelivered"],
        "topics": ["keeper-notices"],
        "subscriptions": ["ops@example.com"],
        "alarms": ["keeper-certificates-failing", "keeper-urgent-certificates", "keeper-urgent-no-tick"],
        "dashboards": ["keeper-eu-west-1"],
    }
    assert len(schedule_role) == 1
    s3 = deployed.client("s3")
    assert s3.get_bucket_versioning(Bucket="keeper-bucket")["Status"] == "Enabled"
    assert s3.get_public_access_block(Bucket="keeper-bucket")["PublicAccessBlockConfiguration"]["BlockPublicPolicy"]
    assert "TlsOnly" in s3.get_bucket_policy(Bucket="keeper-bucket")["Policy"]
    assert s3.get_bucket_lifecycle_configuration(Bucket="keeper-bucket")["Rules"][0]["ID"] == "OldVersionsExpire"
    queue = deployed.client("sqs").get_queue_url(QueueName="keeper-undelivered")["QueueUrl"]
    assert "OverTlsOnly" in deployed.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["Policy"])[
        "Attributes"
    ]["Policy"]  # fmt: skip
    (topic,) = deployed.client("sns").list_topics()["Topics"]
    policy = deployed.client("sns").get_topic_attributes(TopicArn=topic["TopicArn"])["Attributes"]["Policy"]
    assert "cloudwatch.amazonaws.com" in policy

    assert stack.destroy(deployed.deployer, "keeper")

    assert {name: listed for name, listed in resources(deployed).items() if listed} == KEPT
    assert deployed.status("keeper") is None
    assert deployed.status("keeper-store") == "CREATE_COMPLETE"


def test_what_is_printed_is_what_was_sent(deployed: Account) -> None:
    assert deployed.formation.stacks["keeper"].template == templates.text(templates.function_template(PLACE))
    assert deployed.formation.stacks["keeper-store"].template == templates.text(templates.store_template(PLACE))


def test_the_stores_stack_is_protected(deployed: Account) -> None:
    assert deployed.formation.stacks["keeper-store"].protected
    with pytest.raises(StackError):
        stack.destroy(deployed.deployer, "keeper-store")
    assert deployed.status("keeper-store") == "CREATE_COMPLETE"


def test_deploying_the_same_again_proposes_builds_and_uploads_nothing(deployed: Account) -> None:
    since = deployed.desk.mark()

    changed = deployed.deploy()

    assert not changed
    assert deployed.built == 1
    assert deployed.asked_for("CreateChangeSet", since) == 0
    assert deployed.desk.calls("s3", "PutObject", since=since) == []


def zip_of(account: Account) -> str:
    return account.formation.stacks["keeper"].parameters["CodeKey"]


@pytest.mark.parametrize("with_checksum", [True, False])
def test_another_zip_under_the_right_name_is_never_taken_for_it(deployed: Account, with_checksum: bool) -> None:
    path = zip_of(deployed)
    ours = deployed.server.objects("keeper-bucket")[path]
    checksum = {"ChecksumAlgorithm": "SHA256"} if with_checksum else {}
    deployed.client("s3").put_object(Bucket="keeper-bucket", Key=path, Body=b"somebody else's", **checksum)

    assert not deployed.deploy()

    assert deployed.built == 2
    assert deployed.server.objects("keeper-bucket")[path] == ours


def test_a_zip_that_lies_ready_under_some_name_is_not_what_the_next_version_runs(deployed: Account) -> None:
    """Whoever may write to the bucket knows what the next version is made of, and so where its zip would be put."""
    parts = package.manifest(package.inputs(Target("3.12")))
    forged = hashlib.sha256(b"forged").hexdigest()
    path = f"prod/code/{hashlib.sha256(parts.encode()).hexdigest()}-{forged}.zip"
    deployed.client("s3").put_object(Bucket="keeper-bucket", Key=path, Body=b"forged", ChecksumAlgorithm="SHA256")
    deployed.place = replace(PLACE, target=Target("3.12"))

    assert deployed.deploy()

    assert deployed.built == 2
    assert zip_of(deployed) != path


def test_a_function_that_runs_something_else_is_told(deployed: Account) -> None:
    deployed.client("lambda").update_function_code(FunctionName="keeper", ZipFile=_zip({"handler.py": "# mine"}))

    with pytest.raises(StackError, match="runs something else than what was built for it"):
        deployed.deploy()

    stack.destroy(deployed.deployer, "keeper")
    assert deployed.deploy()


def _zip(contents: dict[str, str]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path, text in contents.items():
            archive.writestr(path, text)
    return file.getvalue()


def test_a_function_that_is_gone_is_told_and_how_it_comes_back(deployed: Account) -> None:
    deployed.client("lambda").delete_function(FunctionName="keeper")

    with pytest.raises(StackError, match="the function keeper is gone") as caught:
        deployed.deploy()

    assert caught.value.hint == "make it anew: certkeeper destroy, and certkeeper deploy, which keep the certificates"


def test_another_name_changes_the_functions_rights_and_nothing_else(deployed: Account) -> None:
    more = permissions.ChallengeName("Z0123456789ABCDEFGHIJ", "_acme-challenge.example.net")
    deployed.place = replace(PLACE, challenges=(*PLACE.challenges, more))

    assert deployed.deploy()

    (change_set,) = deployed.shown
    assert [(one.action, one.logical_id, one.replaced) for one in change_set.changes] == [("Modify", "Renewer", False)]
    role = deployed.client("iam").get_role_policy(RoleName="keeper-eu-west-1-renewer", PolicyName="renewer")
    assert "_acme-challenge.example.net" in json.dumps(role["PolicyDocument"])


def test_destroy_then_deploy_finds_the_same_store_with_all_that_is_in_it(deployed: Account) -> None:
    deployed.server.put_object("keeper-bucket", "prod/certificates/example.com", b"a certificate")
    kms_key_arn = deployed.formation.stacks["keeper-store"].outputs["KmsKeyArn"]
    stack.destroy(deployed.deployer, "keeper")

    assert deployed.deploy()

    assert deployed.status("keeper") == "CREATE_COMPLETE"
    assert deployed.formation.stacks["keeper"].parameters["KmsKeyArn"] == kms_key_arn
    assert deployed.server.objects("keeper-bucket")["prod/certificates/example.com"] == b"a certificate"
    assert [change_set.stack for change_set in deployed.shown] == ["keeper"]


def test_destroy_of_what_is_not_there_says_so(account: Account) -> None:
    assert not stack.destroy(account.deployer, "keeper")


# Approved or not.


def test_without_a_yes_nothing_is_changed_and_nothing_is_left_behind(account: Account) -> None:
    account.approving = False

    with pytest.raises(stack.Declined) as caught:
        account.deploy()

    assert caught.value.hint == "say it with --yes"
    assert [one.logical_id for one in account.shown[0].changes] == [
        "Anchor",
        "Bucket",
        "BucketPolicy",
        "Key",
        "KeyAlias",
    ]
    account.formation.settle()
    assert account.formation.stacks == {}
    assert resources(account)["buckets"] == []


def test_ctrl_c_at_the_question_takes_the_proposal_back(account: Account) -> None:
    def interrupted(change_set: ChangeSet) -> bool:
        raise KeyboardInterrupt

    talk = stack.Talk(account.told.append, account.events.append, interrupted)
    with pytest.raises(KeyboardInterrupt):
        stack.deploy(replace(account.deployer, talk=talk))

    account.formation.settle()
    assert account.formation.stacks == {}


def test_a_stack_that_was_only_ever_proposed_is_made(account: Account) -> None:
    text = templates.text(templates.store_template(PLACE))
    account.deployer.stacks.propose("keeper-store", text, {}, new=True)
    assert account.status("keeper-store") == "REVIEW_IN_PROGRESS"

    assert account.deploy()

    assert account.status("keeper-store") == "CREATE_COMPLETE"


# What goes wrong.


def test_a_zip_that_cannot_be_built_changes_nothing(account: Account) -> None:
    def cannot(target: Target, path: Path) -> Package:
        raise PackageError("no uv and no pip")

    with pytest.raises(PackageError):
        stack.deploy(replace(account.deployer, build=cannot))

    assert account.formation.stacks == {}


def test_a_first_deployment_that_fails_names_what_failed_and_the_next_one_succeeds(account: Account) -> None:
    refusal = Fault("refuse", "sns", "CreateTopic", status=403, code="AuthorizationError", message="is not authorized")
    with account.desk.fault(refusal), pytest.raises(StackError) as caught:
        account.deploy()

    assert "the stack keeper is ROLLBACK_COMPLETE: Notices (AWS::SNS::Topic): " in caught.value.message
    assert caught.value.hint
    assert [one.logical_id for one in account.events if one.failed] == ["Notices"]
    assert resources(account)["functions"] == []

    assert account.deploy()

    assert account.status("keeper") == "CREATE_COMPLETE"
    assert any("can only be deleted" in one for one in account.told)


def test_a_change_that_fails_leaves_the_last_good_function_and_the_next_one_succeeds(deployed: Account) -> None:
    deployed.place = replace(PLACE, target=Target("3.12"))
    with (
        deployed.desk.fault(Fault("refuse", "lambda", status=400, code="InvalidParameterValueException", times=1)),
        pytest.raises(StackError) as caught,
    ):
        deployed.deploy()

    assert "the stack keeper is UPDATE_ROLLBACK_COMPLETE: Function (AWS::Lambda::Function): " in caught.value.message
    (function,) = deployed.client("lambda").list_functions()["Functions"]
    assert function["Runtime"] == "python3.13"

    assert deployed.deploy()

    (function,) = deployed.client("lambda").list_functions()["Functions"]
    assert function["Runtime"] == "python3.12"


def test_a_rollback_that_failed_is_finished_before_the_next_change_and_told_if_it_fails_again(
    deployed: Account,
) -> None:
    stack = deployed.formation.stacks["keeper"]
    stack.status, function = "UPDATE_ROLLBACK_FAILED", stack.resources["Function"]
    # A change that could not be taken back.
    function.properties = {**function.properties, "Timeout": 60}
    change = "PUT /2015-03-31/functions/keeper/configuration"
    refused = Fault("refuse", "lambda", change, status=400, code="ResourceConflictException")
    with (
        deployed.desk.fault(refused),
        pytest.raises(StackError, match="the stack keeper is UPDATE_ROLLBACK_FAILED: Function "),
    ):
        deployed.deploy()

    assert not deployed.deploy()

    assert deployed.status("keeper") == "UPDATE_ROLLBACK_COMPLETE"
    assert stack.resources["Function"].properties["Timeout"] == 900


def test_a_deployer_who_went_away_in_the_middle_is_followed_by_one_who_finishes(account: Account) -> None:
    def gone(seconds: float) -> None:
        raise KeyboardInterrupt

    with account.desk.fault(Fault("delay", "kms", "CreateAlias", seconds=30)):
        with pytest.raises(KeyboardInterrupt):
            stack.deploy(replace(account.deployer, wait=gone))
        assert account.status("keeper-store") == "CREATE_IN_PROGRESS"

    assert account.deploy()

    assert account.status("keeper-store") == "CREATE_COMPLETE"
    assert account.status("keeper") == "CREATE_COMPLETE"
    assert [one.stack for one in account.shown] == ["keeper"]


def test_a_stack_that_somebody_else_has_begun_to_change_is_to_be_deployed_again(account: Account) -> None:
    busy = "Stack:arn:aws:cloudformation:eu-west-1:1:stack/keeper-store/1 is in CREATE_IN_PROGRESS state"
    fault = Fault("refuse", "cloudformation", "CreateChangeSet", status=400, code="ValidationError", message=busy)

    with account.desk.fault(fault), pytest.raises(StackError) as caught:
        account.deploy()

    assert caught.value.hint == "somebody else is changing it: deploy again, which waits for that and looks anew"


@pytest.mark.parametrize("first", [True, False])
def test_of_two_deployers_at_once_one_is_told_to_deploy_again(account: Account, first: bool) -> None:
    """Both have seen their change, and say yes to it, one a little later."""
    if not first:
        account.deploy()
        account.place = replace(PLACE, target=Target("3.12"))
    other = replace(account.deployer, talk=stack.Talk(account.told.append, account.events.append, lambda shown: True))

    def later(change_set: ChangeSet) -> bool:
        if not account.shown:
            account.shown.append(change_set)
            stack.deploy(other)
        return True

    talk = stack.Talk(account.told.append, account.events.append, later)
    account.shown.clear()
    with pytest.raises(StackError) as caught:
        stack.deploy(replace(account.deployer, talk=talk))

    assert caught.value.hint == "somebody else is changing it: deploy again, which waits for that and looks anew"
    assert not account.deploy()
    assert resources(account)["functions"] == ["keeper"]


CHANGES = ("propose", "execute", "protect", "put")


@dataclass
class Mortal:
    """The stacks or the bucket of a deployer who dies before or after the change with this number."""

    real: Any
    changes: Iterator[int]
    number: int
    after: bool

    def __getattr__(self, attribute: str) -> Any:
        real = getattr(self.real, attribute)
        return functools.partial(self.change, real) if attribute in CHANGES else real

    def change(self, real: Callable[..., Any], *said: Any, **more: Any) -> Any:
        dies = next(self.changes) == self.number
        if dies and not self.after:
            raise KeyboardInterrupt
        done = real(*said, **more)
        if dies:
            raise KeyboardInterrupt
        return done


@pytest.mark.parametrize("after", [False, True])
def test_a_deployment_that_is_killed_at_any_change_is_finished_by_the_next_one(account: Account, after: bool) -> None:
    for number in itertools.count(1):
        deployer, changes = account.deployer, itertools.count(1)
        stacks, bucket = (Mortal(real, changes, number, after) for real in (deployer.stacks, deployer.bucket))
        killed = False
        try:
            stack.deploy(replace(deployer, stacks=cast("Any", stacks), bucket=cast("Any", bucket)))
        except KeyboardInterrupt:
            killed = True
            account.deploy()

        store = account.formation.stacks["keeper-store"]
        assert store.protected
        assert store.parameters == {"AdoptBucket": "no", "AdoptKeyArn": ""}
        assert {name: listed for name, listed in resources(account).items() if name in KEPT} == KEPT
        assert resources(account)["functions"] == ["keeper"]
        assert not account.deploy()
        if not killed:
            assert number > 6
            return
        account.formation.stacks.clear()
        account.server.reset()


def test_what_was_asked_for_by_somebody_else_is_waited_for(deployed: Account) -> None:
    deployed.client("cloudformation").delete_stack(StackName="keeper")

    assert deployed.deploy()

    assert deployed.status("keeper") == "CREATE_COMPLETE"


def test_what_was_changed_by_hand_is_found(deployed: Account) -> None:
    client = deployed.client
    unchanged = [drifts(client("cloudformation"), name) for name in ("keeper-store", "keeper")]
    role = "keeper-eu-west-1-renewer"
    wide = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    client("iam").put_role_policy(RoleName=role, PolicyName="mine", PolicyDocument=json.dumps(wide))
    client("cloudwatch").delete_alarms(AlarmNames=["keeper-urgent-no-tick"])
    schedule = client("scheduler").get_schedule(Name="keeper")
    named = {key: schedule[key] for key in ("Name", "ScheduleExpression", "FlexibleTimeWindow", "Target")}
    client("scheduler").update_schedule(**named, State="DISABLED")

    found = drifts(client("cloudformation"), "keeper")

    assert unchanged == [(), ()]
    assert sorted(map(str, found)) == ["Hourly (State)", "NoTickAlarm (gone)", "Renewer (Policies)"]


def test_a_look_that_takes_too_long_or_is_refused_is_told(deployed: Account) -> None:
    class Slow:
        def detect_stack_drift(self, **asked: str) -> dict[str, str]:
            return {"StackDriftDetectionId": "1"}

        def describe_stack_drift_detection_status(self, **asked: str) -> dict[str, str]:
            return {"DetectionStatus": "DETECTION_IN_PROGRESS"}

    waited: list[float] = []
    with pytest.raises(StackError, match="still looks"):
        drifts(Slow(), "keeper", waited.append)
    with deployed.server.deny("cloudformation", "DetectStackDrift"), pytest.raises(StackError, match="AccessDenied"):
        drifts(deployed.client("cloudformation"), "keeper")

    assert sum(waited) == 180


# Somebody else's.


def foreign(account: Account, name: str, description: str | None = "Our shop") -> None:
    """A stack of somebody's that has a name that the settings would give ours, with a queue in it."""
    queue = {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "orders"}}
    text = json.dumps({**({"Description": description} if description else {}), "Resources": {"Orders": queue}})
    account.client("cloudformation").create_stack(StackName=name, TemplateBody=text)
    account.formation.settle()


def delete_store(deployer: stack.Deployer, name: str) -> None:
    stack.delete_store(deployer, lambda arn, alias: pytest.fail("the key is not ours"))


@pytest.mark.parametrize(("name", "end"), [("keeper", stack.destroy), ("keeper-store", delete_store)])
@pytest.mark.parametrize("description", ["Our shop", None])
def test_a_stack_that_is_none_of_certkeepers_is_neither_changed_nor_deleted(
    account: Account, name: str, end: Callable[[stack.Deployer, str], object], description: str | None
) -> None:
    foreign(account, name, description)

    with pytest.raises(StackError, match=f"the stack {name} is none of certkeeper's") as caught:
        account.deploy()
    with pytest.raises(StackError, match=f"the stack {name} is none of certkeeper's"):
        end(account.deployer, name)

    assert "choose another deployment" in (caught.value.hint or "")
    assert (account.built, account.shown) == (0, [])
    assert list(account.formation.stacks) == [name]
    assert resources(account)["queues"] == ["orders"]


def test_a_failed_stack_that_is_none_of_certkeepers_is_not_deleted_to_make_room(account: Account) -> None:
    foreign(account, "keeper")
    account.formation.stacks["keeper"].status = "DELETE_FAILED"

    with pytest.raises(StackError, match="none of certkeeper's"):
        account.deploy()

    assert resources(account)["queues"] == ["orders"]


@pytest.mark.parametrize("other", [replace(PLACE, prefix="test"), replace(PLACE, bucket="another-bucket")])
def test_a_deployment_of_another_store_is_neither_changed_nor_deleted(
    deployed: Account, other: templates.Place
) -> None:
    """Two who left the deployment's name as `init` proposes it; or one who changed `store`."""
    there = resources(deployed)
    deployed.place = other

    for attempt in (deployed.deploy, lambda: stack.destroy(deployed.deployer, "keeper")):
        with pytest.raises(StackError, match=r"the stack keeper(-store)? is for s3://keeper-bucket/prod") as caught:
            attempt()

    assert "choose another deployment" in (caught.value.hint or "")
    assert resources(deployed) == there
    assert deployed.built == 1


def test_a_bucket_that_belongs_to_another_account_is_told_with_the_account_of_the_credentials(account: Account) -> None:
    with (
        account.desk.fault(Fault("refuse", "s3", status=403, code="AccessDenied")),
        pytest.raises(StoreError) as caught,
    ):
        account.deploy()

    assert f"may not belong to account {ACCOUNT}, which these credentials are of" in (caught.value.hint or "")
    assert account.formation.stacks == {}


# What was there before.


def test_a_bucket_and_a_key_that_are_there_are_adopted_and_left_as_they_are(account: Account) -> None:
    account.server.create_bucket("keeper-bucket")
    kms_key_arn = account.server.create_kms_key("alias/keeper")

    assert account.deploy()

    store = account.formation.stacks["keeper-store"]
    assert list(store.resources) == ["Anchor"]
    assert store.outputs["KmsKeyArn"] == kms_key_arn
    assert "Status" not in account.client("s3").get_bucket_versioning(Bucket="keeper-bucket")
    assert sum("is there already" in one for one in account.told) == 2
    assert not account.deploy()


def test_another_key_that_is_there_takes_the_place_of_the_one_that_was_made_and_that_one_stays(
    deployed: Account,
) -> None:
    before = deployed.formation.stacks["keeper-store"].outputs["KmsKeyArn"]
    other = deployed.server.create_kms_key("alias/other")
    deployed.place = replace(PLACE, kms_alias="alias/other")

    assert deployed.deploy()

    assert deployed.formation.stacks["keeper"].parameters["KmsKeyArn"] == other
    assert deployed.client("kms").describe_key(KeyId=before)["KeyMetadata"]["KeyState"] == "Enabled"


def test_deleting_the_store_takes_what_was_made_for_it_with_it(deployed: Account) -> None:
    deployed.server.put_object("keeper-bucket", "prod/certificates/example.com", b"one")
    deployed.server.put_object("keeper-bucket", "prod/certificates/example.com", b"two")
    stack.destroy(deployed.deployer, "keeper")
    deleted: list[tuple[str, str]] = []

    stack.delete_store(deployed.deployer, lambda arn, alias: deleted.append((arn, alias)))

    assert deployed.formation.stacks == {}
    assert resources(deployed)["buckets"] == []
    ((arn, alias),) = deleted
    assert ":key/" in arn
    assert alias == "alias/keeper"


def test_deleting_the_store_is_finished_by_doing_it_again_wherever_it_was_interrupted(deployed: Account) -> None:
    deployed.server.put_object("keeper-bucket", "prod/certificates/example.com", b"one")
    stack.destroy(deployed.deployer, "keeper")

    def interrupted(arn: str, alias: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stack.delete_store(deployed.deployer, interrupted)
    deleted: list[str] = []
    refusal = Fault("refuse", "cloudformation", "DeleteStack", status=403, code="AccessDenied")
    with deployed.desk.fault(refusal), pytest.raises(StackError):
        stack.delete_store(deployed.deployer, lambda arn, alias: deleted.append(alias))
    stack.delete_store(deployed.deployer, lambda arn, alias: deleted.append(alias))

    assert deployed.formation.stacks == {}
    assert resources(deployed)["buckets"] == []
    assert deleted == ["alias/keeper"] * 2


def test_deleting_the_store_leaves_what_was_there_before_it(account: Account) -> None:
    account.server.create_bucket("keeper-bucket", versioned=True)
    account.server.create_kms_key("alias/keeper")
    account.deploy()
    account.server.put_object("keeper-bucket", "prod/certificates/example.com", b"one")
    account.server.put_object("keeper-bucket", "prodigious/mine", b"mine")
    stack.destroy(account.deployer, "keeper")

    stack.delete_store(account.deployer, lambda arn, alias: pytest.fail("the key is not ours"))

    assert account.server.objects("keeper-bucket") == {"prodigious/mine": b"mine"}


# Large ones.


def test_a_template_that_is_too_large_to_be_sent_goes_by_the_bucket(deployed: Account) -> None:
    names = tuple(
        permissions.ChallengeName("Z0123456789ABCDEFGHIJ", f"_acme-challenge.n{n}.example.com") for n in range(150)
    )
    deployed.place = replace(PLACE, challenges=names, email="o" * 40_000 + "@example.com")
    template = templates.text(templates.function_template(deployed.place))
    assert len(template) > templates.LARGEST_INLINE

    assert deployed.deploy()

    assert deployed.formation.stacks["keeper"].template == template
    assert deployed.server.objects("keeper-bucket")["prod/code/keeper.json"] == template.encode()


@pytest.mark.parametrize(
    ("region", "address"),
    [
        ("eu-west-1", "https://s3.eu-west-1.amazonaws.com/bucket/prod/code/a%20b.json"),
        # A Region that accounts opt into: the worldwide endpoint does not lead to it.
        ("eu-south-1", "https://s3.eu-south-1.amazonaws.com/bucket/prod/code/a%20b.json"),
        ("cn-north-1", "https://s3.cn-north-1.amazonaws.com.cn/bucket/prod/code/a%20b.json"),
    ],
)
def test_a_template_in_the_bucket_is_named_by_the_endpoint_of_its_region(
    monkeypatch: pytest.MonkeyPatch, region: str, address: str
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    s3 = boto3.client("s3", region_name=region, aws_access_key_id="AKIA", aws_secret_access_key="example")

    assert S3Bucket(s3, "bucket", ACCOUNT).address("prod/code/a b.json") == address

    s3.close()
