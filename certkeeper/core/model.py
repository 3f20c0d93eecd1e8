"""The values everything is said in. Frozen; valid once built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property

KEY_TYPES = ("ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072", "rsa-4096")


@dataclass(frozen=True)
class FallbackCa:
    """Another CA to ask, by its directory URL, and the profile to ask for there."""

    ca: str
    profile: str | None = None


REASONS = {"unspecified": 0, "keyCompromise": 1, "superseded": 4, "cessationOfOperation": 5}
"""The reasons to revoke that Let's Encrypt takes from subscribers, by their names in RFC 5280 section 5.3.1."""


@dataclass(frozen=True)
class CertificateSpec:
    """A certificate we want. `identifiers` are A-labels in lower case, `ca` is a directory URL.

    `registered_domain` gives that of an identifier, one label below a public suffix, for CAs count by them.
    `fallbacks` are the CAs to ask, in this order, where `ca` will not do.
    """

    name: str
    identifiers: tuple[str, ...]
    ca: str
    key_type: str = "ecdsa-p256"
    profile: str | None = None
    hosted_zone_id: str | None = None
    preferred_chain: str | None = None
    readers: tuple[str, ...] = ()
    reuse_private_key: bool = False
    sealing: str = "kms"
    fallbacks: tuple[FallbackCa, ...] = ()
    registered_domain: Callable[[str], str] | None = field(default=None, repr=False, compare=False)

    @cached_property
    def registered_domains(self) -> tuple[str, ...]:
        """Those of the identifiers; looked up when they are asked for, since most names are not due."""
        if self.registered_domain is None:
            return ()
        return tuple(sorted({self.registered_domain(one) for one in self.identifiers}))

    @property
    def cas(self) -> tuple[str, ...]:
        """Every CA that the certificate may come from, the first one first."""
        return (self.ca, *(one.ca for one in self.fallbacks))

    def at(self, ca: str) -> CertificateSpec:
        """The same certificate as it is wanted from one of its CAs. A chain is preferred at the first one only."""
        for one in self.fallbacks:
            if one.ca == ca:
                return replace(self, ca=ca, profile=one.profile, preferred_chain=None, fallbacks=())
        return replace(self, fallbacks=()) if self.fallbacks else self


@dataclass(frozen=True)
class Validity:
    """RFC 5280 section 4.1.2.5."""

    not_before: datetime
    not_after: datetime

    def __post_init__(self) -> None:
        if self.not_before.tzinfo is None or self.not_after.tzinfo is None:
            raise ValueError("a validity needs aware instants")
        if self.not_after <= self.not_before:
            raise ValueError("a validity ends after it begins")

    @property
    def lifetime(self) -> timedelta:
        return self.not_after - self.not_before


@dataclass(frozen=True)
class Sealed:
    """Bytes that only the right reader can open, and how they were sealed ("kms" or "store")."""

    sealing: str
    blob: bytes = field(repr=False)
    kms_key_arn: str | None = None


@dataclass(frozen=True)
class CertificateRequest:
    """A CSR (RFC 2986) and the sealed private key that signed it."""

    csr_pem: str
    spki_sha256: str
    private_key: Sealed


@dataclass(frozen=True)
class Chain:
    """What the CA handed out: PEM, leaf first, links verified; and what the leaf says.

    `certificate_id` is the leaf's name in renewal information (RFC 9773 section 4.1); None if it cannot have one.
    `top_issuer` is the common name that the last certificate says it was issued by; not stored, so "" when read back.
    """

    pem: str
    identifiers: tuple[str, ...]
    serial_number: str
    spki_sha256: str
    validity: Validity
    issuer: str
    certificate_id: str | None = None
    top_issuer: str = field(default="", compare=False)


@dataclass(frozen=True)
class Certificate:
    """What the store keeps for one name. `key_type` and `order_url` are unknown for what others wrote.

    `pinned_since` is when a person made this earlier one current again; None if nobody did.
    """

    name: str
    revision: int
    chain: Chain
    request: CertificateRequest
    ca: str
    account_url: str | None
    profile: str | None
    key_type: str | None
    order_url: str | None
    issued: tuple[datetime, ...]
    pinned_since: datetime | None = None


@dataclass(frozen=True)
class GivenUp:
    """An order that may have become a certificate which nobody has; `certificate_url` if the CA has named it,
    `missed_since` if it does not find it, run after run.
    """

    ca: str
    url: str
    certificate_url: str | None = None
    missed_since: datetime | None = None


@dataclass(frozen=True)
class Revocation:
    """What a person wants revoked, and why: a key of REASONS. All it takes to do so is public.

    `asked` is set before the CA is, so that the wish is not withdrawn when it may have come true. `given_up` are orders
    for the compromised private key.
    """

    serial_number: str
    spki_sha256: str
    ca: str
    reason: str
    leaf_pem: str
    asked: bool = False
    given_up: tuple[GivenUp, ...] = ()

    @property
    def compromised(self) -> bool:
        """Whether its private key must not be used any more."""
        return self.reason == "keyCompromise"

    def concerns(self, certificate: Certificate | None) -> bool:
        """Whether a certificate is the one, or has the same compromised private key."""
        if certificate is None:
            return False
        return certificate.chain.serial_number == self.serial_number or self.spoils(certificate.request)

    def spoils(self, request: CertificateRequest) -> bool:
        """Whether the private key of a request is the compromised one."""
        return self.compromised and request.spki_sha256 == self.spki_sha256


@dataclass(frozen=True)
class Account:
    """The ACME account at one CA (RFC 8555 section 7.1.2). `url` is None until the CA has named it.

    `next_key` is there while the account key is being changed (section 7.3.5): either of the two may be the account's.
    """

    ca: str
    private_key: Sealed
    url: str | None = None
    next_key: Sealed | None = None


@dataclass(frozen=True, order=True)
class TxtRecord:
    """One value that must stand at one name of one hosted zone while the CA looks (RFC 8555 section 8.4).

    `role_arn` is the role that leads to the zone's account; empty for our own.
    """

    zone: str
    name: str
    value: str
    role_arn: str = ""


@dataclass(frozen=True)
class HostedZone:
    """A Route 53 hosted zone; `name` in lower case without the final dot, `role_arn` as in TxtRecord."""

    zone: str
    name: str
    private: bool = False
    role_arn: str = ""


@dataclass(frozen=True)
class ZonePlace:
    """Where the hosted zones of a domain, and of everything below it, are to be found, and nowhere else."""

    domain: str
    role_arn: str = ""
    hosted_zone_id: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What a tick did for one name; `outcome` is renewed, kept, waiting, failed or rehearsed.

    `unfinished`: it was waiting for its turn or half done when the time ran out, and the next run goes on with it.
    """

    name: str
    outcome: str
    reason: str
    serial_number: str | None = None
    not_after: datetime | None = None
    error: str | None = None
    hint: str | None = None
    next_attempt: datetime | None = None
    unfinished: bool = False
