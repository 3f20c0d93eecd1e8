"""What goes through the ACME proxy, and what it tells: which URL is what, which orders became certificates.

Nothing is known beforehand but the directory: a CA names its URLs as it likes, and RFC 8555 section 7.1 tells where
each of them is first seen.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from cryptography import x509

from certkeeper.sandbox.loopback import Request, Response

Headers = Iterable[tuple[str, str]]
Json = dict[str, Any]

_FROM_THE_DIRECTORY = ("newNonce", "newAccount", "newOrder", "keyChange", "revokeCert")
_ALTERNATE = re.compile(r'<([^>]+)>\s*;\s*rel="?alternate"?')
_PROBLEM = "urn:ietf:params:acme:error:"


@dataclass(frozen=True)
class AcmeRequest(Request):
    """One request as the client sent it."""

    @property
    def payload(self) -> Json:
        """What its JWS says; empty for a POST-as-GET and for anything that is no JWS."""
        return self._part_of_jws("payload")

    @property
    def account_url(self) -> str:
        """The account that signed it; "" where the JWS names none."""
        return str(self._part_of_jws("protected").get("kid", ""))

    def _part_of_jws(self, part: str) -> Json:
        encoded = _json(self.body).get(part)
        if not isinstance(encoded, str):
            return {}
        try:
            return _json(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
        except ValueError:
            return {}


@dataclass
class AcmeResponse(Response):
    """One answer, the CA's or a scripted one."""

    def header(self, name: str) -> str:
        """The first header of this name; "" if there is none."""
        return next((value for header, value in self.headers if header.lower() == name.lower()), "")

    @property
    def json(self) -> Json:
        """The object it carries; empty if it carries none."""
        return _json(self.body)

    @property
    def problem(self) -> str:
        """The problem's type without its URN prefix ("badNonce"); "" if it is none of ACME's."""
        kind = self.json.get("type") if self.status >= 400 else None
        return kind.removeprefix(_PROBLEM) if isinstance(kind, str) and kind.startswith(_PROBLEM) else ""

    @staticmethod
    def of_problem(status: int, kind: str, detail: str, headers: Headers = (), **more: Any) -> AcmeResponse:
        """An RFC 7807 problem document; `more` is its further members ("subproblems")."""
        body = json.dumps({"type": _PROBLEM + kind, "detail": detail, "status": status, **more}).encode()
        return AcmeResponse(status, [("Content-Type", "application/problem+json"), *headers], body)


class Issued(NamedTuple):
    """One certificate the CA made. `serial` is lower-case hexadecimal, "" until somebody has downloaded the chain."""

    identifiers: tuple[str, ...]
    serial: str


@dataclass
class _Order:
    identifiers: tuple[str, ...]
    issued_at: float | None = None
    serial: str = ""


class Traffic:
    """Learns from each answer the CA gave; safe to use from many threads. Orders are known by their paths."""

    def __init__(self, directory_path: str) -> None:
        self._lock = threading.RLock()
        self._operations = {directory_path: "directory"}
        self._renewal_info = ""
        self._orders: dict[str, _Order] = {}
        self._order_of: dict[str, str] = {}
        self._identifier_of: dict[str, str] = {}
        self._created = 0

    def operation(self, path: str) -> str:
        """RFC 8555's word for what this path is; "unknown" if no answer has named it."""
        with self._lock:
            if self._renewal_info and path.startswith(self._renewal_info + "/"):
                return "renewalInfo"
            return self._operations.get(path, "unknown")

    def path_of(self, operation: str) -> str:
        """Where the directory says `operation` is; "" if it does not."""
        with self._lock:
            if operation == "renewalInfo":
                return self._renewal_info
            return next((path for path, kind in self._operations.items() if kind == operation), "")

    def identifiers(self, path: str) -> tuple[str, ...]:
        """Which identifiers a request to this path is about, as far as is known."""
        with self._lock:
            if path in self._identifier_of:
                return (self._identifier_of[path],)
            order = self._orders.get(self._order_of.get(path, path))
            return order.identifiers if order else ()

    def issued(self) -> list[Issued]:
        with self._lock:
            return [
                Issued(order.identifiers, order.serial)
                for order in self._orders.values()
                if order.issued_at is not None
            ]

    def issued_at(self, identifiers: tuple[str, ...]) -> list[float]:
        """When certificates for exactly this set were issued."""
        with self._lock:
            return [
                order.issued_at
                for order in self._orders.values()
                if order.identifiers == identifiers and order.issued_at is not None
            ]

    @property
    def orders(self) -> int:
        """How often newOrder answered 201."""
        with self._lock:
            return self._created

    def learn(self, request: AcmeRequest, response: AcmeResponse, now: float) -> None:
        """Take in what the CA answered at `now` (Unix seconds)."""
        if response.status >= 300:
            return
        operation = self.operation(request.path)
        with self._lock:
            if operation == "directory":
                self._learn_directory(response.json)
            elif operation == "newAccount":
                self._name(response.header("Location"), "account")
                self._name(response.json.get("orders"), "orders")
            elif operation in ("newOrder", "order", "finalize"):
                self._learn_order(operation, request, response, now)
            elif operation in ("authorization", "challenge"):
                self._learn_authorization(request.path, response.json)
            elif operation == "certificate":
                self._learn_certificate(request.path, response)

    def _learn_directory(self, directory: Json) -> None:
        for operation in _FROM_THE_DIRECTORY:
            self._name(directory.get(operation), operation)
        self._renewal_info = _path(directory.get("renewalInfo", "")).rstrip("/")

    def _learn_order(self, operation: str, request: AcmeRequest, response: AcmeResponse, now: float) -> None:
        body = response.json
        path = _path(response.header("Location")) if operation == "newOrder" else request.path
        path = self._order_of.get(path, path)
        if operation == "newOrder":
            self._name(path, "order")
            self._created += response.status == 201
        order = self._orders.setdefault(path, _Order(identifier_set(body.get("identifiers", []))))
        for kind in ("finalize", "certificate"):
            self._name(body.get(kind), kind, path)
        for url in body.get("authorizations", []):
            self._name(url, "authorization", path)
        if body.get("status") == "invalid":
            order.issued_at = None
        # A finalize that was taken is a certificate, whether or not anybody ever asks for it.
        elif order.issued_at is None and (operation == "finalize" or body.get("status") == "valid"):
            order.issued_at = now

    def _learn_authorization(self, path: str, body: Json) -> None:
        identifier = body.get("identifier", {}).get("value")
        if identifier and body.get("wildcard"):
            identifier = "*." + identifier
        for challenge in body.get("challenges", []):
            self._name(challenge.get("url"), "challenge")
            if identifier:
                self._identifier_of[_path(challenge["url"])] = self._identifier_of[path] = identifier

    def _learn_certificate(self, path: str, response: AcmeResponse) -> None:
        order = self._orders.get(self._order_of.get(path, ""))
        if order is None:
            return
        for value in (value for name, value in response.headers if name.lower() == "link"):
            for url in _ALTERNATE.findall(value):
                self._name(url, "certificate", self._order_of[path])
        order.serial = f"{x509.load_pem_x509_certificate(response.body).serial_number:x}"

    def _name(self, url: object, operation: str, order: str = "") -> None:
        if not isinstance(url, str) or not url:
            return
        self._operations[_path(url)] = operation
        if order:
            self._order_of[_path(url)] = order


def identifier_set(identifiers: Iterable[Json]) -> tuple[str, ...]:
    """As the CA compares them: without case, order or doubles."""
    return tuple(sorted({str(identifier.get("value", "")).lower() for identifier in identifiers}))


def _path(url: str) -> str:
    return urlsplit(url).path


def _json(body: bytes) -> Json:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
