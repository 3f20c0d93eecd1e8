"""A bucket as doctor looks at it: whether it is there, and how far this machine's clock is from S3's."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certkeeper.adapters.aws_clients import Aws
from certkeeper.adapters.s3_bucket import S3Bucket
from certkeeper.core.errors import StoreError
from certkeeper.sandbox.aws import ACCOUNT, AwsServer
from certkeeper.sandbox.calls import Desk, Fault


@pytest.fixture
def bucket(signed_in: AwsServer) -> S3Bucket:
    signed_in.reset()
    signed_in.create_bucket("bucket")
    return S3Bucket(Aws().client("s3"), "bucket", ACCOUNT)


def test_the_clock_is_compared_with_that_of_an_answer(bucket: S3Bucket) -> None:
    skew = bucket.skew()

    assert skew is not None and abs(skew) < timedelta(minutes=1)


def test_a_refusal_is_dated_too(bucket: S3Bucket, desk: Desk) -> None:
    with desk.fault(Fault("refuse", "s3", "HeadBucket", status=403, code="RequestTimeTooSkewed")):
        skew = bucket.skew()

    assert skew is not None and abs(skew) < timedelta(minutes=1)


def test_a_bucket_that_is_not_there_has_no_clock(bucket: S3Bucket, server: AwsServer) -> None:
    server.reset()

    assert bucket.skew() is None


def test_no_answer_is_no_clock(bucket: S3Bucket, desk: Desk) -> None:
    with desk.fault(Fault("drop", "s3", "HeadBucket")), pytest.raises(StoreError, match="could not be reached"):
        bucket.skew()
