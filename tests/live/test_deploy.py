"""`certkeeper deploy` and `destroy` on the sandbox: from nothing to the first certificate, and back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from certkeeper.sandbox.cloudformation import CloudFormation
from certkeeper.sandbox.functions import Functions, service_client
from certkeeper.sandbox.lambda_python import architecture, find_interpreter
from certkeeper.sandbox.stack import Sandbox
from tests.live.keepers import Said
from tests.live.operators import Operator

pytestmark = pytest.mark.live

BUCKET = "certkeeper-123456789012-eu-west-1-fresh"
TARGET = ("--python", find_interpreter().version, "--architecture", architecture())


class Deployer(Operator):
    """An operator with an account in which nothing is deployed yet."""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(sandbox)
        self.write()

    @property
    def store(self) -> str:
        return f"s3://{BUCKET}/prod"

    def write(self, more: str = "", alerts: str = 'email = "ops@example.com"\nurgent = "pager@example.com"') -> None:
        text = self.settings(kms_key="alias/fresh", more=f"[alerts]\n{alerts}\n{more}")
        self.config.write_text(f'deployment = "fresh"\n{text}')

    def deploy(self, *more: str) -> Said:
        return self.run("deploy", "--yes", "--json", *TARGET, *more)

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


@pytest.fixture(scope="module", name="deployer")
def _deployer(sandbox: Sandbox, functions: Functions, formation: CloudFormation) -> Iterator[Deployer]:
    deployer = Deployer(sandbox)
    with deployer:
        yield deployer


def test_from_nothing_to_the_first_certificate_by_one_command(
    deployer: Deployer, functions: Functions, formation: CloudFormation
) -> None:
    said = deployer.deploy()

    assert said.status == 0, said.talk
    (outcome,) = json.loads(said.data)["outcomes"]
    assert (outcome["name"], outcome["outcome"]) == (deployer.name, "renewed")
    assert outcome["serial_number"] == deployer.issued()[0]
    assert formation.stacks["fresh-store"].protected
