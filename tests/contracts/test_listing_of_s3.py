"""How a listing of S3 is read: by ourselves where it has S3's form, else by botocore."""

from __future__ import annotations

from typing import Any

import boto3
import pytest

from certkeeper.adapters.s3_records import LISTED, S3Records, _read_listing

ONE = (
    "<Contents><Key>prod/certificates/{}</Key><LastModified>2026-11-23T06:05:30.000Z</LastModified>"
    "<ETag>&quot;e50e{}&quot;</ETag><Size>2</Size><StorageClass>STANDARD</StorageClass></Contents>"
)
HEAD, TAIL = "<ListBucketResult><IsTruncated>false</IsTruncated>", "<KeyCount>2</KeyCount></ListBucketResult>"


def read(body: str) -> tuple[bytes, dict[str, Any]]:
    response: dict[str, Any] = {"body": body.encode()}
    customized: dict[str, Any] = {}
    _read_listing(response, customized)
    return response["body"], customized


def test_keys_and_etags_are_read_and_the_rest_is_left() -> None:
    body, customized = read(HEAD + ONE.format("a", 1) + ONE.format("b", 2) + TAIL)

    assert customized == {LISTED: [("prod/certificates/a", '"e50e1"'), ("prod/certificates/b", '"e50e2"')]}
    assert body == (HEAD + TAIL).encode()


@pytest.mark.parametrize(
    "inside",
    [
        pytest.param("", id="nothing"),
        pytest.param(ONE.format("a", 1).replace("ETag", "Tag"), id="an object without an ETag"),
        pytest.param(ONE.format("a", 1).replace("<Contents>", '<Contents xmlns="other">'), id="another form"),
        pytest.param(ONE.format("a&amp;b", 1), id="a key with an escaped letter"),
        pytest.param(ONE.format("a%20b", 1), id="a key with a letter escaped as in a URL"),
    ],
)
def test_what_has_another_form_is_left_to_botocore(inside: str) -> None:
    body, customized = read(HEAD + inside + TAIL)

    assert customized == {}
    assert body == (HEAD + inside + TAIL).encode()


def test_botocore_does_not_parse_what_has_been_read() -> None:
    s3 = boto3.client("s3", "eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
    S3Records(s3, "bucket", "prod", "123456789012")
    seen: list[bytes] = []
    s3.meta.events.register_first("before-parse.s3.*", lambda response_dict, **_: seen.append(response_dict["body"]))
    response = {"body": (HEAD + ONE.format("a", 1) + TAIL).encode(), "status_code": 200, "headers": {}}

    s3.meta.events.emit(
        "before-parse.s3.ListObjectsV2",
        operation_model=s3.meta.service_model.operation_model("ListObjectsV2"),
        response_dict=response,
        customized_response_dict={},
    )

    assert seen == [(HEAD + TAIL).encode()]
