"""The calls a pull makes: instance metadata, S3 GetObject, KMS Decrypt. Nothing here writes, nothing is kept."""

from __future__ import annotations

import binascii
import json
import os
import ssl
import time
from collections.abc import Callable

from certkeeper import __version__
from certkeeper.client.sigv4 import Credentials, encoded_path, signed
from certkeeper.client.wire import Answer, Connection, seconds_at, trusting
from certkeeper.core.document import LARGEST, parse_object
from certkeeper.core.errors import DocumentError, SealingError, SettingsError, StoreError

_PAUSES = (0.2, 0.8)
_NO_METADATA = (
    "is an instance role attached? Outside EC2 set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and --region;"
    " in a container raise the metadata hop limit to 2"
)


class NotYet(StoreError):  # noqa: N818 - not a failure: --wait goes on
    """The store cannot hand it out now, and waiting may help."""


class Aws:
    """One run's session: credentials, region and open connections, found when first needed."""

    def __init__(self, region: str, bucket_owner: str, say: Callable[[str], None]) -> None:
        self.region = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
        self.bucket_owner = bucket_owner
        self.say = say
        self.imds_token = ""
        self.credentials: Credentials | None = None
        self.context: ssl.SSLContext | None = None
        self.connections: dict[str, Connection] = {}
        self.clock_offset: float | None = None

    def document(self, bucket: str, object_key: str, etag: str) -> tuple[bytes, str] | None:
        """(bytes, ETag) of an object; None if it still has this ETag. Raises StoreError."""
        region = self._region()
        url = _configured_endpoint("S3") or f"https://{bucket}.s3.{region}.{_suffix(region)}"
        path = "/" + object_key
        if _configured_endpoint("S3") or "." in bucket:  # S3's wildcard certificate has no place for another dot
            path = f"/{bucket}/{object_key}"
            url = url.replace(f"//{bucket}.", "//")
        headers = {"x-amz-expected-bucket-owner": self.bucket_owner} if self.bucket_owner else {}
        if etag:
            headers["if-none-match"] = etag
        answer = self._call("GET", url, encoded_path(path), headers, b"", (region, "s3"))
        if answer.status == 304:
            return None
        if answer.status == 200:
            return answer.body, answer.headers.get("etag", "")
        there = answer.headers.get("x-amz-bucket-region", region)
        if there != region and _is_region(there):
            raise StoreError(f"s3://{bucket} is not in {region}", f"the bucket says: --region {there}")
        kind = NotYet if answer.status in (403, 404) else StoreError
        raise kind(
            f"s3://{bucket}/{object_key}: {_code(answer)}",
            "either the certificate was not issued yet (see `certkeeper status`), or this role may not read it"
            " (see `certkeeper policy`)",
        )

    def opened(self, blob: bytes, kms_key_arn: str, name: str) -> bytes:
        """A sealed private key in the clear, by KMS Decrypt. Raises SealingError or StoreError."""
        region = (kms_key_arn.split(":") + [""] * 4)[3]
        if not kms_key_arn.startswith("arn:") or not _is_region(region):
            raise SealingError("the document's kms_key_arn is not the ARN of a KMS key")
        call = {
            "CiphertextBlob": binascii.b2a_base64(blob, newline=False).decode(),
            "EncryptionContext": {"certkeeper-name": name},
            "KeyId": kms_key_arn,
        }
        headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": "TrentService.Decrypt"}
        url = _configured_endpoint("KMS") or f"https://kms.{region}.{_suffix(region)}"
        answer = self._call("POST", url, "/", headers, json.dumps(call).encode(), (region, "kms"))
        if answer.status == 200:
            try:
                return binascii.a2b_base64(str(parse_object(answer.body)["Plaintext"]))
            except (DocumentError, KeyError, ValueError):
                raise SealingError("KMS answers without the private key") from None
        # A role's new rights reach KMS later than S3.
        kind = NotYet if _code(answer) == "AccessDeniedException" else SealingError
        raise kind(
            f"KMS does not open the private key: {_code(answer)}",
            f"this role needs kms:Decrypt on {kms_key_arn} with the encryption context certkeeper-name={name}",
        )

    def forget_credentials(self) -> None:
        """Ask for them again at the next call: an instance role may appear while we wait."""
        self.credentials = None

    def close(self) -> None:
        for connection in self.connections.values():
            connection.close()

    def _call(
        self, method: str, url: str, path: str, headers: dict[str, str], body: bytes, scope: tuple[str, str]
    ) -> Answer:
        """One signed call."""
        credentials = self._credentials()

        def ask(connection: Connection) -> Answer:
            moment = time.time() + (self.clock_offset or 0.0)
            named = dict(headers, host=connection.host_header)
            ready = signed(method, path, named, body, credentials, scope, moment)
            ready["user-agent"] = f"certkeeper-pull/{__version__}"
            return connection.request(method, path, ready, body, LARGEST)

        return self._patiently(url, 10.0, ask)

    def _patiently(self, url: str, seconds: float, ask: Callable[[Connection], Answer]) -> Answer:
        """Ask, and a few times again where that may help. Raises NotYet."""
        if self.context is None and url.startswith("https"):
            self.context = trusting(os.environ.get("AWS_CA_BUNDLE"))
        if url not in self.connections:
            self.connections[url] = Connection(url, seconds, self.context)
        connection = self.connections[url]
        pauses = list(_PAUSES)
        while True:
            try:
                answer = ask(connection)
                code = _code(answer)
                if answer.status < 500 and "Throttl" not in code and not self._clock_was_wrong(answer, code):
                    return answer
                trouble = f"answers {code}"
            except ssl.SSLCertVerificationError as error:
                hint = "a private endpoint needs AWS_CA_BUNDLE"
                raise StoreError(f"{connection.host} is not trusted here: {error.verify_message}", hint) from None
            except OSError as error:
                trouble = f"cannot be reached: {error}"
            if not pauses:
                raise NotYet(f"{connection.host} {trouble}")
            time.sleep(pauses.pop(0))

    def _clock_was_wrong(self, answer: Answer, code: str) -> bool:
        """Whether a refusal may be due to our clock; if so, go by the server's from now on. Once."""
        if self.clock_offset is not None or not any(word in code for word in ("Skewed", "Signature", "Expired")):
            return False
        try:
            _, day, month, year, clock, _ = answer.headers.get("date", "").split()
            offset = seconds_at(day, month, year, clock) - time.time()
        except ValueError:
            return False
        if abs(offset) < 60:
            return False
        self.clock_offset = offset
        self.say(f"this machine's clock is off by {-offset:.0f} s ({code}); signing by the server's")
        return True

    def _credentials(self) -> Credentials:
        found = os.environ
        if self.credentials is None and found.get("AWS_ACCESS_KEY_ID"):
            self.credentials = Credentials(
                found["AWS_ACCESS_KEY_ID"], found.get("AWS_SECRET_ACCESS_KEY", ""), found.get("AWS_SESSION_TOKEN", "")
            )
        if self.credentials is None:
            role = self._metadata("iam/security-credentials/").split("\n")[0]
            try:
                fields = parse_object(self._metadata(f"iam/security-credentials/{role}").encode())
                words = [str(fields[field]) for field in ("AccessKeyId", "SecretAccessKey", "Token")]
            except (DocumentError, KeyError):
                raise NotYet("the instance role has no credentials yet") from None
            self.credentials = Credentials(*words)
        return self.credentials

    def _region(self) -> str:
        self.region = self.region or self._metadata("placement/region")
        if not _is_region(self.region):
            raise SettingsError("the region is not an AWS region", "give it with --region, as in eu-west-1")
        return self.region

    def _metadata(self, path: str) -> str:
        """A text of the instance metadata service, IMDSv2 only. Raises NotYet."""
        url = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or "http://169.254.169.254"
        target = encoded_path("/latest/meta-data/" + path)

        def ask(connection: Connection) -> Answer:
            if not self.imds_token:
                lifetime = {"x-aws-ec2-metadata-token-ttl-seconds": "300"}
                answer = connection.request("PUT", "/latest/api/token", lifetime, b"", LARGEST)
                if answer.status != 200:
                    return answer
                self.imds_token = answer.body.decode("latin-1")
            return connection.request("GET", target, {"x-aws-ec2-metadata-token": self.imds_token}, b"", LARGEST)

        try:
            answer = self._patiently(url, 1.0, ask)
        except NotYet as error:
            raise NotYet(f"the instance metadata service {error.message}", _NO_METADATA) from None
        if answer.status != 200:
            self.imds_token = ""
            raise NotYet(f"the instance metadata service answers {answer.status} to {path}", _NO_METADATA)
        return answer.body.decode("latin-1").strip()


def _code(answer: Answer) -> str:
    """AWS's word for what is wrong: `<Code>` in S3's XML, `__type` in JSON."""
    text = answer.body.decode("latin-1").partition("<Code>")[2].partition("</Code>")[0]
    if not text and answer.status >= 400 and answer.body.startswith(b"{"):
        try:
            text = str(parse_object(answer.body).get("__type")).rpartition("#")[2]
        except DocumentError:
            text = ""
    return text if text.isalnum() and len(text) <= 64 and answer.status != 200 else f"HTTP {answer.status}"


def _is_region(text: str) -> bool:
    return text.isascii() and text.replace("-", "").isalnum()


def _configured_endpoint(service: str) -> str:
    return os.environ.get(f"AWS_ENDPOINT_URL_{service}") or os.environ.get("AWS_ENDPOINT_URL") or ""


def _suffix(region: str) -> str:
    return "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
