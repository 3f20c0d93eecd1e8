"""A deployment under exactly the policies of core/permissions, and nothing that they do not need."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from certkeeper import wiring
from certkeeper.adapters.secretsmanager_records import SecretPolicies
from certkeeper.core import permissions, zones
from certkeeper.core.model import CertificateSpec
from certkeeper.core.permissions import ChallengeName, Deployment
from certkeeper.deployment import package, resource_policies
from certkeeper.deployment.one_file import one_file
from certkeeper.sandbox.aws import ACCOUNT
from certkeeper.sandbox.aws_calls import AwsRequest
from certkeeper.sandbox.functions import service_client
from certkeeper.sandbox.iam import Question, several
from certkeeper.sandbox.lambda_python import architecture, find_interpreter
from certkeeper.sandbox.lambda_runtime import LambdaFunction
from certkeeper.sandbox.loopback import Response
from certkeeper.sandbox.rights import Judged, Wanted
from certkeeper.sandbox.stack import BUCKET, Sandbox
from tests.live.keepers import Said
from tests.live.operators import NEEDS_THE_RUNTIME, Operator, clean
from tests.policies_in_docs import zone_role, zone_role_trust

pytestmark = [pytest.mark.live, NEEDS_THE_RUNTIME]

REGION = "eu-west-1"
AWAY = "210987654321"
ROLES = f"arn:aws:iam::{ACCOUNT}:role"
RENEWER, WEB, LOOKS = f"{ROLES}/certkeeper-renewer", f"{ROLES}/web", f"{ROLES}/operator"
ZONE_ROLE = f"arn:aws:iam::{AWAY}:role/certkeeper-dns"
SHOP = f"arn:aws:iam::{AWAY}:role/shop"
INSTANCE = "ASIASANDBOXINSTANCE0"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:certkeeper-undelivered"


@pytest.fixture(scope="module", name="zip_path")
def _zip_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("function") / "function.zip"
    package.build(package.Target(find_interpreter().version, architecture()), path)
    return path


@dataclass
class Scene:
    """One deployment: who acts as which role, and what each does."""

    operator: Operator
    deployment: Deployment
    function: LambdaFunction
    topic: str
    began: int

    @property
    def sandbox(self) -> Sandbox:
        return self.operator.sandbox

    @property
    def name(self) -> str:
        return self.operator.name

    def as_operator(self, *arguments: str) -> Said:
        return self.operator.start(*arguments, AWS_ACCESS_KEY_ID=f"{self.operator.access_key_id}LOOKS").end()

    def pulled(self, role: str, into: Path) -> subprocess.CompletedProcess[str]:
        """A pull by an instance of that role, which has what `certkeeper policy` prints."""
        self.sandbox.aws.rights.act_as(INSTANCE, role, permissions.reader(self.deployment, [self.name]))
        client = into.with_suffix(".py")
        client.write_text(one_file())
        place = self.deployment.secrets_prefix
        source = f"secretsmanager:{place}" if place else self.operator.store
        command = [sys.executable, "-I", "-S", str(client), self.name, "--from", source, "--into", str(into)]
        command += ["--for", self.name, "--roots", str(self.sandbox.roots), "--bucket-owner", ACCOUNT]
        environment = clean(self.sandbox.instance_environment)
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def judged(self) -> list[Judged]:
        return self.sandbox.aws.rights.judged(self.began)


@pytest.fixture(name="scene", params=["s3", "secretsmanager"])
def _scene(request: pytest.FixtureRequest, sandbox: Sandbox, zip_path: Path) -> Iterator[Scene]:
    with Operator(sandbox, wildcard=True) as operator:
        deployment, topic = described(sandbox, operator, "prod" if request.param == "secretsmanager" else None)
        settled(operator, deployment)
        rights = sandbox.aws.rights
        began = len(rights.judged())
        rights.act_as(operator.access_key_id, RENEWER, permissions.renewer(deployment))
        rights.act_as(f"{operator.access_key_id}LOOKS", LOOKS, permissions.operator(deployment))
        rights.protect(deployment.bucket_arn, permissions.bucket_policy(deployment))
        rights.protect(sandbox.kms_key_arn, permissions.key_policy(deployment))
        environment = {
            "CERTKEEPER_STORE": operator.store,
            "CERTKEEPER_TOPIC": topic,
            "AWS_ENDPOINT_URL": sandbox.aws.url,
            "AWS_ACCESS_KEY_ID": operator.access_key_id,
        }
        with LambdaFunction(zip_path, find_interpreter(), environment) as function:
            sandbox.aws.serve("lambda", lambda seen: invoked(function, seen))
            yield Scene(operator, deployment, function, topic, began)


def described(sandbox: Sandbox, operator: Operator, secrets: str | None) -> tuple[Deployment, str]:
    bystander = boto3.session.Session("AKIABYSTANDER0000000", "bystander", region_name=REGION)
    client: Any = bystander.client
    topic = client("sns", endpoint_url=sandbox.aws.url).create_topic(Name="certkeeper")["TopicArn"]
    name, zone = operator.name, sandbox.zone_ids["example.com"]
    spec = CertificateSpec(name, tuple(operator.identifiers[name]), operator.proxy.directory_url, readers=(WEB, SHOP))
    return Deployment(
        account=ACCOUNT,
        region=REGION,
        bucket=BUCKET,
        prefix=operator.prefix,
        renewer_role=RENEWER,
        specs=(spec,),
        challenges=(ChallengeName(zone, zones.challenge_name(name)),),
        kms_key=sandbox.kms_key_arn,
        secrets_prefix=f"{secrets}/{operator.prefix}" if secrets else None,
        function="certkeeper",
        notices_topic=topic,
        failures_queue=QUEUE,
    ), topic


def settled(operator: Operator, deployment: Deployment) -> None:
    """Write and store the settings that say the same."""
    text = operator.settings(more=f"readers = {json.dumps([WEB, SHOP])}\n")
    first = 'deployment = "certkeeper"\n'
    if deployment.secrets_prefix:
        first += f'certificates_in = "secretsmanager:{deployment.secrets_prefix}"\n'
    operator.config.write_text(first + text)
    operator.sandbox.aws.put_object(BUCKET, f"{operator.prefix}/settings.toml", (first + text).encode())


def invoked(function: LambdaFunction, seen: AwsRequest) -> Response:
    if seen.request.headers.get("X-Amz-Invocation-Type") == "Event":
        return Response(202, [], b"")
    done = function.invoke(json.loads(seen.request.body), timeout=120)
    if done.error is not None:
        body = json.dumps({"errorMessage": done.error.message}).encode()
        return Response(200, [("X-Amz-Function-Error", "Unhandled")], body)
    return Response(200, [("Content-Type", "application/json")], json.dumps(done.payload).encode())


def test_everything_runs_under_exactly_these_policies_from_an_empty_bucket_and_none_of_them_is_idle(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = scene.as_operator("renew", "--json")
    # Somebody else's value at the same name: only then are record sets read.
    (challenge,) = scene.deployment.challenges
    scene.sandbox.zones.put(challenge.zone, challenge.name, "TXT", '"of somebody else"')
    again = scene.as_operator("renew", "--json", "--force", scene.name)
    history = scene.as_operator("history", scene.name, "--json")
    rolled_back = scene.as_operator("rollback", scene.name)
    revoked = scene.as_operator("revoke", scene.name, "--reason", "superseded", "--yes")
    status = scene.as_operator("--from", scene.operator.store, "status", "--json")
    alert = scene.function.invoke({"alert": "test"}, timeout=60)
    let_in(scene)
    at_home, away = scene.pulled(WEB, tmp_path / "home"), scene.pulled(SHOP, tmp_path / "away")
    by_aws_itself(scene, monkeypatch)

    assert [one["outcome"] for said in (first, again) for one in said.outcomes.values()] == ["renewed"] * 2, first.talk
    statuses = [said.status for said in (first, again, history, rolled_back, revoked, status)]
    assert statuses == [0, 0, 0, 0, 0, 0], rolled_back.talk + revoked.talk + status.talk
    assert alert.error is None
    assert (at_home.returncode, away.returncode) == (0, 0), at_home.stderr + away.stderr
    assert len(scene.operator.issued()) == 3
    judged = scene.judged()
    assert [one for one in judged if not one.decision.allowed] == []
    assert idle(scene, [one.question for one in judged]) == set()


def test_a_zone_of_another_account_is_written_by_a_role_that_lets_in_the_renewer_alone(sandbox: Sandbox) -> None:
    zone = sandbox.zones.add("away.test", account=AWAY)
    with Operator(sandbox) as operator:
        operator.identifiers[operator.name] = [f"{operator.name.split('.')[0]}.away.test"]
        deployment, _ = described(sandbox, operator, None)
        challenge = ChallengeName(zone, zones.challenge_name(operator.identifiers[operator.name][0]), ZONE_ROLE)
        deployment = replace(deployment, challenges=(challenge,))
        operator.settings(more=f'[dns.zones."away.test"]\nrole_arn = "{ZONE_ROLE}"\n')
        rights = sandbox.aws.rights
        began = len(rights.judged())
        rights.act_as(operator.access_key_id, RENEWER, permissions.renewer(deployment))
        rights.act_as("ASIANOBODYYET0000000", ZONE_ROLE, zone_role(challenge))
        rights.protect(ZONE_ROLE, zone_role_trust(deployment.renewer_role))
        rights.protect(sandbox.kms_key_arn, permissions.key_policy(deployment))

        said = operator.renew()

        judged = rights.judged(began)
        assert said.outcomes[operator.name]["outcome"] == "renewed", said.talk
        assert [one for one in judged if not one.decision.allowed] == []
        there = {one.question.action for one in judged if one.question.principal == ZONE_ROLE}
        assert there == {"route53:ListHostedZones", "route53:ChangeResourceRecordSets", "route53:GetChange"}
        stranger = Question(LOOKS, "sts:AssumeRole", ZONE_ROLE, AWAY)
        may_assume = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:*", "Resource": "*"}]}
        assert not rights.decision(stranger, {LOOKS: [may_assume]}).allowed
        assert rights.decision(replace(stranger, principal=RENEWER)).allowed


def let_in(scene: Scene) -> None:
    """What `deploy` does once there is a secret: its own policy, for the other account."""
    if scene.deployment.secrets_prefix is not None:
        client = service_client(scene.sandbox.aws, "secretsmanager")
        wanted = resource_policies.of_secrets(scene.deployment, ())
        policies = SecretPolicies(client, scene.deployment.secrets_prefix)
        assert resource_policies.let_in(policies, wanted, lambda text: None) == []


def by_aws_itself(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Lambda does in the role's name, and the function when it runs out of time."""
    key = scene.operator.access_key_id
    log = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/certkeeper:log-stream:2026/11/23/[$LATEST]1"
    own = [Wanted("logs:CreateLogStream", log), Wanted("logs:PutLogEvents", log), Wanted("sqs:SendMessage", QUEUE)]
    assert scene.sandbox.aws.rights.refused(key, own) is None
    for name, value in {**scene.sandbox.aws.environment, "AWS_ACCESS_KEY_ID": key}.items():
        monkeypatch.setenv(name, value)
    wiring.function("certkeeper").start({"restarts": 1})


def idle(scene: Scene, asked: Sequence[Question]) -> set[str]:
    """What can be taken away, each alone, without anything that was done becoming forbidden: actions and resources."""
    rights, deployment = scene.sandbox.aws.rights, scene.deployment
    found: set[str] = set()
    for role in (RENEWER, LOOKS, WEB, SHOP):
        policies = rights.roles[role]
        own = [one for one in asked if one.principal == role]
        for policy in policies:
            others = [one for one in policies if one is not policy]
            for what, less in lessened(policy):
                if all(rights.decision(one, {role: [*others, less]}).allowed for one in own):
                    found.add(what)
    for resource, policy in (
        (deployment.bucket_arn, permissions.bucket_policy(deployment)),
        (scene.sandbox.kms_key_arn, permissions.key_policy(deployment)),
    ):
        for what, less in lessened(policy):
            rights.protect(resource, less)
            if all(rights.decision(one).allowed for one in asked):
                found.add(what)
        rights.protect(resource, policy)
    # What forbids, or is for whoever administers, is in the table of tests/sandbox/test_who_may_do_what.py.
    return {what for what in found if not what.startswith(("TlsOnly", "Administer"))}


def lessened(policy: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The policy with one action or one resource less, and what that is."""
    for number, statement in enumerate(policy["Statement"]):
        for element in {"Action", "Resource"} & set(statement):
            values = several(statement[element])
            for value in values:
                rest = [one for one in values if one != value]
                changed = [{**statement, element: rest}] if rest else []
                statements = [*policy["Statement"][:number], *changed, *policy["Statement"][number + 1 :]]
                yield f"{statement['Sid']}: {value}", {**policy, "Statement": statements}
