"""`certkeeper destroy` where there is little left to destroy; the rest of it is in tests/live/test_deploy.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from certkeeper.cli.main import main
from certkeeper.cli.terminal import GOOD
from certkeeper.deployment import templates
from certkeeper.sandbox.aws import ACCOUNT, AwsServer
from certkeeper.sandbox.cloudformation import CloudFormation
from certkeeper.sandbox.functions import service_client


@pytest.fixture
def formation(aws: AwsServer) -> Iterator[CloudFormation]:
    formation = CloudFormation(aws)
    yield formation
    formation.close()


GONE = "11111111-2222-3333-4444-555555555555"


@pytest.mark.parametrize("kms_key", [f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/{GONE}", GONE])
def test_a_kms_key_that_is_gone_keeps_nobody_from_it_and_a_stack_that_is_not_there_is_said_where(
    aws: AwsServer,
    formation: CloudFormation,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kms_key: str,
) -> None:
    settings = tmp_path / "certkeeper.toml"
    settings.write_text(f'store = "s3://bucket/prod"\nsealing = "kms"\nkms_key = "{kms_key}"\ndeployment = "keeper"\n')

    assert main(["--config", str(settings), "destroy", "--yes"]) == GOOD

    said = capsys.readouterr().err
    assert f"the stack keeper is not there, in account {ACCOUNT} and eu-west-1" in said
    assert "remains" not in said, "what is not there does not remain"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("", "a few cents a month"),
        (
            'certificates_in = "secretsmanager:prod"\n',
            "a few cents a month; the certificates' secrets below prod remain too, each $0.40 a month",
        ),
    ],
)
def test_what_remains_is_told_and_what_it_costs(
    aws: AwsServer,
    formation: CloudFormation,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: str,
    told: str,
) -> None:
    place = templates.Place("keeper", "aws", "eu-west-1", ACCOUNT, "bucket", "prod")
    body = templates.text(templates.store_template(place))
    service_client(aws, "cloudformation").create_stack(StackName="keeper-store", TemplateBody=body)
    formation.settle()
    settings = tmp_path / "certkeeper.toml"
    settings.write_text(f'store = "s3://bucket/prod"\nsealing = "store"\ndeployment = "keeper"\n{more}')

    assert main(["--config", str(settings), "destroy", "--yes"]) == GOOD

    remains = f"the stack keeper-store remains, with all that lies in s3://bucket/prod: {told}"
    assert remains in capsys.readouterr().err.splitlines()[1]
