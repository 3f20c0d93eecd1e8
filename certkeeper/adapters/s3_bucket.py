"""A bucket as a deployer sees it: whether it is there, files that are put into it, and how it is emptied."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

from botocore.exceptions import ClientError

from certkeeper.adapters.aws_refusals import Refused, code_of, hint_for
from certkeeper.core.errors import StoreError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class S3Bucket:
    """One bucket of the account `owner`."""

    def __init__(self, s3: S3Client, bucket: str, owner: str) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._owner = owner

    def region(self) -> str | None:
        """Where it lies; None if nobody has a bucket of that name. Raises StoreError, also if it is somebody else's."""
        try:
            answer = self._s3.head_bucket(Bucket=self._bucket, ExpectedBucketOwner=self._owner)
        except Refused as error:
            if code_of(error) in ("404", "NoSuchBucket"):
                return None
            self._refuse(
                "reached",
                error,
                f"it may not belong to account {self._owner}, which these credentials are of: use those of its "
                "account, or choose another name, since bucket names are worldwide",
            )
        return str(answer["ResponseMetadata"]["HTTPHeaders"]["x-amz-bucket-region"])

    def policy(self) -> dict[str, Any] | None:
        """Its policy, None if it has none. Raises StoreError."""
        try:
            answer = self._s3.get_bucket_policy(Bucket=self._bucket, ExpectedBucketOwner=self._owner)
        except Refused as error:
            if code_of(error) == "NoSuchBucketPolicy":
                return None
            self._refuse("asked for its policy", error)
        policy: dict[str, Any] = json.loads(answer["Policy"])
        return policy

    def skew(self) -> timedelta | None:
        """How far this machine's clock is ahead of S3's; None if there is no such bucket. Raises StoreError."""
        try:
            said: Any = self._s3.head_bucket(Bucket=self._bucket, ExpectedBucketOwner=self._owner)
        except Refused as error:
            if code_of(error) in ("404", "NoSuchBucket"):
                return None
            # A refusal is dated too, and the clock may be what it is about.
            said = error.response if isinstance(error, ClientError) else {}
            if "date" not in said.get("ResponseMetadata", {}).get("HTTPHeaders", {}):
                self._refuse("reached", error)
        return datetime.now(UTC) - parsedate_to_datetime(said["ResponseMetadata"]["HTTPHeaders"]["date"])

    def sha256(self, path: str) -> str | None:
        """Of what lies there, in hexadecimal, as S3 itself has computed it; None if nothing does, or S3 was not asked
        to compute it when that was put there. Raises StoreError.
        """
        try:
            answer = self._s3.head_object(
                Bucket=self._bucket, Key=path, ExpectedBucketOwner=self._owner, ChecksumMode="ENABLED"
            )
        except Refused as error:
            if code_of(error) in ("404", "NoSuchKey"):
                return None
            self._refuse("read", error)
        if answer.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT" or "ChecksumSHA256" not in answer:
            return None  # of parts, it is a checksum of checksums
        return base64.b64decode(answer["ChecksumSHA256"]).hex()

    def put(self, path: str, file: Path) -> None:
        """Raises StoreError."""
        try:
            with file.open("rb") as data:
                self._s3.put_object(
                    Bucket=self._bucket,
                    Key=path,
                    Body=data,
                    ExpectedBucketOwner=self._owner,
                    ChecksumAlgorithm="SHA256",
                )
        except Refused as error:
            self._refuse("written", error)

    def address(self, path: str) -> str:
        """An object's URL, as CloudFormation takes it: at the Region's own endpoint, since others lead to some only."""
        return f"{self._s3.meta.endpoint_url}/{self._bucket}/{quote(path)}"

    def empty(self, prefix: str) -> int:
        """Delete every version of every object below `prefix`, for ever; how many those were. Raises StoreError."""
        deleted = 0
        try:
            for page in self._s3.get_paginator("list_object_versions").paginate(
                Bucket=self._bucket, Prefix=prefix, ExpectedBucketOwner=self._owner
            ):
                listed = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
                for one in listed:
                    # One at a time: S3 answers a list of deletions with a list of failures, which nobody reads.
                    self._s3.delete_object(
                        Bucket=self._bucket,
                        Key=one["Key"],
                        VersionId=one["VersionId"],
                        ExpectedBucketOwner=self._owner,
                    )
                deleted += len(listed)
        except Refused as error:
            self._refuse("emptied", error)
        return deleted

    def delete(self) -> bool:
        """Delete the bucket; False if something is in it still. Raises StoreError."""
        try:
            self._s3.delete_bucket(Bucket=self._bucket, ExpectedBucketOwner=self._owner)
        except Refused as error:
            if code_of(error) == "BucketNotEmpty":
                return False
            self._refuse("deleted", error)
        return True

    def _refuse(self, what: str, error: Exception, hint: str = "") -> NoReturn:
        if code_of(error) == "NoSuchBucket":
            hint = "its stack believes that it is there: see docs/operating.md, The bucket is gone"
        raise StoreError(
            f"the bucket {self._bucket} could not be {what}: {code_of(error)}",
            hint_for(error, {}, hint or "check the rights of the role that deploys (docs/iam.md, Deployer)"),
        ) from None
