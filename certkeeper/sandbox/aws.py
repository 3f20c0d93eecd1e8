"""AWS on loopback: moto behind a gate that counts, refuses and loses calls, and is strict where moto is not."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from functools import cache
from types import TracebackType
from typing import Any, ClassVar
from urllib.parse import unquote_to_bytes, urlsplit
from uuid import uuid4

from moto import backends
from moto.backends import get_backend
from moto.core.base_backend import BackendDict
from moto.core.model_instances import reset_model_data
from moto.iam.access_control import PermissionResult
from moto.kms import models as kms_models
from moto.kms.utils import generate_private_key
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import FakeBucket

from certkeeper.sandbox import secrets_manager
from certkeeper.sandbox.aws_calls import AwsRequest, read, refusal
from certkeeper.sandbox.calls import Call, Desk, Fault
from certkeeper.sandbox.loopback import ADDRESS, HttpServer, Request, Response
from certkeeper.sandbox.rights import Rights, Scene, Wanted, list_right, route53_rights, wanted
from certkeeper.sandbox.route53 import HostedZones
from certkeeper.sandbox.route53_api import Route53Api, error_response

ACCOUNT = "123456789012"
CIPHERTEXT_KEY_ID_LENGTH = 36  # moto's ciphertext begins with the key's id
ACCESS_KEY_ELEMENT = re.compile(rb"<AccessKeyId>([^<]*)</AccessKeyId>")
CODE_ELEMENT = re.compile(rb"<Code>([^<]*)</Code>")
# The operations that need a key in working order.
CRYPTOGRAPHIC = frozenset(
    ("Encrypt", "Decrypt", "ReEncrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "Sign", "Verify")
)

# moto takes a Deny whose condition it cannot evaluate for one of everything: "over TLS only" would shut the bucket.
setattr(FakeBucket, "get_permission", lambda bucket, action, resource: PermissionResult.NEUTRAL)  # noqa: B010 - mypy
# moto's ciphertexts have no room for the "mrk-" in the id of a key of several Regions, and could not be decrypted.
setattr(kms_models, "generate_key_id", lambda several: str(uuid4()))  # noqa: B010 - mypy
# moto makes an RSA key pair for a symmetric key as well, which takes longer than all else about it and is of no use.
setattr(  # noqa: B010 - mypy
    kms_models, "generate_private_key", lambda spec: None if spec == "SYMMETRIC_DEFAULT" else generate_private_key(spec)
)
# For every request moto looks through its folder twice, which takes as long as to answer the request.
MOTO_FOLDERS = frozenset(backends.list_of_moto_modules())
setattr(backends, "list_of_moto_modules", lambda: MOTO_FOLDERS)  # noqa: B010 - mypy


class AwsServer:
    """S3, KMS, Route 53 and whatever else moto plays, at `url`, for one account in one region.

    moto keeps its state per process, so there can be only one of these at a time: a second one raises RuntimeError
    until the first is closed. It begins empty and leaves nothing behind.

    Every request goes through the desk, retries too; `principal` is the access key id. Signatures are not checked;
    policies are, of those whom `rights` knows: it is asked before every call. Requests are served one after another,
    so of racing conditional writes one wins.

    Stricter than moto: Route 53 is `HostedZones`; KMS keys that are disabled or pending deletion do not work and a
    wrong key is IncorrectKeyException; `x-amz-expected-bucket-owner` is looked at; Secrets Manager refuses what
    `secrets_manager` says; a role of another account is assumed only if `trust` named it or `rights` knows its trust
    policy.
    """

    _standing: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, desk: Desk, hosted_zones: HostedZones, region: str = "eu-west-1") -> None:
        if not self._standing.acquire(blocking=False):
            raise RuntimeError("moto's state is the process's: close the other AwsServer first")
        self.region = region
        self._desk = desk
        self._hosted_zones = hosted_zones
        self._route53 = Route53Api(hosted_zones)
        self._assumable: set[str] = set()
        self._assumed: dict[str, Route53Api] = {}
        self._handlers: dict[str, Callable[[AwsRequest], Response | None]] = {}
        self._moto_lock = threading.RLock()
        self._moto = DomainDispatcherApplication(_app_of)
        self._closed = False
        try:
            self.reset()
            self._server = HttpServer(self._attended, "aws")
        except BaseException:
            self._standing.release()
            raise
        self.port = self._server.port
        self.url = self._server.url

    def __enter__(self) -> AwsServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        with self._moto_lock:
            if self._closed:
                return
            self._closed = True
        self._server.close()
        self.reset()
        self._standing.release()

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs in its environment to talk to this AWS and to no other."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ACCESS_KEY_ID": "AKIASANDBOXOPERATOR0",
            "AWS_SECRET_ACCESS_KEY": "sandbox-operator-secret",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    # Setting the scene

    def reset(self) -> None:
        """Forget everything but the hosted zones."""
        with self._moto_lock:
            BackendDict.reset()
            reset_model_data()
            self.rights = Rights(ACCOUNT)

    def create_bucket(self, name: str, *, versioned: bool = False) -> None:
        with self._moto_lock:
            self._s3().create_bucket(name, self.region)
            if versioned:
                self._s3().put_bucket_versioning(name, "Enabled")

    def create_kms_key(self, alias: str, region: str = "") -> str:
        """Make a symmetric key called alias/ALIAS; answers its ARN."""
        with self._moto_lock:
            kms = self._kms(region or self.region)
            kms_key = kms.create_key(None, "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", "", [])
            kms.create_alias(kms_key.id, alias if alias.startswith("alias/") else f"alias/{alias}")
            return str(kms_key.arn)

    def trust(self, role_arn: str) -> None:
        """Let this role of another account be assumed, and whoever does see the hosted zones of that account."""
        self._assumable.add(role_arn)

    def objects(self, bucket: str) -> dict[str, bytes]:
        """The current objects of a bucket by key."""
        with self._moto_lock:
            stored = self._s3().get_bucket(bucket).keys
            return {key: bytes(stored[key].value) for key in sorted(stored) if hasattr(stored[key], "value")}

    def put_object(self, bucket: str, object_key: str, body: bytes) -> None:
        """Write past the wire: not counted, refused or delayed."""
        with self._moto_lock:
            self._s3().put_object(bucket, object_key, body)

    def delete_object(self, bucket: str, object_key: str) -> None:
        with self._moto_lock:
            self._s3().delete_object(bucket, object_key)

    def age(self, bucket: str, object_key: str, seconds: float) -> None:
        """Make an object this much older: its Last-Modified goes back."""
        with self._moto_lock:
            self._s3().get_object(bucket, object_key).last_modified -= timedelta(seconds=seconds)

    def age_secret(self, name: str, seconds: float) -> None:
        """Make the versions of a secret this much older: their CreatedDate goes back."""
        with self._moto_lock:
            secret = secrets_manager.found(get_backend("secretsmanager")[ACCOUNT][self.region], name)
            for version in secret.versions.values():
                version["createdate"] -= seconds

    def deny(self, service: str, operation: str = "", contains: str = "") -> AbstractContextManager[Fault]:
        """While the block runs, answer such calls AccessDenied in the service's own form."""
        message = f"not authorized to perform: {service}:{operation or '*'}"
        return self._desk.fault(
            Fault("refuse", service, operation, contains, status=403, code="AccessDenied", message=message)
        )

    def serve(self, service: str, handler: Callable[[AwsRequest], Response | None]) -> None:
        """Have a service, by its signing name, answered by `handler`; where that answers None, by moto."""
        self._handlers[service] = handler

    # Serving

    def _attended(self, request: Request) -> Response:
        seen = read(request)
        if seen.service == "route53":
            return self._attended_route53(seen)
        call = Call(seen.service, seen.operation, seen.resource or self._key_of(seen), seen.context, seen.principal)
        return self._desk.attend(
            call,
            lambda: self._permitted_answer(seen),
            lambda fault: with_headers(refusal(seen, fault.status, fault.code, fault.message), fault),
            lambda response: response.status,
            error_code,
        )

    def _attended_route53(self, seen: AwsRequest) -> Response:
        route53 = self._assumed.get(seen.principal, self._route53)
        operation, resource, context = route53.described(seen.request)
        return self._desk.attend(
            Call("route53", operation, resource, context, seen.principal),
            lambda: self._permitted_route53(seen, route53, route53_rights(operation, resource, context)),
            lambda fault: with_headers(error_response(fault.code, fault.message, fault.status), fault),
            lambda response: response.status,
            error_code,
        )

    def _permitted_answer(self, seen: AwsRequest) -> Response:
        refused = self.rights.refused(seen.principal, wanted(seen, self._scene(seen)))
        response = self._answer(seen) if refused is None else None
        if response is not None and response.status == 404 and seen.service == "s3" and "/" in seen.resource:
            refused = self.rights.refused(seen.principal, [list_right(seen)])
        if response is None or refused is not None:
            return refusal(seen, 403, "AccessDenied", refused or "")
        if response.status < 300:
            self._protect(seen, response)
        if seen.operation == "AssumeRole" and (given := ACCESS_KEY_ELEMENT.search(response.body)):
            self.rights.assumed(given[1].decode(), seen.resource)
        return response

    def _protect(self, seen: AwsRequest, response: Response) -> None:
        """Policies that buckets, keys and secrets are given take effect."""
        call = f"{seen.service}:{seen.operation}"
        if call == "s3:PutBucketPolicy":
            self.rights.protect(f"arn:aws:s3:::{seen.resource}", json.loads(seen.request.body))
        elif call == "kms:PutKeyPolicy":
            self.rights.protect(self._kms_arn(seen.region, seen.resource), json.loads(str(seen.document["Policy"])))
        elif call in ("secretsmanager:PutResourcePolicy", "secretsmanager:DeleteResourcePolicy"):
            policy = json.loads(str(seen.document.get("ResourcePolicy") or "null"))
            arn = json.loads(response.body)["ARN"]
            self.rights.protect(arn, policy or {"Version": "2012-10-17", "Statement": []})
        elif call == "kms:CreateKey" and seen.document.get("Policy"):
            arn = json.loads(response.body)["KeyMetadata"]["Arn"]
            self.rights.protect(arn, json.loads(str(seen.document["Policy"])))

    def _permitted_route53(self, seen: AwsRequest, route53: Route53Api, rights: list[Wanted]) -> Response:
        refused = self.rights.refused(seen.principal, rights)
        return route53.answer(seen.request) if refused is None else error_response("AccessDenied", refused, 403)

    def _scene(self, seen: AwsRequest) -> Scene:
        """What the request is about by its full names."""
        region, kms_key_arn, secret_arn, of_secret = seen.region or self.region, "", "", ""
        with self._moto_lock:
            if seen.service == "kms":
                named = self._key_of(seen) or str(seen.document.get("KeyId") or "")
                kms_key_arn = self._kms_arn(region, named)
            if seen.service == "secretsmanager":
                secret = secrets_manager.found(get_backend("secretsmanager")[ACCOUNT][region], seen.resource)
                secret_arn = str(secret.arn) if secret else ""
                named = str(seen.document.get("KmsKeyId") or (secret.kms_key_id if secret else None) or "")
                of_secret = self._kms_arn(region, named) if named and "aws/secretsmanager" not in named else ""
        return Scene(region, ACCOUNT, kms_key_arn, secret_arn, of_secret)

    def _kms_arn(self, region: str, named: str) -> str:
        kms_key = self._kms_key(region, named) if named else None
        return str(kms_key.arn) if kms_key else ""

    def _answer(self, seen: AwsRequest) -> Response:
        handler = self._handlers.get(seen.service)
        answered = handler(seen) if handler is not None else None
        if answered is not None:
            return answered
        with self._moto_lock:
            if seen.service == "secretsmanager":
                return self._secrets_answer(seen)
            if seen.operation == "AssumeRole" and seen.resource.split(":")[4:5] != [ACCOUNT]:
                return self._foreign_role_answer(seen)
            refused = self._owner_refusal(seen) if seen.service == "s3" else self._kms_refusal(seen)
            return refused or self._moto_answer(seen)

    def _secrets_answer(self, seen: AwsRequest) -> Response:
        backend = get_backend("secretsmanager")[ACCOUNT][seen.region or self.region]

        def key_state(named: str) -> str:
            kms_key = self._kms_key(seen.region, named.rpartition(":key/")[2])
            return str(kms_key.key_state) if kms_key else ""

        refused = secrets_manager.refusal_of(backend, seen.operation, seen.document, key_state)
        if refused is not None:
            return refusal(seen, 400, *refused)
        asked = json.dumps(secrets_manager.asked(seen.operation, seen.document)).encode()
        secret = secrets_manager.found(backend, str(seen.document.get("SecretId") or ""))
        before = secrets_manager.labels_of(secret) if secret else {}
        answer = self._moto_answer(replace(seen, request=replace(seen.request, body=asked)))
        if secret and seen.operation in ("PutSecretValue", "UpdateSecret", "UpdateSecretVersionStage"):
            taken = seen.document if seen.operation == "UpdateSecretVersionStage" else {}
            kept = {label: version for label, version in before.items() if label != taken.get("VersionStage")}
            secrets_manager.mended(secret, kept)
        return answer

    def _foreign_role_answer(self, seen: AwsRequest) -> Response:
        if seen.resource not in self._assumable and self.rights.resource_policy(seen.resource) is None:
            message = f"User is not authorized to perform: sts:AssumeRole on resource: {seen.resource}"
            return refusal(seen, 403, "AccessDenied", message)
        answer = self._moto_answer(seen)
        given = ACCESS_KEY_ELEMENT.search(answer.body)
        if given:
            self._assumed[given[1].decode()] = Route53Api(self._hosted_zones, seen.resource.split(":")[4])
        return answer

    def _owner_refusal(self, seen: AwsRequest) -> Response | None:
        owner = seen.request.headers.get("x-amz-expected-bucket-owner", ACCOUNT)
        bucket = seen.resource.split("/", 1)[0]
        if owner == ACCOUNT or bucket not in self._s3().buckets:
            return None
        return refusal(seen, 403, "AccessDenied", "Access Denied")

    def _kms_refusal(self, seen: AwsRequest) -> Response | None:
        """What KMS says of a key that is there but not usable; a key that is not there is left to moto."""
        if seen.service != "kms" or seen.operation not in CRYPTOGRAPHIC:
            return None
        named = self._kms_key(seen.region, str(seen.document.get("KeyId") or ""))
        kms_key = self._kms_key(seen.region, self._key_of(seen)) or named
        if kms_key is None:
            return None
        if named is not None and named is not kms_key:
            message = "The key ID in the request does not identify a CMK that can perform this operation."
            return refusal(seen, 400, "IncorrectKeyException", message)
        if kms_key.key_state == "PendingDeletion":
            return refusal(seen, 400, "KMSInvalidStateException", f"{kms_key.arn} is pending deletion.")
        if kms_key.key_state != "Enabled":
            return refusal(seen, 400, "DisabledException", f"{kms_key.arn} is disabled.")
        return None

    def _kms_key(self, region: str, named: str) -> Any:
        """The key of that id, ARN or alias, None if there is none."""
        kms = self._kms(region)
        alias = kms.get_alias_name(named)
        return kms.keys.get(kms.get_key_id_from_alias(alias) if alias.startswith("alias/") else kms.get_key_id(named))

    def _key_of(self, seen: AwsRequest) -> str:
        """The ARN of the key that a ciphertext names, "" if there is none."""
        blob = seen.document.get("CiphertextBlob")
        if seen.service != "kms" or not isinstance(blob, str):
            return ""
        try:
            key_id = base64.b64decode(blob)[:CIPHERTEXT_KEY_ID_LENGTH].decode()
        except ValueError:
            return ""
        with self._moto_lock:
            kms_key = self._kms(seen.region).keys.get(key_id)
            return str(kms_key.arn) if kms_key else ""

    def _moto_answer(self, seen: AwsRequest) -> Response:
        try:
            return self._moto_response(with_key_id(seen))
        except Exception as error:  # noqa: BLE001 - a gap in moto, told to whoever met it
            return refusal(seen, 500, "InternalFailure", f"moto cannot do this: {error!r}")

    def _moto_response(self, request: Request) -> Response:
        answered: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], _: Any = None) -> Callable[[bytes], None]:
            answered.append((status, headers))
            return lambda _: None

        chunks = self._moto(wsgi_environment(request, self.port), start_response)
        try:
            body = b"".join(chunks)
        finally:
            if hasattr(chunks, "close"):
                chunks.close()
        status, headers = answered[-1]
        return Response(int(status.split()[0]), list(headers), body)

    def _s3(self) -> Any:
        return get_backend("s3")[ACCOUNT]["aws"]

    def _kms(self, region: str) -> Any:
        return get_backend("kms")[ACCOUNT][region or self.region]


@cache
def _app_of(service: Any) -> Any:
    """The part of moto that answers for a service. It keeps nothing: moto's state is the process's."""
    app = create_backend_app(service)
    # Flask's help for those who write an app takes a good part of each request; but what goes wrong is still raised.
    app.debug, app.config["PROPAGATE_EXCEPTIONS"] = False, True
    return app


def error_code(response: Response) -> str:
    """The code of an error, which the desk records ("Throttling", "PreconditionFailed"); "" for a good answer."""
    if response.status < 400:
        return ""
    named = [value for name, value in response.headers if name.lower() == "x-amzn-errortype"]
    found = CODE_ELEMENT.search(response.body)
    return named[0] if named else found[1].decode() if found else str(response.status)


def with_key_id(seen: AwsRequest) -> Request:
    """The request with a KMS key's id in place of its ARN, which moto does not know everywhere."""
    named = str(seen.document.get("KeyId") or "")
    if seen.service != "kms" or ":key/" not in named:
        return seen.request
    document = {**seen.document, "KeyId": named.rpartition(":key/")[2]}
    return replace(seen.request, body=json.dumps(document).encode())


def with_headers(response: Response, fault: Fault) -> Response:
    return replace(response, headers=[*response.headers, *fault.headers])


def wsgi_environment(request: Request, port: int) -> dict[str, Any]:
    path, query = urlsplit("//" + ADDRESS + request.target)[2:4]
    environment: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "RAW_URI": request.target,
        "QUERY_STRING": query,
        "SERVER_NAME": ADDRESS,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": ADDRESS,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in request.headers.items():
        environment["HTTP_" + name.upper().replace("-", "_")] = value
    environment["CONTENT_TYPE"] = environment.pop("HTTP_CONTENT_TYPE", "")
    # The body is here whole, however it came.
    environment["CONTENT_LENGTH"] = str(len(request.body))
    for name in ("HTTP_CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"):
        environment.pop(name, None)
    return environment
