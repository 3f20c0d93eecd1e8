"""The calls a pull makes: credentials, S3 GetObject or GetSecretValue, KMS Decrypt. Nothing here writes or is kept."""

from __future__ import annotations

import binascii
import json
import os
import ssl
import time
from collections.abc import Callable, Mapping

from certkeeper import __version__
from certkeeper.client.sigv4 import Credentials, encoded_path, is_region, signed
from certkeeper.client.wire import Answer, Connection, seconds_at, split_url, trusting
from certkeeper.core.document import LARGEST, parse_object
from certkeeper.core.errors import DocumentError, SealingError, SettingsError, StoreError

_PAUSES = (0.2, 0.8)
_NO_METADATA = (
    "is an instance role attached? Outside EC2 set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and --region;"
    " in a container raise the metadata hop limit to 2"
)
_CREDENTIALS = ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN")
# Who may be sent a container's token in the clear, as in AWS's own SDKs: ECS, EKS, this machine.
_CONTAINER_HOSTS = ("169.254.170.2", "169.254.170.23", "[fd00:ec2::23]", "localhost", "127.0.0.1", "[::1]")
# By a region's first letters.
_SUFFIXES = {
    "cn-": ("amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    "eusc-": ("amazonaws.eu", "api.amazonwebservices.eu"),
    "": ("amazonaws.com", "api.aws"),
}


class NotYet(StoreError):  # noqa: N818 - not a failure: --wait goes on
    """The store cannot hand it out now, and waiting may help."""


class Aws:
    """One run's session: credentials, region and open connections, found when first needed."""

    def __init__(self, region: str, bucket_owner: str, say: Callable[[str], None]) -> None:
        self.region, self.found_region, self.bucket_region = region, "", ""
        self.bucket_owner = bucket_owner
        self.say = say
        self.imds_token = ""
        self.credentials: Credentials | None = None  # None again: asked for at the next call
        self.contexts: dict[str | None, ssl.SSLContext] = {}
        self.connections: dict[str, Connection] = {}
        self.clock_offset = 0.0  # from the monotonic clock to AWS's, if ours is wrong

    def document(self, bucket: str, object_key: str, etag: str) -> tuple[bytes, str] | None:
        """(bytes, ETag) of an object; None if it still has this ETag. Raises StoreError."""
        headers = {"x-amz-expected-bucket-owner": self.bucket_owner, "if-none-match": etag}
        headers = {name: value for name, value in headers.items() if value}
        while True:
            region = self._region()
            url, path = _endpoint("s3", region), f"/{object_key}"
            if _configured("S3") or "." in bucket:  # S3's wildcard certificate has no place for another dot
                path = f"/{bucket}{path}"
            else:
                url = url.replace("//", f"//{bucket}.")
            answer = self._call("GET", url, encoded_path(path), headers, b"", (region, "s3"))
            if answer.status == 304:
                return None
            if answer.status == 200:
                etag = answer.headers.get("etag", "")
                # It comes back in a header: one that cannot be sent must not stop all later pulls.
                return answer.body, etag if etag.isascii() and etag.isprintable() else ""
            there = answer.headers.get("x-amz-bucket-region", region)
            if self.bucket_region or answer.status not in (301, 307, 400) or there == region or not is_region(there):
                raise _refused(f"s3://{bucket}/{object_key}", answer)
            self.bucket_region = there

    def secret(self, secret_id: str, version: str) -> tuple[bytes, str] | None:
        """(bytes, VersionId) of a secret's current value; None if it is still this version. Raises StoreError."""
        answer = self._ask_json("secretsmanager", self._region(), "GetSecretValue", {"SecretId": secret_id})
        if answer.status != 200:
            raise _refused(f"the secret {secret_id}", answer)
        fields = parse_object(answer.body)
        text, found = fields.get("SecretString"), fields.get("VersionId")
        if not isinstance(text, str) or not isinstance(found, str):
            raise StoreError(f"the secret {secret_id} holds no text")
        return None if found == version else (text.encode("utf-8", "replace"), found)

    def opened(self, blob: bytes, kms_key_arn: str, name: str) -> bytes:
        """A sealed private key in the clear, by KMS Decrypt. Raises SealingError or StoreError."""
        region = (kms_key_arn.split(":") + [""] * 4)[3]
        if not kms_key_arn.startswith("arn:") or not is_region(region):
            raise SealingError("the document's kms_key_arn is not the ARN of a KMS key")
        call = {
            "CiphertextBlob": binascii.b2a_base64(blob, newline=False).decode(),
            "EncryptionContext": {"certkeeper-name": name},
            "KeyId": kms_key_arn,
        }
        answer = self._ask_json("kms", region, "Decrypt", call)
        if answer.status == 200:
            try:
                return binascii.a2b_base64(str(parse_object(answer.body)["Plaintext"]))
            except (DocumentError, KeyError, ValueError):
                raise SealingError("KMS answers without the private key") from None
        kind = NotYet if _may_come(answer) else SealingError
        raise kind(
            f"KMS does not open the private key: {_code(answer)}",
            f"this role needs kms:Decrypt on {kms_key_arn} with the encryption context certkeeper-name={name}",
        )

    def trust(self, bundle: str | None) -> ssl.SSLContext:
        """`trusting`, once for all names and calls: to read roots out of one file is most of a pull."""
        if bundle not in self.contexts:
            self.contexts[bundle] = trusting(bundle)
        return self.contexts[bundle]

    def close(self) -> None:
        for connection in self.connections.values():
            connection.close()

    def _ask_json(self, service: str, region: str, verb: str, call: Mapping[str, object]) -> Answer:
        target = "TrentService" if service == "kms" else service
        headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": f"{target}.{verb}"}
        body = json.dumps(call).encode()
        return self._call("POST", _endpoint(service, region), "/", headers, body, (region, service))

    def _call(
        self, method: str, url: str, path: str, headers: dict[str, str], body: bytes, scope: tuple[str, str]
    ) -> Answer:
        """One signed call."""
        credentials = self._credentials()

        def ask(connection: Connection) -> Answer:
            moment = time.monotonic() + self.clock_offset if self.clock_offset else time.time()
            named = dict(headers, host=connection.host_header)
            ready = signed(method, path, named, body, credentials, scope, moment)
            ready["user-agent"] = f"certkeeper-pull/{__version__}"
            return connection.request(method, path, ready, body, LARGEST)

        try:
            return self._patiently(url, 10.0, ask)
        except NotYet as error:
            hint = f"in a private subnet {scope[1]} needs a VPC endpoint (com.amazonaws.{scope[0]}.{scope[1]}) or a NAT"
            raise NotYet(error.message, error.hint or hint) from None

    def _patiently(self, url: str, seconds: float, ask: Callable[[Connection], Answer]) -> Answer:
        """Ask, and a few times again where that may help. Raises NotYet."""
        if url not in self.connections:
            context = self.trust(os.environ.get("AWS_CA_BUNDLE")) if url.startswith("https") else None
            self.connections[url] = Connection(url, seconds, context)
        connection = self.connections[url]
        for pause in (*_PAUSES, None):
            try:
                answer = ask(connection)
                code = _code(answer)
                if answer.status < 500 and "Throttl" not in code and not self._clock_was_wrong(answer, code):
                    return answer
                trouble = f"answers {code}"
            except ssl.SSLCertVerificationError as error:
                trouble = f"is not trusted here: {error.verify_message}"
                if error.verify_code in (9, 10):  # X509_V_ERR_CERT_NOT_YET_VALID, _HAS_EXPIRED: rather our clock
                    raise NotYet(f"{connection.host} {trouble}", "is this machine's clock right?") from None
                hint = "a private endpoint needs AWS_CA_BUNDLE"
                raise StoreError(f"{connection.host} {trouble}", hint) from None
            except OSError as error:
                trouble = f"cannot be reached: {error}"
            if pause is not None:
                time.sleep(pause)
        raise NotYet(f"{connection.host} {trouble}")

    def _clock_was_wrong(self, answer: Answer, code: str) -> bool:
        """Whether a refusal may be due to our clock; if so, go by the server's from now on, even once ours is set."""
        if self.clock_offset or not any(word in code for word in ("Skewed", "Signature", "Expired")):
            return False
        try:
            _, day, month, year, clock, _ = answer.headers.get("date", "").split()
            now = seconds_at(day, month, year, clock)
        except ValueError:
            return False
        ahead = time.time() - now
        if abs(ahead) < 60:
            return False
        self.clock_offset = now - time.monotonic()
        self.say(f"this machine's clock is off by {ahead:.0f} s ({code}); signing by the server's")
        return True

    def _credentials(self) -> Credentials:
        if self.credentials is None:
            found = [os.environ.get("AWS_" + word, "") for word in _CREDENTIALS]
            if not found[0]:
                try:
                    fields = parse_object((self._container_role() or self._instance_role()).encode())
                    found = [str(fields[field]) for field in ("AccessKeyId", "SecretAccessKey", "Token")]
                except (DocumentError, KeyError):
                    raise NotYet("the role has no credentials yet") from None
            self.credentials = Credentials(*found)
        return self.credentials

    def _container_role(self) -> str:
        """The credentials of a task of ECS or a pod of EKS, "" if this is neither."""
        relative = os.environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
        full = f"http://169.254.170.2{relative}" if relative else os.environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
        if not full:
            return ""
        scheme, _, place = full.partition("://")
        host, _, path = place.partition("/")
        url = f"{scheme}://{host}"
        if scheme != "https" and split_url(url)[1] not in _CONTAINER_HOSTS:
            raise SettingsError(f"{url} is no place to send a container's token to")
        token, file = os.environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN"), "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
        if file in os.environ:
            with open(os.environ[file], encoding="ascii") as lines:
                token = lines.read().strip()
        headers = {"authorization": token} if token else {}
        answer = self._patiently(url, 2.0, lambda wire: wire.request("GET", f"/{path}", headers, b"", LARGEST))
        if answer.status != 200:
            raise NotYet(f"the container's credentials: HTTP {answer.status}")
        return answer.body.decode("latin-1")

    def _instance_role(self) -> str:
        role = self._metadata("iam/security-credentials/").split("\n")[0]
        return self._metadata(f"iam/security-credentials/{role}")

    def _region(self) -> str:
        if not self.region and not self.found_region:
            found = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
            self.found_region = found or self._metadata("placement/region")
            if not is_region(self.found_region):
                raise SettingsError("the region is not an AWS region", "give it with --region, as in eu-west-1")
        return self.bucket_region or self.region or self.found_region

    def _metadata(self, path: str) -> str:
        """A text of the instance metadata service, IMDSv2 only. Raises NotYet."""
        by_ipv6 = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "").lower() == "ipv6"
        usual = "http://[fd00:ec2::254]" if by_ipv6 else "http://169.254.169.254"
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
            answer = self._patiently(os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or usual, 1.0, ask)
        except NotYet as error:
            raise NotYet(f"the instance metadata service {error.message}", _NO_METADATA) from None
        if answer.status != 200:
            self.imds_token = ""
            raise NotYet(f"the instance metadata service answers {answer.status} to {path}", _NO_METADATA)
        return answer.body.decode("latin-1").strip()


def _refused(what: str, answer: Answer) -> StoreError:
    hint = "it was not issued yet (see certkeeper status), or this role may not read it (docs/iam.md)"
    message = f"{what}: {_code(answer)}"
    return NotYet(message, "either " + hint) if _may_come(answer) else StoreError(message)


def _may_come(answer: Answer) -> bool:
    """Whether waiting may help: it is not there, or a role's rights or credentials have not reached this service."""
    words = ("AccessDenied", "ResourceNotFound", "UnrecognizedClient", "Token")
    return answer.status in (403, 404) or any(word in _code(answer) for word in words)


def _code(answer: Answer) -> str:
    """AWS's word for what is wrong: `<Code>` in S3's XML, `__type` in JSON."""
    text = answer.body.decode("latin-1").partition("<Code>")[2].partition("</Code>")[0]
    if not text and answer.body.startswith(b"{"):
        try:
            text = str(parse_object(answer.body).get("__type")).rpartition("#")[2]
        except DocumentError:
            text = ""
    return text if text.isalnum() and len(text) <= 64 and answer.status >= 400 else f"HTTP {answer.status}"


def suffixes(region: str) -> tuple[str, str]:
    """The DNS suffix of a region's partition, and that of its dual-stack names (S3 apart)."""
    return next(_SUFFIXES[start] for start in _SUFFIXES if region.startswith(start))


def _configured(service: str) -> str:
    return os.environ.get(f"AWS_ENDPOINT_URL_{service}") or os.environ.get("AWS_ENDPOINT_URL") or ""


def _endpoint(service: str, region: str) -> str:
    """Where a service is: as configured, else by AWS's rules for partitions, FIPS and dual-stack."""
    fips, dual = (os.environ.get(f"AWS_USE_{one}_ENDPOINT", "").lower() == "true" for one in ("FIPS", "DUALSTACK"))
    plain, of_dual = suffixes(region)
    host = service + "-fips" * fips
    if service == "s3":
        host, of_dual = host + ".dualstack" * dual, plain
    name = {"s3": "S3", "kms": "KMS"}.get(service, "SECRETS_MANAGER")
    return _configured(name) or f"https://{host}.{region}.{of_dual if dual else plain}"
