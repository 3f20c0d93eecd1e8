"""The signer against botocore, and nothing secret in sight."""

from __future__ import annotations

import random
import string

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials

from certkeeper.client.sigv4 import Credentials, encoded_path, signed

MOMENT = 1_795_402_000.0
STAMP = "20261123T024640Z"
ODD = string.ascii_letters + string.digits + " +~-_.!*'()&$@=;:,?#%/<>[]{}|^`\"\\äß漢€😀"


def _botocore(
    service: str, region: str, method: str, url: str, headers: dict[str, str], body: bytes, token: str
) -> str:
    request = AWSRequest(method, url, data=body, headers=headers)
    request.context["timestamp"] = STAMP
    who = BotocoreCredentials("AKID", "secret/+", token or None)
    signer = (S3SigV4Auth if service == "s3" else SigV4Auth)(who, service, region)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    return signer.signature(text, request)


@pytest.mark.parametrize("seed", range(60))
def test_signs_any_request_as_botocore_does(seed: int) -> None:
    dice = random.Random(seed)
    service = dice.choice(["s3", "s3", "kms", "secretsmanager"])
    region = dice.choice(["eu-west-1", "us-gov-east-1", "cn-north-1", "ap-southeast-4", "eusc-de-east-1"])
    token = dice.choice(["", "IQoJb3//+==", "x" * 1500])
    key = "".join(dice.choice(ODD) for _ in range(dice.randint(1, 40)))
    path = encoded_path("/" + key) if service == "s3" else "/"
    body = dice.randbytes(dice.randint(0, 50)) if service != "s3" else b""
    headers = {"host": "bucket.s3.example.com:8443"}
    if dice.random() < 0.5:
        headers |= {"if-none-match": '"abc  def"', "x-amz-expected-bucket-owner": " 1234 "}

    ready = signed("GET", path, headers, body, Credentials("AKID", "secret/+", token), (region, service), MOMENT)

    given = {name: value for name, value in ready.items() if name != "authorization"}
    expected = _botocore(service, region, "GET", "https://" + headers["host"] + path, given, body, token)
    assert ready["x-amz-date"] == STAMP
    assert ready["authorization"].endswith(f"SignedHeaders={';'.join(sorted(given))}, Signature={expected}")
    assert f"/{STAMP[:8]}/{region}/{service}/aws4_request" in ready["authorization"]


def test_a_path_is_encoded_once_and_never_normalised() -> None:
    assert encoded_path("/a//b/../%20 ~é") == "/a//b/../%2520%20~%C3%A9"


def test_credentials_do_not_show_themselves() -> None:
    credentials = Credentials("AKIDCANARY", "canary-secret", "canary-token")

    shown = repr(credentials) + str(credentials)

    assert "canary" not in shown.lower().replace("credentials", "")
