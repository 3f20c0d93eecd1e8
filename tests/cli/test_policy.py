"""`certkeeper policy`: what is printed, and what is refused. AWS is the sandbox's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from certkeeper.cli.main import main
from certkeeper.cli.terminal import GOOD, NO_NEWS
from certkeeper.sandbox.aws import AwsServer

WEB, SHOP = "arn:aws:iam::123456789012:role/web", "arn:aws:iam::210987654321:role/shop"
SETTINGS = f"""\
store = "s3://bucket/prod"
%s

[certificates."example.com"]
identifiers = ["example.com"]
readers = ["{WEB}", "{SHOP}"]

[certificates.api]
identifiers = ["api.example.com"]
"""
KMS = 'sealing = "kms"\nkms_key = "alias/certkeeper"'
SECRETS = 'certificates_in = "secretsmanager:prod"'
Captured = pytest.CaptureFixture[str]
Settle = Callable[[str], None]


@pytest.fixture(name="aws")
def _aws(aws: AwsServer) -> AwsServer:
    aws.create_bucket("bucket")
    return aws


@pytest.fixture(name="settle")
def _settle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settle:
    monkeypatch.setenv("CERTKEEPER_CONFIG", str(tmp_path / "certkeeper.toml"))

    def settle(how: str) -> None:
        (tmp_path / "certkeeper.toml").write_text(SETTINGS % how)

    return settle


def printed(capsys: Captured) -> list[dict[str, Any]]:
    statements: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["Statement"]
    return statements


def test_a_reader_gets_its_objects_and_the_key_by_its_arn_under_its_names(
    aws: AwsServer, settle: Settle, capsys: Captured
) -> None:
    kms_key = aws.create_kms_key("alias/certkeeper")
    settle(KMS)

    assert main(["policy", "example.com"]) == GOOD

    read, opened = printed(capsys)
    assert (read["Action"], read["Resource"]) == ("s3:GetObject", "arn:aws:s3:::bucket/prod/certificates/example.com")
    assert (opened["Action"], opened["Resource"]) == ("kms:Decrypt", kms_key)
    assert opened["Condition"] == {"StringEquals": {"kms:EncryptionContext:certkeeper-name": "example.com"}}


def test_the_alias_of_a_deployment_is_looked_for_where_its_bucket_lies(
    aws: AwsServer, settle: Settle, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    kms_key = aws.create_kms_key("alias/certkeeper")
    settle(f'{KMS}\ndeployment = "certkeeper"')
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    assert main(["policy", "example.com"]) == GOOD

    assert printed(capsys)[1]["Resource"] == kms_key


def test_without_readers_it_says_that_the_key_lets_nobody_in(aws: AwsServer, settle: Settle, capsys: Captured) -> None:
    aws.create_kms_key("alias/certkeeper")
    settle(KMS)

    assert main(["policy", "api"]) == GOOD

    assert "api has no readers in the settings" in capsys.readouterr().err


@pytest.mark.usefixtures("aws")
def test_a_key_that_is_not_there_is_one_clear_error(settle: Settle, capsys: Captured) -> None:
    settle(KMS)

    assert main(["policy", "example.com"]) == NO_NEWS

    captured = capsys.readouterr()
    assert captured.out == ""
    assert "there is no KMS key alias/certkeeper" in captured.err
    assert "certkeeper deploy" in captured.err


def test_without_the_right_to_ask_for_the_key_it_says_so(aws: AwsServer, settle: Settle, capsys: Captured) -> None:
    settle(KMS)

    with aws.deny("kms"):
        assert main(["policy", "example.com"]) == NO_NEWS

    assert "see to kms:DescribeKey, or give the key's ARN as kms_key" in capsys.readouterr().err


def test_secrets_are_named_with_six_question_marks_and_the_other_accounts_side_is_pointed_out(
    aws: AwsServer, settle: Settle, capsys: Captured
) -> None:
    aws.create_kms_key("alias/certkeeper")
    settle(f"{KMS}\n{SECRETS}")

    assert main(["policy", "example.com"]) == GOOD

    captured = capsys.readouterr()
    read, opened, decrypted = json.loads(captured.out)["Statement"]
    assert read["Resource"] == "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/example.com-??????"
    assert opened["Action"] == decrypted["Action"] == "kms:Decrypt"
    assert "certkeeper policy example.com --on-secret" in captured.err


def test_the_secrets_own_policy_names_the_other_accounts_readers_and_no_others(
    aws: AwsServer, settle: Settle, capsys: Captured
) -> None:
    aws.create_kms_key("alias/certkeeper")
    settle(f"{KMS}\n{SECRETS}")

    assert main(["policy", "example.com", "--on-secret"]) == GOOD

    (granted,) = printed(capsys)
    assert granted["Principal"] == {"AWS": "arn:aws:iam::210987654321:root"}
    assert granted["Condition"] == {"ArnEquals": {"aws:PrincipalArn": SHOP}}
    assert main(["policy", "api", "--on-secret"]) == NO_NEWS
    assert "no secret of api needs a policy" in capsys.readouterr().err


@pytest.mark.usefixtures("aws")
def test_readers_of_another_account_that_no_policy_could_let_in_are_refused(settle: Settle, capsys: Captured) -> None:
    settle(f'sealing = "store"\n{SECRETS}')

    assert main(["policy", "example.com", "--on-secret"]) == NO_NEWS

    assert f"{SHOP} cannot read secrets of account 123456789012" in capsys.readouterr().err


@pytest.mark.usefixtures("aws")
def test_a_name_that_the_settings_do_not_know_is_refused(settle: Settle, capsys: Captured) -> None:
    settle('sealing = "store"')

    assert main(["policy", "exmaple.com"]) == NO_NEWS

    assert "exmaple.com" in capsys.readouterr().err
