"""IMDSv2, S3 and KMS on loopback, strict: whatever botocore would not have signed just so is refused."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import unquote, urlsplit

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

ACCOUNT = "123456789012"
KMS_KEY_ARN = f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/00000000-0000-0000-0000-000000000001"
ACCESS_KEY_ID = "AKIDEXAMPLE"
SECRET_ACCESS_KEY = "canary-secret/access+key"
SESSION_TOKEN = "canary-session-token//=="
IMDS_TOKEN = "canary-imds-token"
CONTAINER_TOKEN = "canary-container-token"
ROLE_CREDENTIALS = json.dumps(
    {
        "Code": "Success",
        "AccessKeyId": ACCESS_KEY_ID,
        "SecretAccessKey": SECRET_ACCESS_KEY,
        "Token": SESSION_TOKEN,
        "Expiration": "2099-01-01T00:00:00Z",
    },
    indent=1,
).encode()

Reply = tuple[int, dict[str, str], bytes]


@dataclass
class Seen:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass
class LoopbackAws:
    """The servers. `objects` is the bucket; `interfere` may answer in place of it."""

    objects: dict[str, bytes] = field(default_factory=dict)
    secrets: dict[str, bytes] = field(default_factory=dict)
    requests: list[Seen] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    interfere: Callable[[Seen], Reply | None] = lambda seen: None
    session_token: str = ""
    clock_offset: float = 0.0
    has_role: bool = True
    tls: ssl.SSLContext | None = None
    regions: tuple[str, ...] = ("eu-west-1",)

    def __enter__(self) -> LoopbackAws:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = 65536

            def setup(self) -> None:
                if outer.tls is not None:
                    self.request = outer.tls.wrap_socket(self.request, server_side=True)
                super().setup()

            def finish(self) -> None:
                super().finish()
                self.request.close()

            def attend(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                seen = Seen(self.command, self.path, headers, body, self.client_address[1])
                outer.requests.append(seen)
                status, extra, answer = outer.interfere(seen) or outer.answer(seen)
                self.send_response_only(status)
                extra = {"Date": outer.date(), "Content-Length": str(len(answer)), **extra}
                for name, value in extra.items():
                    if value:
                        self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)
                self.wfile.flush()

            do_GET = do_PUT = do_POST = attend  # noqa: N815 - the library's names

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that went away is none of our business."""

        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.server.server_port}"

    def environment(self, *, role: bool = False) -> dict[str, str]:
        """What a client needs to find us; with `role` its credentials come from IMDS."""
        found = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.url,
            "PATH": "/usr/bin:/bin:/usr/sbin",
        }
        if not role:
            found |= {
                "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
                "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
                "AWS_REGION": "eu-west-1",
            }
            if self.session_token:
                found["AWS_SESSION_TOKEN"] = self.session_token
        return found

    def count(self, part: str) -> int:
        return sum(part in f"{seen.method} {seen.path}" for seen in self.requests)

    def date(self) -> str:
        moment = datetime.datetime.fromtimestamp(time.time() + self.clock_offset, datetime.UTC)
        return moment.strftime("%a, %d %b %Y %H:%M:%S GMT")

    def answer(self, seen: Seen) -> Reply:
        if seen.path.startswith("/latest/"):
            return self._metadata(seen)
        if seen.path == "/" and "x-amz-target" in seen.headers:
            return self._kms(seen) if "TrentService" in seen.headers["x-amz-target"] else self._secret(seen)
        if seen.path.startswith("/container/"):
            trusted = seen.headers.get("authorization") == CONTAINER_TOKEN
            return (200, {}, ROLE_CREDENTIALS) if trusted else (401, {}, b"")
        return self._s3(seen)

    def _metadata(self, seen: Seen) -> Reply:
        if seen.path == "/latest/api/token":
            if seen.method != "PUT" or not seen.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "").isdigit():
                return 400, {}, b""
            return 200, {}, IMDS_TOKEN.encode()
        if seen.headers.get("x-aws-ec2-metadata-token") != IMDS_TOKEN:
            return 401, {}, b""
        path = seen.path.removeprefix("/latest/meta-data/")
        if path == "placement/region":
            return 200, {}, b"eu-west-1"
        if not self.has_role:
            return 404, {}, b"<html>404</html>"
        if path == "iam/security-credentials/":
            return 200, {}, b"web-role"
        if path == "iam/security-credentials/web-role":
            return 200, {}, ROLE_CREDENTIALS
        return 404, {}, b""

    def _s3(self, seen: Seen) -> Reply:
        refusal = self._refusal(seen, "s3")
        if refusal:
            return 403, {}, f"<?xml version='1.0'?><Error><Code>{refusal}</Code></Error>".encode()
        owner = seen.headers.get("x-amz-expected-bucket-owner", ACCOUNT)
        found = self.objects.get(unquote(urlsplit(seen.path).path))
        if owner != ACCOUNT:
            return 403, {}, b"<Error><Code>AccessDenied</Code></Error>"
        if found is None:
            return 404, {}, b"<Error><Code>NoSuchKey</Code></Error>"
        etag = etag_of(found)
        if seen.headers.get("if-none-match") == etag:
            return 304, {"ETag": etag, "Content-Length": ""}, b""
        return 200, {"ETag": etag}, found

    def _secret(self, seen: Seen) -> Reply:
        refusal = self._refusal(seen, "secretsmanager")
        found = self.secrets.get(json.loads(seen.body)["SecretId"])
        if refusal or found is None:
            return 400, {}, json.dumps({"__type": refusal or "ResourceNotFoundException"}).encode()
        version = hashlib.sha256(found).hexdigest()
        return 200, {}, json.dumps({"SecretString": found.decode(), "VersionId": version}).encode()

    def _kms(self, seen: Seen) -> Reply:
        refusal = self._refusal(seen, "kms")
        if refusal:
            return 400, {}, json.dumps({"__type": refusal}).encode()
        call = json.loads(seen.body)
        try:
            plaintext = unsealed(base64.b64decode(call["CiphertextBlob"]), call["KeyId"], call["EncryptionContext"])
        except ValueError:
            return 400, {}, b'{"__type": "com.amazonaws.kms#InvalidCiphertextException"}'
        return 200, {}, json.dumps({"KeyId": call["KeyId"], "Plaintext": base64.b64encode(plaintext).decode()}).encode()

    def _refusal(self, seen: Seen, service: str) -> str:
        """AWS's code for what is wrong with a signature; botocore signs the same request and must agree."""
        given = seen.headers.get("authorization", "")
        stamp = seen.headers.get("x-amz-date", "")
        try:
            moment = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
            skew = moment.timestamp() - time.time() - self.clock_offset
        except ValueError:
            return "AccessDenied"
        if abs(skew) > 300:
            return "RequestTimeTooSkewed" if service == "s3" else "InvalidSignatureException"
        signed_names = given.partition("SignedHeaders=")[2].partition(",")[0].split(";")
        region = "".join(given.partition("Credential=")[2].split("/")[2:3])
        unsigned = {name for name in seen.headers if name.startswith("x-amz-") or name == "host"} - set(signed_names)
        if region not in self.regions or unsigned:
            self.problems.append(f"region {region}, unsigned headers {unsigned}")
            return "SignatureDoesNotMatch"
        if "x-amz-security-token" not in seen.headers and self.session_token:
            return "InvalidToken"
        if seen.headers.get("x-amz-content-sha256") != hashlib.sha256(seen.body).hexdigest():
            return "XAmzContentSHA256Mismatch"
        if expected_authorization(seen, (region, service), self.url, signed_names) != given:
            self.problems.append(f"signature of {seen.method} {seen.path}")
            return "SignatureDoesNotMatch"
        return ""


def expected_authorization(seen: Seen, scope: tuple[str, str], url: str, signed_names: list[str]) -> str:
    """What botocore would have put into the authorization header."""
    region, service = scope
    headers = {name: value for name, value in seen.headers.items() if name in signed_names}
    stamp = headers["x-amz-date"]
    request = AWSRequest(seen.method, url + seen.path, data=seen.body, headers=headers)
    request.context["timestamp"] = stamp
    who = Credentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY, headers.get("x-amz-security-token"))
    signer = (S3SigV4Auth if service == "s3" else SigV4Auth)(who, service, region)
    signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    credential = f"{ACCESS_KEY_ID}/{stamp[:8]}/{region}/{service}/aws4_request"
    return f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={';'.join(sorted(headers))}, Signature={signature}"


def sealed(plaintext: bytes, name: str, kms_key_arn: str = KMS_KEY_ARN) -> bytes:
    """A KMS ciphertext blob as far as the client can see: opaque, bound to the key and the context."""
    bound = json.dumps([kms_key_arn, {"certkeeper-name": name}]).encode()
    mask = hashlib.shake_256(bound).digest(len(plaintext) + 32)
    clear = hashlib.sha256(plaintext).digest() + plaintext
    return bytes(one ^ other for one, other in zip(clear, mask, strict=True))


def unsealed(blob: bytes, kms_key_arn: str, context: dict[str, str]) -> bytes:
    mask = hashlib.shake_256(json.dumps([kms_key_arn, context]).encode()).digest(len(blob))
    clear = bytes(one ^ other for one, other in zip(blob, mask, strict=True))
    if hashlib.sha256(clear[32:]).digest() != clear[:32]:
        raise ValueError
    return clear[32:]


def etag_of(data: bytes) -> str:
    return f'"{hashlib.sha256(data).hexdigest()[:32]}"'
