"""A deployment that a person has made by hand in CloudFormation's console, and every command on it with --from.

The printed templates, a zip and the settings are all that is put there. Who types has the rights of docs/iam.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from certkeeper.cli import arguments
from certkeeper.core import permissions
from certkeeper.sandbox.aws import ACCOUNT
from certkeeper.sandbox.cloudformation import CloudFormation
from certkeeper.sandbox.functions import Functions, service_client
from certkeeper.sandbox.stack import Sandbox
from tests.live.keepers import Said
from tests.live.operators import NEEDS_THE_RUNTIME, TARGET, Operator, awaited

PATIENCE = 300
pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(2 * PATIENCE),
    NEEDS_THE_RUNTIME,
]
BUCKET = "certkeeper-123456789012-eu-west-1-by-hand"
ROLES = f"arn:aws:iam::{ACCOUNT}:role"
LOOKS, WEB, CHANGES = f"{ROLES}/looks", f"{ROLES}/web", f"{ROLES}/changes"
ADDED, RENAMED = "added", "renamed"

# Command by command, in an order in which each finds what it needs; {name} and {folder} stand for what is there.
OPERATOR = (
    "renew --json",
    "renew --force {name}",
    "plan --json",
    "status --json",
    "check",
    "history {name} --json",
    "rollback {name}",
    "revoke {name} --reason superseded --yes",
    "account show",
    "alert --test",
    "user-data {name}",
    "doctor {name} --json",
)
READER = ("export {name} --into {folder}/out --roots {folder}/roots.pem",)
REFUSED = (f"add {ADDED} {{other}}", f"rename {{name}} {RENAMED}", "forget {name} --yes")
DEPLOYER = (
    "policy {name}",
    "doctor {name} --json",
    f"add {ADDED} {{other}}",
    f"deploy --yes --json {' '.join(TARGET)}",
    f"rename {ADDED} {RENAMED}",
    f"forget {ADDED} --yes",
    "destroy --yes",
)
GIVES_THE_FILE_BACK = "init"
WITHOUT_SETTINGS = {
    "package": "builds the zip of this installation",
    "demo": "makes a sandbox of its own",
    "completion": "prints a script for the shell",
}


@dataclass
class ByHand:
    """What stands, and who types; nobody has the settings file any more."""

    operator: Operator
    folder: Path
    formation: CloudFormation

    @property
    def store(self) -> str:
        return f"s3://{BUCKET}/prod"

    @property
    def other(self) -> str:
        return f"other.{self.operator.name}"

    def typed(self, line: str, role: str = "", *before: str) -> Said:
        """A command with --from, by somebody who has this role; without one, by an administrator."""
        words = line.format(name=self.operator.name, other=self.other, folder=self.folder).split()
        key = f"{self.operator.access_key_id}{role.rpartition('/')[2].upper()}"
        keeper = self.operator.start(*before, "--from", self.store, *words, AWS_ACCESS_KEY_ID=key)
        return keeper.end(PATIENCE)

    def stored(self) -> dict[str, bytes]:
        found = self.operator.sandbox.aws.objects(BUCKET).items()
        return {path.removeprefix("prod/"): body for path, body in found}


@pytest.fixture(scope="module", name="by_hand")
def _by_hand(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ByHand]:
    folder = tmp_path_factory.mktemp("by-hand")
    functions, formation = Functions(sandbox.aws), CloudFormation(sandbox.aws)
    with Operator(sandbox) as operator:
        by_hand = ByHand(operator, folder, formation)
        text = operator.settings(
            store=by_hand.store,
            kms_key="alias/by-hand",
            ca_bundle=sandbox.tls.bundle.read_text(),
            more=f"readers = {json.dumps([WEB])}\n",
        )
        operator.config.write_text(f'deployment = "by-hand"\n{text}')
        made(by_hand)
        with_rights(by_hand)
        operator.config.unlink()
        (folder / "roots.pem").write_text(sandbox.ca.roots_pem())
        yield by_hand
    functions.close()
    formation.close()


def made(by_hand: ByHand) -> None:
    """The steps of docs/operating.md, By hand; the console's clicks by the API that they come to."""
    operator, folder = by_hand.operator, by_hand.folder
    store_template = printed(operator, "deploy", "--print", "store", *TARGET)
    create(by_hand, "by-hand-store", store_template, {"AdoptBucket": "no", "AdoptKeyArn": ""})
    zip_path = folder / "function.zip"
    assert operator.start("package", "--into", str(zip_path), *TARGET).end(PATIENCE).status == 0
    s3 = service_client(operator.sandbox.aws, "s3")
    s3.upload_file(str(zip_path), BUCKET, "prod/code/function.zip")
    s3.upload_file(str(operator.config), BUCKET, "prod/settings.toml")
    kms_key_arn = by_hand.formation.stacks["by-hand-store"].outputs["KmsKeyArn"]
    function_template = printed(operator, "deploy", "--print", "function", *TARGET)
    given = {"CodeKey": "prod/code/function.zip", "KmsKeyArn": kms_key_arn}
    create(by_hand, "by-hand", function_template, given)


def printed(operator: Operator, *words: str) -> str:
    said = operator.start(*words).end(PATIENCE)
    assert said.status == 0, said.talk
    return said.data


def create(by_hand: ByHand, name: str, template: str, parameters: dict[str, str]) -> None:
    service_client(by_hand.operator.sandbox.aws, "cloudformation").create_stack(
        StackName=name,
        TemplateBody=template,
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
        EnableTerminationProtection=name.endswith("-store"),
    )
    stack = by_hand.formation.stacks[name]
    assert awaited(lambda: not stack.status.endswith("_IN_PROGRESS"), PATIENCE)
    assert stack.status == "CREATE_COMPLETE", stack.events


def with_rights(by_hand: ByHand) -> None:
    """What docs/iam.md gives to an operator, to one who may read the certificate besides, and to one who may change the
    settings besides.
    """
    operator, rights = by_hand.operator, by_hand.operator.sandbox.aws.rights
    deployment = permissions.Deployment(
        account=ACCOUNT,
        region="eu-west-1",
        bucket=BUCKET,
        prefix="prod",
        renewer_role="",
        kms_key=by_hand.formation.stacks["by-hand-store"].outputs["KmsKeyArn"],
        function="by-hand",
    )
    looks, reads = permissions.operator(deployment), permissions.reader(deployment, [operator.name])
    rights.act_as(f"{operator.access_key_id}LOOKS", LOOKS, looks)
    rights.act_as(f"{operator.access_key_id}WEB", WEB, looks, reads)
    settings = deployment.object_arn("settings.toml")
    statement = {"Sid": "Change", "Effect": "Allow", "Action": "s3:PutObject", "Resource": settings}
    changes = {"Version": "2012-10-17", "Statement": [statement]}
    rights.act_as(f"{operator.access_key_id}CHANGES", CHANGES, looks, changes)


def test_every_command_has_its_place_here() -> None:
    # No other way leads to the subcommands of a parser.
    (action,) = (one for one in arguments.parser()._actions if one.dest == "command")
    typed = {line.split()[0] for line in (*OPERATOR, *READER, *DEPLOYER)}

    assert set(action.choices or ()) == typed | {GIVES_THE_FILE_BACK} | set(WITHOUT_SETTINGS)


@pytest.mark.parametrize("line", OPERATOR)
def test_an_operator_needs_no_file(by_hand: ByHand, line: str) -> None:
    said = by_hand.typed(line, LOOKS)

    # Of doctor's checks an operator may not make all, which it says.
    assert said.status == 0 or (line.startswith("doctor") and json.loads(said.data)["findings"]), said.talk
    if line == "renew --json":
        assert said.outcomes[by_hand.operator.name]["outcome"] == "renewed"


def test_an_operator_gets_the_file_back(by_hand: ByHand) -> None:
    path = by_hand.folder / "certkeeper.toml"

    said = by_hand.typed(GIVES_THE_FILE_BACK, LOOKS, "--config", str(path))

    assert said.status == 0, said.talk
    assert path.read_bytes() == by_hand.stored()["settings.toml"]


@pytest.mark.parametrize("line", READER)
def test_who_may_open_a_certificate_needs_no_file(by_hand: ByHand, line: str) -> None:
    said = by_hand.typed(line, WEB)

    assert said.status == 0, said.talk
    assert (by_hand.folder / "out" / "live" / by_hand.operator.name / "privkey.pem").exists()


@pytest.mark.parametrize("line", REFUSED)
def test_what_takes_more_than_an_operators_rights_says_whose_and_changes_nothing(by_hand: ByHand, line: str) -> None:
    before = by_hand.stored()

    said = by_hand.typed(line, LOOKS)

    assert said.status == 2
    assert "AccessDenied" in said.talk
    assert "it takes the rights of a deployer: docs/iam.md, Deployer" in said.talk
    assert by_hand.stored() == before


@pytest.mark.parametrize("line", DEPLOYER)
def test_a_deployer_needs_no_file(by_hand: ByHand, line: str) -> None:
    # To add and to rename takes no more of a deployer's rights than to write the settings.
    said = by_hand.typed(line, CHANGES if line.startswith(("add", "rename")) else "")

    assert said.status == 0, said.talk
    if line.startswith("doctor"):
        stacks = {one["about"]: one["result"] for one in json.loads(said.data)["findings"] if one["check"] == "stack"}
        assert stacks == {"by-hand-store": "good", "by-hand": "good"}
    if line.startswith("deploy"):
        assert_taken_over(by_hand, said)
    if line.startswith("rename"):
        assert {f"certificates/{ADDED}", f"certificates/{RENAMED}"} <= set(by_hand.stored())
    if line.startswith("forget"):
        assert f"certificates/{ADDED}" not in by_hand.stored()
    if line.startswith("destroy"):
        assert f"certificates/{by_hand.operator.name}" in by_hand.stored()


def assert_taken_over(by_hand: ByHand, said: Said) -> None:
    """What was made by hand is changed where it must be, and made anew nowhere."""
    assert {name: one["outcome"] for name, one in said.outcomes.items()} == {
        by_hand.operator.name: "kept",
        ADDED: "renewed",
    }
    changed: list[Any] = [line.split() for line in said.talk.splitlines() if "AWS::" in line]
    assert changed == [["change", "Renewer", "AWS::IAM::Role"], ["change", "Function", "AWS::Lambda::Function"]]
