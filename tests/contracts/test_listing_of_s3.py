"""How a listing of S3 is read: by ourselves where it has S3's form, else by botocore."""

from __future__ import annotations

from typing import Any

import pytest

from certkeeper.adapters.s3_records import _read_listing

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
    body, customized = read(HEAD + ONE.format("a&amp;b", 1) + ONE.format("c", 2) + TAIL)

    assert customized == {
        "Contents": [
            {"Key": "prod/certificates/a&b", "ETag": '"e50e1"'},
            {"Key": "prod/certificates/c", "ETag": '"e50e2"'},
        ]
    }
    assert body == (HEAD + TAIL).encode()


@pytest.mark.parametrize(
    "inside",
    [
        pytest.param("", id="nothing"),
        pytest.param(ONE.format("a", 1).replace("ETag", "Tag"), id="an object without an ETag"),
        pytest.param(ONE.format("a", 1).replace("<Contents>", '<Contents xmlns="other">'), id="another form"),
    ],
)
def test_what_has_another_form_is_left_to_botocore(inside: str) -> None:
    body, customized = read(HEAD + inside + TAIL)

    assert customized == {}
    assert body == (HEAD + inside + TAIL).encode()
