"""`certkeeper destroy` where there is little left to destroy; the rest of it is in tests/live/test_deploy.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from certkeeper.cli.main import main
from certkeeper.cli.terminal import GOOD
from certkeeper.sandbox.aws import ACCOUNT, AwsServer
from certkeeper.sandbox.calls import Desk
from certkeeper.sandbox.cloudformation import CloudFormation
from certkeeper.sandbox.route53 import HostedZones


@pytest.fixture
def aws() -> Iterator[AwsServer]:
    desk = Desk()
    with AwsServer(desk, HostedZones()) as server:
        formation = CloudFormation(server)
        yield server
        formation.close()
    desk.stop()


GONE = "11111111-2222-3333-4444-555555555555"


@pytest.mark.parametrize("kms_key", [f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/{GONE}", GONE])
def test_a_kms_key_that_is_gone_keeps_nobody_from_it_and_a_stack_that_is_not_there_is_said_where(
    aws: AwsServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kms_key: str,
) -> None:
    for name, value in aws.environment.items():
        monkeypatch.setenv(name, value)
    settings = tmp_path / "certkeeper.toml"
    settings.write_text(f'store = "s3://bucket/prod"\nsealing = "kms"\nkms_key = "{kms_key}"\ndeployment = "keeper"\n')

    assert main(["--config", str(settings), "destroy", "--yes"]) == GOOD

    said = capsys.readouterr().err
    assert f"the stack keeper is not there, in account {ACCOUNT} and eu-west-1" in said
    assert "remains" not in said, "what is not there does not remain"
