"""The certificates in the store: `certificates/NAME`, one document each."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, cast

from certkeeper.core import document
from certkeeper.core.decision import Held
from certkeeper.core.errors import ChainError, DocumentError
from certkeeper.core.model import Certificate, CertificateRequest, CertificateSpec, Chain, Sealed, Validity
from certkeeper.core.ports import Records

PREFIX = "certificates/"
REMEMBERED = timedelta(days=7)
SKEW = timedelta(hours=1)


class Certificates:
    """Certificates over any Records."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def read(self, name: str) -> tuple[Certificate | None, str | None]:
        """The certificate and its version; None only if there certainly is none. Raises StoreError, DocumentError."""
        stored = self._records.read(PREFIX + name)
        if stored is None:
            return None, None
        try:
            return decode(stored.data, name), stored.version
        except DocumentError as error:
            hint = error.hint or f"restore an earlier version of the object {PREFIX}{name}; nothing was ordered"
            raise DocumentError(error.message, hint) from None

    def write(self, certificate: Certificate, version: str | None) -> str:
        """Replace exactly that version. Raises Conflict, StoreError."""
        return self._records.write(PREFIX + certificate.name, encode(certificate), version)

    def remove(self, name: str) -> None:
        """Make sure that nothing is held. Raises StoreError."""
        self._records.delete(PREFIX + name)

    def versions(self) -> dict[str, str]:
        """All names that are held. Raises StoreError."""
        return {path.removeprefix(PREFIX): version for path, version in self._records.list(PREFIX).items()}


def held(certificate: Certificate | None) -> Held | None:
    """The facts that decide."""
    if certificate is None:
        return None
    chain = certificate.chain
    return Held(
        identifiers=chain.identifiers,
        key_type=certificate.key_type,
        profile=certificate.profile,
        ca=certificate.ca,
        validity=chain.validity,
        serial_number=chain.serial_number,
        issuer=chain.issuer,
        order_url=certificate.order_url,
        certificate_id=chain.certificate_id,
        sealing=certificate.request.private_key.sealing,
        kms_key_arn=certificate.request.private_key.kms_key_arn,
        pinned_since=certificate.pinned_since,
    )


def prove(chain: Chain, request: CertificateRequest, spec: CertificateSpec, now: datetime) -> None:
    """Raise ChainError unless the chain is for our private key, for these identifiers, and in date.

    A not_before slightly ahead of our clock is a clock that is off, not a bad certificate.
    """
    if chain.spki_sha256 != request.spki_sha256:
        raise ChainError("the CA's certificate is for another private key", "report this to the CA")
    if set(chain.identifiers) != set(spec.identifiers):
        raise ChainError(
            f"the CA's certificate is for {', '.join(sorted(chain.identifiers))}, not for "
            f"{', '.join(sorted(spec.identifiers))}",
            "report this to the CA",
        )
    if not chain.validity.not_before - SKEW <= now < chain.validity.not_after:
        raise ChainError("the CA's certificate is not in date now", "check this machine's clock")


def preferred(usual: Chain, alternates: Iterable[Chain], top_issuer: str) -> Chain | None:
    """The chain whose last certificate was issued by that common name; None if there is no such one.

    An alternate leads from the same leaf to another root (RFC 8555 section 7.4.2); anything else is none.
    """
    leaf = usual.serial_number, usual.spki_sha256
    chains = (usual, *(one for one in alternates if (one.serial_number, one.spki_sha256) == leaf))
    return next((one for one in chains if one.top_issuer == top_issuer), None)


def successor(
    before: Certificate | None,
    spec: CertificateSpec,
    chain: Chain,
    request: CertificateRequest,
    account_url: str | None,
    order_url: str | None,
    now: datetime,
) -> Certificate:
    """The certificate that follows: a higher revision, and the instants of the last week's issuances."""
    same_set = before is not None and set(before.chain.identifiers) == set(chain.identifiers)
    # Another CA's are told by the journal: each counts by itself.
    earlier = before.issued if before is not None and same_set and before.ca == spec.ca else ()
    return Certificate(
        name=spec.name,
        revision=next_revision(before, now),
        chain=chain,
        request=request,
        ca=spec.ca,
        account_url=account_url,
        profile=spec.profile,
        key_type=spec.key_type,
        order_url=order_url,
        issued=(*(one for one in earlier if one > now - REMEMBERED), now),
    )


def next_revision(before: Certificate | None, now: datetime) -> int:
    """Higher than what is held, and than whatever was held before that."""
    return max((before.revision if before else 0) + 1, int(now.timestamp()))


def encode(certificate: Certificate) -> bytes:
    chain, request = certificate.chain, certificate.request
    return document.encode(
        {
            "format": document.FORMAT,
            "name": certificate.name,
            "revision": certificate.revision,
            "write_id": secrets.token_hex(16),
            "identifiers": list(chain.identifiers),
            "serial_number": chain.serial_number,
            "not_before": document.written(chain.validity.not_before),
            "not_after": document.written(chain.validity.not_after),
            "spki_sha256": chain.spki_sha256,
            "issuer": chain.issuer,
            "certificate_id": chain.certificate_id,
            "fullchain_pem": chain.pem,
            "csr_pem": request.csr_pem,
            "ca_directory": certificate.ca,
            "account_url": certificate.account_url,
            "order_url": certificate.order_url,
            "profile": certificate.profile,
            "key_type": certificate.key_type,
            "sealing": request.private_key.sealing,
            "kms_key_arn": request.private_key.kms_key_arn,
            "sealed_private_key": base64.b64encode(request.private_key.blob).decode(),
            "issued": [document.written(one) for one in certificate.issued],
            "pinned_since": certificate.pinned_since and document.written(certificate.pinned_since),
        }
    )


def decode(data: bytes, name: str) -> Certificate:
    """Raises DocumentError."""
    fields = cast("dict[str, Any]", document.decode(data, name))
    sealed = Sealed(fields["sealing"], _unbase64(fields["sealed_private_key"]), fields["kms_key_arn"])
    return Certificate(
        name=name,
        revision=fields["revision"],
        chain=Chain(
            pem=fields["fullchain_pem"],
            identifiers=tuple(fields["identifiers"]),
            serial_number=fields["serial_number"],
            spki_sha256=fields["spki_sha256"],
            validity=Validity(document.instant(fields["not_before"]), document.instant(fields["not_after"])),
            issuer=fields["issuer"] or "",
            certificate_id=fields["certificate_id"],
        ),
        request=CertificateRequest(fields["csr_pem"], fields["spki_sha256"], sealed),
        ca=fields["ca_directory"],
        account_url=fields["account_url"],
        profile=fields["profile"],
        key_type=fields["key_type"],
        order_url=fields["order_url"],
        issued=tuple(document.instant(one) for one in fields["issued"]),
        pinned_since=document.instant(fields["pinned_since"]) if fields["pinned_since"] else None,
    )


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise DocumentError("the document's sealed_private_key is not base64") from None
