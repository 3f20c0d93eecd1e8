"""Records in S3, by conditional writes (If-Match, If-None-Match on PutObject). A version is an ETag."""

from __future__ import annotations

import re
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, cast

from certkeeper.adapters.aws_refusals import NO_BUCKET, Refused, code_of, hint_for
from certkeeper.core.errors import Conflict, StoreError
from certkeeper.core.ports import Stored

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

TRIES = 3
BEFORE_ALL_ELSE = "before-parse.*.ListObjectsV2"
"""Of an answer that is to be parsed. By name of the service we would be asked after botocore's own "before-parse.s3.*",
which parses the whole of it only to see whether it is an error."""
LISTED = "Listed"
"""Where `_read_listing` puts what it has read."""
HINTS = {
    "NoSuchBucket": NO_BUCKET,
    "AccessDenied": "this role lacks rights on the bucket or its KMS key, or the bucket is somebody else's",
    "403": "this role lacks rights on the bucket, or the bucket is somebody else's",
    "AuthorizationHeaderMalformed": "check AWS_REGION, and AWS_ENDPOINT_URL if it is set",
}


class S3Records:
    """Objects under `prefix` in one bucket; `owner` is the account it must belong to."""

    def __init__(self, s3: S3Client, bucket: str, prefix: str, owner: str) -> None:
        self._s3 = s3
        s3.meta.events.register(BEFORE_ALL_ELSE, _read_listing, unique_id="certkeeper-listing")
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._owner = owner

    def read(self, path: str) -> Stored | None:
        try:
            answer = self._s3.get_object(Bucket=self._bucket, Key=self._prefix + path, ExpectedBucketOwner=self._owner)
            data = answer["Body"].read()
        except Refused as error:
            if code_of(error) == "NoSuchKey":
                return None
            raise self._store_error("read", path, error) from None
        return Stored(data, answer["ETag"], _age(answer))

    def write(self, path: str, data: bytes, version: str | None) -> str:
        for _ in range(TRIES):
            try:
                return self._put(path, data, version)
            except Refused as error:
                refused = error
            # 412 and 409 may be the answer to a retry of our own success, and a lost answer says nothing at all:
            # what stands there now says what was done.
            now = self.read(path)
            if now is not None and now.data == data:
                return now.version
            if (now.version if now else None) != version:
                raise Conflict(f"{path} was written by somebody else meanwhile", "try again")
            if code_of(refused) not in ("ConditionalRequestConflict", "PreconditionFailed"):
                break
        raise self._store_error("write", path, refused)

    def _put(self, path: str, data: bytes, version: str | None) -> str:
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        answer = self._s3.put_object(
            Bucket=self._bucket,
            Key=self._prefix + path,
            Body=data,
            ContentType="application/json",
            ExpectedBucketOwner=self._owner,
            **cast("Any", condition),
        )
        return answer["ETag"]

    def delete(self, path: str) -> None:
        try:
            self._s3.delete_object(Bucket=self._bucket, Key=self._prefix + path, ExpectedBucketOwner=self._owner)
        except Refused as error:
            raise self._store_error("delete", path, error) from None

    def list(self, prefix: str) -> dict[str, str]:
        found: dict[str, str] = {}
        start = len(self._prefix)
        more: dict[str, Any] = {}
        try:
            # By hand: for a paginator botocore looks through all services that it knows.
            while True:
                page: Any = self._s3.list_objects_v2(
                    Bucket=self._bucket, Prefix=self._prefix + prefix, ExpectedBucketOwner=self._owner, **more
                )
                listed = page.get(LISTED) or [(entry["Key"], entry["ETag"]) for entry in page.get("Contents", ())]
                found.update((key[start:], etag) for key, etag in listed)
                if not page.get("IsTruncated"):
                    return found
                more = {"ContinuationToken": page["NextContinuationToken"]}
        except Refused as error:
            raise self._store_error("list", prefix, error) from None

    def _store_error(self, verb: str, path: str, error: Exception) -> StoreError:
        return StoreError(
            f"the store could not {verb} s3://{self._bucket}/{self._prefix}{path}: {code_of(error)}",
            hint_for(error, HINTS, "nothing was changed on doubt; it is tried again by the next run"),
        )


_KEY, _ETAG = re.compile("<Key>([^<&%+]*)</Key>"), re.compile("<ETag>([^<&]*)</ETag>")


def _read_listing(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    """Read keys and ETags out of a listing, and leave the rest of it to botocore, which needs ten times as long for
    the thousand objects of a page: with thousands of names that is most of what a tick costs."""
    body: bytes = response_dict["body"]
    first, last = body.find(b"<Contents>"), body.rfind(b"</Contents>")
    objects = body[first:last].decode().replace("&quot;", '"')
    keys, etags = _KEY.findall(objects), _ETAG.findall(objects)
    if first < 0 or not len(keys) == len(etags) == objects.count("<Contents>"):
        return  # nothing, another form than S3's, or keys with letters that are escaped: botocore knows all of them
    customized_response_dict[LISTED] = list(zip(keys, etags, strict=True))
    response_dict["body"] = body[:first] + body[last + len(b"</Contents>") :]


def _age(answer: GetObjectOutputTypeDef) -> timedelta:
    """By S3's own clock: the answer's Date less the object's Last-Modified."""
    served = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    return max(timedelta(0), served - answer["LastModified"])
