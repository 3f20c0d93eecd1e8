"""Credentials that will not do: what is wrong with them, and what to do, in one sentence each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from certkeeper.adapters.aws_clients import Aws
from certkeeper.adapters.s3_records import S3Records
from certkeeper.core.errors import StoreError
from certkeeper.sandbox.aws import ACCOUNT
from certkeeper.sandbox.calls import Desk, Fault

CONFIG = """
[profile keys]
aws_access_key_id = AKIAIOSFODNN7EXAMPLE
aws_secret_access_key = example
[profile sso]
sso_start_url = https://example.awsapps.com/start
sso_region = eu-west-1
sso_account_id = 123456789012
sso_role_name = Administrator
region = eu-west-1
[profile mfa]
role_arn = arn:aws:iam::123456789012:role/administrator
source_profile = keys
mfa_serial = arn:aws:iam::123456789012:mfa/me
region = eu-west-1
"""
SETTINGS = 'store = "s3://bucket/prod"\nsealing = "store"\ndeployment = "keeper"\n'


@pytest.mark.parametrize(
    ("code", "todo"),
    [
        ("ExpiredToken", "sign in to AWS again"),
        ("ExpiredTokenException", "sign in to AWS again"),
        ("InvalidClientTokenId", "check the AWS credentials"),
        ("SignatureDoesNotMatch", "check the AWS credentials, and this machine's clock"),
        ("RequestTimeTooSkewed", "set this machine's clock"),
        ("Throttling", "the next run tries again"),
        ("SomethingNew", "check the AWS credentials; or set bucket_owner"),
    ],
)
@pytest.mark.usefixtures("signed_in")
def test_credentials_that_aws_refuses(desk: Desk, code: str, todo: str) -> None:
    with desk.fault(Fault("refuse", "sts", status=403, code=code)), pytest.raises(StoreError, match=code) as caught:
        Aws().account()

    assert todo in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("code", "todo"),
    [
        ("RequestTimeTooSkewed", "set this machine's clock"),
        ("InvalidAccessKeyId", "check the AWS credentials"),
        ("ExpiredToken", "sign in to AWS again"),
        ("AuthorizationHeaderMalformed", "check AWS_REGION"),
        ("AccessDenied", "this role lacks rights"),
        ("SomethingNew", "nothing was changed on doubt"),
    ],
)
@pytest.mark.usefixtures("signed_in")
def test_credentials_that_the_store_refuses(desk: Desk, code: str, todo: str) -> None:
    records = S3Records(Aws().client("s3"), "bucket", "prod", ACCOUNT)

    with desk.fault(Fault("refuse", "s3", status=403, code=code)), pytest.raises(StoreError, match=code) as caught:
        records.read("index")

    assert todo in (caught.value.hint or "")


def test_the_region_is_that_of_the_variable_that_all_aws_tools_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[default]\nregion = eu-west-3\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)

    assert Aws().client("kms").meta.region_name == "eu-west-3"

    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-2")
    assert Aws().client("kms").meta.region_name == "eu-west-2"

    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert Aws().client("kms").meta.region_name == "eu-west-1"


@pytest.fixture
def profiles(tmp_path: Path) -> dict[str, str]:
    """An environment with profiles, in which nothing can be reached."""
    path = tmp_path / "config"
    path.write_text(CONFIG)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    home = {"HOME": str(tmp_path), "AWS_CONFIG_FILE": str(path), "AWS_EC2_METADATA_DISABLED": "true"}
    return {**kept, **home, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}


@pytest.mark.live
@pytest.mark.parametrize(
    ("profile", "what", "todo"),
    [
        ("sso", "SSOTokenLoadError", "sign in to AWS: aws sso login"),
        ("keys", "NoRegionError", "set AWS_REGION, or a region in the AWS profile"),
        ("mfa", "AWS wants an MFA code, and there is nobody to ask", "sign in before, or type this on a terminal"),
    ],
)
def test_profiles_that_will_not_do(
    profiles: dict[str, str], tmp_path: Path, profile: str, what: str, todo: str
) -> None:
    settings = tmp_path / "certkeeper.toml"
    settings.write_text(SETTINGS)

    done = subprocess.run(
        [sys.executable, "-m", "certkeeper", "--config", str(settings), "deploy", "--yes"],
        env={**profiles, "AWS_PROFILE": profile},
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # no terminal, even where the tests have one
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    error, hint = done.stderr.splitlines()[-2:]
    assert what in error
    assert hint == f"certkeeper: hint: {todo}"
