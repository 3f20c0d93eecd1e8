"""Reading an AWS request off the wire, whatever its protocol, and refusing one in the shape its service would."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote
from xml.sax.saxutils import escape

from certkeeper.sandbox.loopback import Request, Response

CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/\d+/([^/,\s]*)/([^/,\s]+)/aws4_request")
# What a request of a JSON or query protocol is about: the first of these that it has.
RESOURCE_MEMBERS = (
    "KeyId", "SecretId", "Name", "RoleArn", "FunctionName", "TopicArn", "StackName", "AliasName", "logGroupName",
    "QueueUrl", "TableName", "AlarmName",
)  # fmt: skip
BUCKET_OPERATIONS = {
    ("GET", ""): "ListObjects",
    ("GET", "list-type"): "ListObjectsV2",
    ("GET", "location"): "GetBucketLocation",
    ("GET", "versioning"): "GetBucketVersioning",
    ("GET", "versions"): "ListObjectVersions",
    ("GET", "uploads"): "ListMultipartUploads",
    ("GET", "encryption"): "GetBucketEncryption",
    ("GET", "policy"): "GetBucketPolicy",
    ("GET", "lifecycle"): "GetBucketLifecycleConfiguration",
    ("GET", "publicAccessBlock"): "GetPublicAccessBlock",
    ("GET", "ownershipControls"): "GetBucketOwnershipControls",
    ("GET", "tagging"): "GetBucketTagging",
    ("PUT", ""): "CreateBucket",
    ("PUT", "versioning"): "PutBucketVersioning",
    ("PUT", "encryption"): "PutBucketEncryption",
    ("PUT", "policy"): "PutBucketPolicy",
    ("PUT", "lifecycle"): "PutBucketLifecycleConfiguration",
    ("PUT", "publicAccessBlock"): "PutPublicAccessBlock",
    ("PUT", "ownershipControls"): "PutBucketOwnershipControls",
    ("PUT", "tagging"): "PutBucketTagging",
    ("HEAD", ""): "HeadBucket",
    ("DELETE", ""): "DeleteBucket",
    ("DELETE", "policy"): "DeleteBucketPolicy",
    ("POST", "delete"): "DeleteObjects",
}
OBJECT_OPERATIONS = {
    ("GET", ""): "GetObject",
    ("GET", "tagging"): "GetObjectTagging",
    ("GET", "attributes"): "GetObjectAttributes",
    ("GET", "uploadId"): "ListParts",
    ("HEAD", ""): "HeadObject",
    ("PUT", ""): "PutObject",
    ("PUT", "tagging"): "PutObjectTagging",
    ("PUT", "partNumber"): "UploadPart",
    ("DELETE", ""): "DeleteObject",
    ("DELETE", "tagging"): "DeleteObjectTagging",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
    ("POST", "uploads"): "CreateMultipartUpload",
    ("POST", "uploadId"): "CompleteMultipartUpload",
}
FUNCTION_INVOCATION = re.compile(r"/2015-03-31/functions/([^/]+)/invocations")
JSON_ACCESS_DENIED = "AccessDeniedException"

request_ids = itertools.count(1)


@dataclass(frozen=True)
class AwsRequest:
    """A request with what it says about itself. `document` is the body of a JSON protocol, else empty."""

    request: Request
    service: str
    operation: str
    resource: str
    region: str
    principal: str
    protocol: str
    document: Mapping[str, Any]

    @property
    def context(self) -> tuple[tuple[str, str], ...]:
        found = self.document.get("EncryptionContext")
        if not isinstance(found, dict):
            return ()
        return tuple(sorted((str(name), str(value)) for name, value in found.items()))


def read(request: Request) -> AwsRequest:
    """Service, operation and resource of a request; who signs nothing talks to S3, as a browser would."""
    signed = CREDENTIAL.search(request.headers.get("Authorization", ""))
    if signed is None:
        signed = CREDENTIAL.search("Credential=" + request.query.get("X-Amz-Credential", ""))
    principal, region, service = signed.groups() if signed else ("", "", "s3")
    target = request.headers.get("X-Amz-Target", "")
    document: Mapping[str, Any] = {}
    if target:
        document = parsed_json(request.body)
        protocol, operation, resource = "json", target.rsplit(".", 1)[-1], first_member(document)
    elif service == "s3":
        protocol, (operation, resource) = "s3", s3_operation(request)
    elif "x-www-form-urlencoded" in request.headers.get("Content-Type", ""):
        form = dict(parse_qsl(request.body.decode(errors="replace"), keep_blank_values=True))
        protocol, operation, resource = "query", form.get("Action", "Unknown"), first_member(form)
    else:
        protocol, (operation, resource) = "rest-json", rest_operation(request)
    return AwsRequest(request, service, operation, resource, region, principal, protocol, document)


def parsed_json(body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(body or b"{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def first_member(document: Mapping[str, Any]) -> str:
    return next((str(document[name]) for name in RESOURCE_MEMBERS if document.get(name)), "")


def s3_operation(request: Request) -> tuple[str, str]:
    """Operation, and "bucket/key" or "bucket"."""
    bucket, _, object_key = unquote(request.path).lstrip("/").partition("/")
    if not bucket:
        return "ListBuckets", ""
    operations = OBJECT_OPERATIONS if object_key else BUCKET_OPERATIONS
    resource = f"{bucket}/{object_key}" if object_key else bucket
    if request.method == "PUT" and object_key and request.headers.get("x-amz-copy-source") is not None:
        return "CopyObject", resource
    known = [name for name in request.query if (request.method, name) in operations]
    return operations.get((request.method, known[0] if known else ""), "Unknown"), resource


def rest_operation(request: Request) -> tuple[str, str]:
    invocation = FUNCTION_INVOCATION.fullmatch(request.path)
    if invocation:
        return "Invoke", unquote(invocation[1])
    return f"{request.method} {request.path}", request.path.rstrip("/").rsplit("/", 1)[-1]


def refusal(seen: AwsRequest, status: int, code: str, message: str) -> Response:
    """An error as the request's service words it."""
    request_id = f"sandbox-{next(request_ids):08d}"
    if seen.protocol in ("json", "rest-json"):
        if code == "AccessDenied":
            status, code = (400 if seen.protocol == "json" else 403), JSON_ACCESS_DENIED
        headers = [("x-amzn-RequestId", request_id), ("x-amzn-errortype", code)]
        headers.append(
            ("Content-Type", "application/x-amz-json-1.1" if seen.protocol == "json" else "application/json")
        )
        return Response(status, headers, json.dumps({"__type": code, "message": message}).encode())
    text = f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
    if seen.protocol == "s3":
        resource = f"<Resource>/{escape(seen.resource)}</Resource>"
        body = f"<Error>{text}{resource}<RequestId>{request_id}</RequestId></Error>"
        headers = [("x-amz-request-id", request_id), ("Content-Type", "application/xml")]
    else:
        kind = "Sender" if status < 500 else "Receiver"
        error = f"<Error><Type>{kind}</Type>{text}</Error>"
        body = f"<ErrorResponse>{error}<RequestId>{request_id}</RequestId></ErrorResponse>"
        headers = [("x-amzn-RequestId", request_id), ("Content-Type", "text/xml")]
    return Response(status, headers, b'<?xml version="1.0" encoding="UTF-8"?>\n' + body.encode())
