"""CertificateAuthority over HTTPS: the acme library signs and knows the challenges; the loop, the nonces and the
errors are ours, because RFC 8555 asks for more than it does (sections 6.5 to 6.7).

A connection and its nonces serve one request at a time, so there are as many as requests at once. The directory is
fetched anew by every run.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from acme import challenges, jws, messages
from cryptography.hazmat.primitives import serialization
from josepy.errors import DeserializationError
from josepy.json_util import decode_b64jose, encode_b64jose
from josepy.jwa import ES256
from josepy.jwk import JWKEC

from certkeeper import __version__
from certkeeper.core.errors import AuthorityError, OutOfTime
from certkeeper.core.failures import retry_after
from certkeeper.core.model import Account, Sealed
from certkeeper.core.order import Authorization, Challenge, Order, Problem
from certkeeper.core.ports import Clock, Sealer

# A CA that refuses half of all nonces refuses thirty in a row once in a thousand million requests.
NONCE_TRIES = 30
CONNECT_SECONDS, READ_SECONDS = 5, 30
URN = "urn:ietf:params:acme:error:"
PEM_CHAIN = "application/pem-certificate-chain"
JOSE = {"Content-Type": "application/jose+json"}
USER_AGENT = f"certkeeper/{__version__} {requests.utils.default_user_agent()}"


class AcmeAuthority:
    """One ACME server."""

    def __init__(
        self,
        directory: str,
        sealer: Sealer,
        clock: Clock,
        *,
        contact: str | None = None,
        ca_bundle: str | None = None,
        eab_kid: str | None = None,
        eab_hmac_key: str | None = None,
    ) -> None:
        self._directory_url = directory
        self._sealer = sealer
        self._clock = clock
        self._contact = contact
        self._verify: str | bool = ca_bundle or True
        self._eab = (eab_kid, eab_hmac_key)
        self._lock = Lock()
        self._idle: list[_Wire] = []
        self._keys: dict[bytes, JWKEC] = {}
        self._directory: dict[str, Any] | AuthorityError | None = None

    def register(self, account: Account) -> str:
        payload: dict[str, Any] = {"termsOfServiceAgreed": True}
        if self._contact:
            payload["contact"] = [f"mailto:{self._contact}"]
        binding = self._external_account_binding(account)
        if binding:
            payload["externalAccountBinding"] = binding
        response = self._post(account, self._endpoint("newAccount"), payload, named=False)
        return _location(response)

    def find(self, account: Account) -> str | None:
        try:
            response = self._post(account, self._endpoint("newAccount"), {"onlyReturnExisting": True}, named=False)
        except AuthorityError as error:
            if error.kind == "accountDoesNotExist":
                return None
            raise
        return _location(response)

    def change_key(self, account: Account, new: Sealed) -> None:
        url, old_key = self._endpoint("keyChange"), self._key(account)
        new_key = self._opened(new, account.ca)
        said = {"account": account.url, "oldKey": old_key.public_key().to_partial_json()}
        # The inner signature is the new key's: with its jwk, the same url, and no nonce.
        inner = jws.JWS.sign(json.dumps(said).encode(), key=new_key, alg=ES256, nonce=None, url=url)
        self._post(account, url, inner.to_partial_json())

    def issuer_domains(self) -> tuple[str, ...]:
        named = self._meta().get("caaIdentities")
        return tuple(str(one) for one in named) if isinstance(named, list) else ()

    def new_order(
        self, account: Account, identifiers: Sequence[str], profile: str | None, replaces: str | None = None
    ) -> Order:
        payload: dict[str, Any] = {"identifiers": [{"type": "dns", "value": one} for one in identifiers]}
        if replaces and "renewalInfo" in self._fetched_directory():
            payload["replaces"] = replaces
        if profile:
            self._check_profile(profile)
            payload["profile"] = profile
        response = self._post(account, self._endpoint("newOrder"), payload)
        return _order(_location(response), response)

    def fetch_order(self, account: Account, url: str) -> Order:
        return _order(url, self._post(account, url, None))

    def authorization(self, account: Account, url: str) -> Authorization:
        response = self._post(account, url, None)
        return _authorization(url, response, self._key(account))

    def answer(self, account: Account, challenge: Challenge) -> None:
        self._post(account, challenge.url, {})

    def deactivate(self, account: Account, authorization_url: str) -> None:
        self._post(account, authorization_url, {"status": "deactivated"})

    def finalize(self, account: Account, order: Order, csr_pem: str) -> Order:
        der = _der(csr_pem)
        response = self._post(account, order.finalize_url, {"csr": encode_b64jose(der)})
        return _order(order.url, response)

    def download(self, account: Account, order: Order) -> str:
        return self._downloaded(account, order).text

    def revoke(self, account: Account, leaf_pem: str, reason: int) -> None:
        payload = {"certificate": encode_b64jose(_der(leaf_pem)), "reason": reason}
        self._post(account, self._endpoint("revokeCert"), payload)

    def alternates(self, account: Account, order: Order) -> tuple[str, ...]:
        response = self._downloaded(account, order)
        links = requests.utils.parse_header_links(response.headers.get("Link", ""))
        urls = [urljoin(response.url, one["url"]) for one in links if "alternate" in one.get("rel", "").split()]
        return tuple(self._post(account, url, None, accept=PEM_CHAIN).text for url in urls)

    def _downloaded(self, account: Account, order: Order) -> requests.Response:
        if order.certificate_url is None:
            raise AuthorityError("the CA calls the order valid and names no certificate")
        return self._post(account, order.certificate_url, None, accept=PEM_CHAIN)

    # The wire.

    def _post(
        self,
        account: Account,
        url: str,
        payload: Mapping[str, Any] | None,
        *,
        named: bool = True,
        accept: str | None = None,
    ) -> requests.Response:
        """POST, or POST-as-GET without a payload (section 6.3). Refused nonces are retried with the error's own."""
        body = b"" if payload is None else json.dumps(payload).encode()
        headers = {**JOSE, "Accept": accept} if accept else JOSE
        key, kid, error = self._key(account), account.url if named else None, None
        with self._wire() as wire:
            for _ in range(NONCE_TRIES):
                nonce = decode_b64jose(wire.nonces.pop() if wire.nonces else self._fresh_nonce(wire))
                signed = jws.JWS.sign(body, key=key, alg=ES256, nonce=nonce, url=url, kid=kid)
                response = self._send(wire, "POST", url, data=signed.json_dumps(), headers=headers)
                error = _problem(response)
                if error is None:
                    return response
                if error.kind != "badNonce":
                    break
        assert error is not None  # noqa: S101 - a loop without an error has returned
        raise error

    def _fresh_nonce(self, wire: _Wire) -> str:
        response = self._send(wire, "HEAD", self._endpoint("newNonce"))
        error = _problem(response)
        if error:
            raise error
        if not wire.nonces:
            raise AuthorityError("the CA gives no nonces", "is the directory URL an ACME server's?")
        return wire.nonces.pop()

    def _send(self, wire: _Wire, method: str, url: str, **arguments: Any) -> requests.Response:
        host = urlsplit(self._directory_url).netloc
        left = self._clock.remaining().total_seconds()
        if left <= 0:
            raise OutOfTime("out of time")
        # Nor may a CA that is slow take the time in which records are taken away and the journal is written.
        timeout = min(CONNECT_SECONDS, left), min(READ_SECONDS, left)
        try:
            response = wire.session.request(method, url, timeout=timeout, allow_redirects=False, **arguments)
        except requests.exceptions.SSLError:
            raise AuthorityError(
                f"the TLS certificate of the CA at {host} is not trusted",
                "for a CA of your own set ca_bundle under [ca] to its roots; else something is in between",
            ) from None
        except OSError as error:
            if self._clock.remaining() <= timedelta(0):
                raise OutOfTime("out of time") from None
            # Not a file: of requests' errors only those about the bundle's path carry a file name.
            if isinstance(self._verify, str) and self._verify in str(error):
                raise AuthorityError(f"ca_bundle {self._verify} cannot be read", "correct its path") from None
            raise AuthorityError(
                f"the CA at {host} cannot be reached ({_cause(error)})",
                "check the directory URL under [ca] and this machine's way out to it",
            ) from None
        nonce = response.headers.get("Replay-Nonce")
        if nonce:
            wire.nonces.append(nonce)
        return response

    @contextmanager
    def _wire(self) -> Iterator[_Wire]:
        try:
            wire = self._idle.pop()  # the one used last, whose nonces are the newest
        except IndexError:
            wire = _Wire(self._directory_url, self._verify)
        try:
            yield wire
        finally:
            self._idle.append(wire)

    def _endpoint(self, name: str) -> str:
        url = self._fetched_directory().get(name)
        if not isinstance(url, str):
            raise AuthorityError(f"the CA's directory has no {name}", "is the directory URL an ACME server's?")
        return url

    def _fetched_directory(self) -> dict[str, Any]:
        with self._lock:
            if self._directory is None:
                try:
                    self._directory = self._asked_directory()
                except AuthorityError as error:
                    self._directory = error  # the next name shall not wait for the same answer
            if isinstance(self._directory, AuthorityError):
                raise self._directory
            return self._directory

    def _meta(self) -> dict[str, Any]:
        meta = self._fetched_directory().get("meta")
        return meta if isinstance(meta, dict) else {}

    def _asked_directory(self) -> dict[str, Any]:
        with self._wire() as wire:
            response = self._send(wire, "GET", self._directory_url)
        error = _problem(response)
        if error:
            raise error
        return _json(response)

    def _check_profile(self, profile: str) -> None:
        offered = self._meta().get("profiles", {})
        if profile not in offered:
            listed = ", ".join(sorted(offered)) or "none"
            raise AuthorityError(
                f"the CA does not offer the profile {profile}; it offers {listed}",
                "change or remove profile",
                kind="invalidProfile",
            )

    def _external_account_binding(self, account: Account) -> dict[str, Any] | None:
        kid, hmac_key = self._eab
        if kid is None or hmac_key is None:
            if self._meta().get("externalAccountRequired"):
                raise AuthorityError(
                    "the CA wants an external account binding",
                    "set eab_kid and eab_hmac_key under [ca], as the CA gave them",
                    kind="externalAccountRequired",
                )
            return None
        directory = messages.Directory(self._fetched_directory())
        bound: dict[str, Any] = messages.ExternalAccountBinding.from_data(
            self._key(account).public_key(), kid, hmac_key, directory, "HS256"
        )
        return bound

    def _key(self, account: Account) -> JWKEC:
        return self._opened(account.private_key, account.ca)

    def _opened(self, sealed: Sealed, directory: str) -> JWKEC:
        with self._lock:
            key = self._keys.get(sealed.blob)
            if key is None:
                clear = self._sealer.open(sealed, {"certkeeper-account": directory})
                key = self._keys[sealed.blob] = JWKEC(key=serialization.load_pem_private_key(clear, None))
            return key


class _Wire:
    """What one request has to itself."""

    def __init__(self, url: str, verify: str | bool) -> None:
        self.session = requests.Session()
        # The environment names proxies, and roots where the settings do not. requests would read it for every request.
        found = self.session.merge_environment_settings(url, {}, None, verify, None)
        self.session.proxies, self.session.verify, self.session.trust_env = found["proxies"], found["verify"], False
        self.session.headers.update({"User-Agent": USER_AGENT, "Accept-Language": "en"})
        self.nonces: list[str] = []


def _problem(response: requests.Response) -> AuthorityError | None:
    """The error of an answer, with everything the CA said (RFC 8555 section 6.7); None for a good one."""
    if response.status_code < 300:
        return None
    try:
        said = response.json()
    except ValueError:
        said = None
    said = said if isinstance(said, dict) else {}
    kind = str(said.get("type", "")).removeprefix(URN)
    detail = str(said.get("detail") or said.get("title") or f"the CA answered with HTTP status {response.status_code}")
    instance = said.get("instance")
    if kind == "userActionRequired":
        links = requests.utils.parse_header_links(response.headers.get("Link", ""))
        terms = [str(one["url"]) for one in links if one.get("rel") == "terms-of-service"]
        detail = f"{detail}: {' '.join([instance] if isinstance(instance, str) else terms)}"
    return AuthorityError(
        _one_line(detail),
        kind="" if "about:" in kind else kind,
        status=response.status_code,
        retry_after=retry_after(response.headers, datetime.now(UTC), response.status_code),
        subproblems=_subproblems(said),
    )


def _subproblems(said: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    listed = said.get("subproblems")
    return tuple(_subproblem(one) for one in listed) if isinstance(listed, list) else ()


def _subproblem(said: object) -> tuple[str, str, str]:
    if not isinstance(said, dict):
        return "", "", ""
    identifier = said.get("identifier")
    value = identifier.get("value", "") if isinstance(identifier, dict) else ""
    return str(value), str(said.get("type", "")).removeprefix(URN), _one_line(str(said.get("detail", "")))


def _order(url: str, response: requests.Response) -> Order:
    said = _json(response)
    try:
        return Order(
            url=url,
            status=str(said["status"]),
            identifiers=tuple(str(one["value"]) for one in said["identifiers"]),
            authorization_urls=tuple(str(one) for one in said["authorizations"]),
            finalize_url=str(said["finalize"]),
            certificate_url=said.get("certificate"),
            profile=said.get("profile"),
            problem=_stated(said.get("error")),
            retry_after=retry_after(response.headers, datetime.now(UTC)),
        )
    except (KeyError, TypeError):
        raise AuthorityError("the CA answered with an order that is none", "is it an ACME server?") from None


def _authorization(url: str, response: requests.Response, key: JWKEC) -> Authorization:
    said = _json(response)
    try:
        identifier = str(said["identifier"]["value"])
        offered = [one for one in said["challenges"] if one.get("type") == "dns-01" and "token" in one]
        problems = [one["error"] for one in said["challenges"] if isinstance(one.get("error"), dict)]
        return Authorization(
            url=url,
            identifier=f"*.{identifier}" if said.get("wildcard") else identifier,
            status=str(said["status"]),
            challenge=_challenge(offered[0], key) if offered else None,
            problem=_stated(problems[0]) if problems else None,
            retry_after=retry_after(response.headers, datetime.now(UTC)),
        )
    except (KeyError, TypeError, AttributeError, DeserializationError):
        raise AuthorityError("the CA answered with an authorization that is none", "is it an ACME server?") from None


def _challenge(said: dict[str, Any], key: JWKEC) -> Challenge:
    dns01 = challenges.DNS01(token=decode_b64jose(said["token"]))
    return Challenge(str(said["url"]), dns01.validation(key), str(said["status"]))


def _stated(said: object) -> Problem | None:
    if not isinstance(said, dict):
        return None
    identifier = said.get("identifier")
    return Problem(
        str(said.get("type", "")).removeprefix(URN),
        _one_line(str(said.get("detail", "the CA does not say why"))),
        str(identifier["value"]) if isinstance(identifier, dict) and "value" in identifier else None,
        _subproblems(said),
    )


def _json(response: requests.Response) -> dict[str, Any]:
    try:
        said = response.json()
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise AuthorityError("the CA's answer is not a JSON object", "is the directory URL an ACME server's?")
    return said


def _location(response: requests.Response) -> str:
    location = response.headers.get("Location")
    if not location:
        raise AuthorityError("the CA's answer names no Location", "is the directory URL an ACME server's?")
    return location


def _der(pem: str) -> bytes:
    lines = pem.strip().splitlines()
    return base64.b64decode("".join(lines[1:-1]))


def _cause(error: BaseException) -> str:
    # requests wraps urllib3's error, which wraps the socket's; the innermost says it in words a person knows.
    words, inner = type(error).__name__, error.__cause__ or error.__context__
    while inner is not None:
        words = getattr(inner, "strerror", None) or words
        inner = inner.__cause__ or inner.__context__
    return words


def _one_line(text: str) -> str:
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())[:2000]
