"""The instance metadata service, version 2 only, of one pretended EC2 instance."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType

from certkeeper.sandbox.calls import Call, Desk, Fault
from certkeeper.sandbox.loopback import HttpServer, Request, Response

TOKEN_PATH = "/latest/api/token"  # noqa: S105 - a name
ROLE_PATH = "/latest/meta-data/iam/security-credentials/"
TOKEN_TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"  # noqa: S105 - a name
TOKEN_HEADER = "X-aws-ec2-metadata-token"  # noqa: S105 - a name
LONGEST_TTL = 21_600


@dataclass(frozen=True)
class RoleCredentials:
    """What the instance's role gives out."""

    access_key_id: str = "ASIASANDBOXINSTANCE0"
    secret_access_key: str = field(default="sandbox-instance-secret", repr=False)
    session_token: str = field(default="sandbox-instance-session", repr=False)
    lifetime: timedelta = timedelta(hours=6)


class InstanceMetadata:
    """IMDSv2 on loopback. `role = None` is an instance without a profile: 404, as on EC2.

    All public attributes may be changed while it runs. As on EC2 there is no answer without a session token (401),
    no token without a TTL (400), and none for a request that came through a proxy (403).
    """

    def __init__(
        self,
        desk: Desk,
        credentials: RoleCredentials | None = None,
        *,
        role: str | None = "certkeeper-instance",
        region: str = "eu-west-1",
        instance_id: str = "i-0123456789abcdef0",
        public_ipv4: str = "203.0.113.10",
        now: Callable[[], float] = time.time,
    ) -> None:
        self.credentials = credentials or RoleCredentials()
        self.role = role
        self.region = region
        self.instance_id = instance_id
        self.public_ipv4 = public_ipv4
        self._desk = desk
        self._now = now
        self._tokens: dict[str, float] = {}
        self._server = HttpServer(self._attended, "imds")
        self.url = self._server.url

    def close(self) -> None:
        self._server.close()

    def __enter__(self) -> InstanceMetadata:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _attended(self, request: Request) -> Response:
        operation = "PutToken" if request.method == "PUT" else "GetMetadata"
        call = Call("imds", operation, request.path)
        return self._desk.attend(call, lambda: self._answer(request), refused, lambda response: response.status)

    def _answer(self, request: Request) -> Response:
        if request.path == TOKEN_PATH and request.method == "PUT":
            return self._token(request)
        if request.method not in ("GET", "HEAD"):
            return plain(405, "Method Not Allowed")
        if self._tokens.get(request.headers.get(TOKEN_HEADER, ""), 0) <= self._now():
            return plain(401, "Unauthorized")
        found = self._tree().get(request.path)
        return plain(404, "Not Found") if found is None else plain(200, found)

    def _token(self, request: Request) -> Response:
        if request.headers.get("X-Forwarded-For") is not None:
            return plain(403, "Forbidden")
        ttl = request.headers.get(TOKEN_TTL_HEADER, "")
        if not ttl.isdigit() or not 1 <= int(ttl) <= LONGEST_TTL:
            return plain(400, "Bad Request")
        imds_token = secrets.token_urlsafe(40)
        self._tokens[imds_token] = self._now() + int(ttl)
        response = plain(200, imds_token)
        response.headers.append((TOKEN_TTL_HEADER, ttl))
        return response

    def _tree(self) -> dict[str, str]:
        tree = {
            "/latest/meta-data/instance-id": self.instance_id,
            "/latest/meta-data/public-ipv4": self.public_ipv4,
            "/latest/meta-data/placement/region": self.region,
            "/latest/meta-data/placement/availability-zone": self.region + "a",
            "/latest/meta-data/placement/availability-zone/": self.region + "a",
            "/latest/dynamic/instance-identity/document": json.dumps(
                {"region": self.region, "instanceId": self.instance_id, "accountId": "123456789012"}
            ),
        }
        if self.role is not None:
            tree |= {
                ROLE_PATH.removesuffix("/"): self.role,
                ROLE_PATH: self.role,
                ROLE_PATH + self.role: self._credentials_document(),
            }
        return tree

    def _credentials_document(self) -> str:
        now = datetime.fromtimestamp(self._now(), UTC).replace(microsecond=0)
        return json.dumps(
            {
                "Code": "Success",
                "LastUpdated": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "Type": "AWS-HMAC",
                "AccessKeyId": self.credentials.access_key_id,
                "SecretAccessKey": self.credentials.secret_access_key,
                "Token": self.credentials.session_token,
                "Expiration": (now + self.credentials.lifetime).strftime("%Y-%m-%dT%H:%M:%SZ"),
            },
            indent=2,
        )


def plain(status: int, text: str) -> Response:
    return Response(status, [("Content-Type", "text/plain"), ("Server", "EC2ws")], text.encode())


def refused(fault: Fault) -> Response:
    response = plain(fault.status, fault.message)
    response.headers.extend(fault.headers)
    return response
