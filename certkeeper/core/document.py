"""The certificate document, format 1: bytes to a checked plain value, and back.

A document holds all an instance needs: the chain and the sealed private key in one object, so a pair can
never be torn. Whoever reads one treats it as data from a stranger: every field is checked here, once.

Runs on Python 3.9 and imports little: the boot client carries this file.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone

from certkeeper.core.errors import DocumentError

TYPE_CHECKING = False
if TYPE_CHECKING:  # the client pays for each import, and typing is a dear one
    from typing import Any

FORMAT = 1
LARGEST = 256 * 1024
NAME_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-")
_HEX = frozenset("0123456789abcdef")
_BASE64 = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/=")
_PEM_LABEL = "-----BEGIN CERTIFICATE-----"

_LETTERS = (("serial_number", _HEX, 64), ("spki_sha256", _HEX, 64), ("sealed_private_key", _BASE64, 16384))

# Field: its type. Every one is required; a later format 1 only ever adds optional ones.
_REQUIRED = {
    "format": int,
    "name": str,
    "revision": int,
    "write_id": str,
    "identifiers": list,
    "serial_number": str,
    "not_before": str,
    "not_after": str,
    "spki_sha256": str,
    "fullchain_pem": str,
    "csr_pem": str,
    "ca_directory": str,
    "sealing": str,
    "sealed_private_key": str,
    "issued": list,
}
_OPTIONAL = {
    "account_url": str,
    "profile": str,
    "kms_key_arn": str,
    "order_url": str,
    "key_type": str,
    "issuer": str,
    "certificate_id": str,
    "pinned_since": str,
}


def encode(fields: dict[str, object]) -> bytes:
    """The bytes of a document. The same fields always give the same bytes; raises DocumentError like `decode`."""
    data = json.dumps(fields, indent=1, sort_keys=True).encode() + b"\n"
    decode(data)
    return data


def decode(data: bytes, name: str | None = None) -> dict[str, object]:
    """The checked fields of a document; with `name`, of exactly that certificate.

    Unknown fields are ignored and left out, an unknown format is refused. Instants stay RFC 3339 text; `instant`
    reads them. Raises DocumentError, whose message never quotes the bytes.
    """
    fields = parse_object(data)
    if fields.get("format") != FORMAT or isinstance(fields.get("format"), bool):
        raise DocumentError(
            f"the document's format is {_shown(fields.get('format'))}, and only {FORMAT} is known here",
            "a newer certkeeper wrote it: update this one",
        )
    checked: dict[str, Any] = {}
    for field, kind in list(_REQUIRED.items()) + list(_OPTIONAL.items()):
        value = fields.get(field)
        if value is None and field in _OPTIONAL:
            checked[field] = None
            continue
        if not isinstance(value, kind) or isinstance(value, bool):
            raise DocumentError(f"the document's field {field} is missing or of a wrong type")
        checked[field] = value
    _check_values(checked)
    if name is not None and checked["name"] != name:
        raise DocumentError(f"the document is of {_shown(checked['name'])}, not of {name}")
    return checked


def parse_object(data: bytes) -> dict[str, object]:
    """One JSON object out of bytes of a bounded size. Raises DocumentError."""
    if len(data) > LARGEST:
        raise DocumentError(f"the document has more than {LARGEST} bytes")
    try:
        fields = json.loads(data.decode())
    except (ValueError, RecursionError):
        # "from None": a JSON error quotes its input, which may hold a private key.
        raise DocumentError("the document is not JSON in UTF-8") from None
    if not isinstance(fields, dict):
        raise DocumentError("the document is not a JSON object")
    return fields


def instant(text: object) -> datetime:
    """`2026-11-23T02:20:00Z` as an aware datetime. Raises DocumentError."""
    try:
        if not isinstance(text, str) or len(text) != 20 or text[4::3][:2] != "--" or text[10::3] != "T::Z":
            raise ValueError
        digits = text[:4] + text[5:7] + text[8:10] + text[11:13] + text[14:16] + text[17:19]
        if not (digits.isascii() and digits.isdigit()):  # later Pythons take other forms too
            raise ValueError
        return datetime.fromisoformat(text[:19] + "+00:00")
    except ValueError:
        raise DocumentError(f"{_shown(text)} is not an instant like 2026-11-23T02:20:00Z") from None


def written(moment: datetime) -> str:
    """An aware datetime as RFC 3339 in UTC, whole seconds: the form `instant` reads."""
    if moment.tzinfo is None:
        raise ValueError("a naive datetime has no place in a document")
    return moment.astimezone(timezone.utc).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def is_name(text: object) -> bool:
    """Whether this can be a certificate's name: [a-z0-9][a-z0-9._-]{0,63}."""
    return isinstance(text, str) and 1 <= len(text) <= 64 and set(text) <= NAME_LETTERS and text[0] not in "._-"


def _check_values(fields: dict[str, Any]) -> None:
    _check_text(fields)
    if instant(fields["not_after"]) <= instant(fields["not_before"]):
        raise DocumentError("the document's not_after is not after its not_before")
    for one in fields["issued"]:
        instant(one)
    if fields["revision"] < 1:
        raise DocumentError("the document's revision is not a positive number")
    if fields["sealing"] not in ("kms", "store"):
        raise DocumentError(f"the document's sealing is {_shown(fields['sealing'])}, neither kms nor store")
    if fields["sealing"] == "kms" and not fields["kms_key_arn"]:
        raise DocumentError("the document is sealed by KMS and does not say by which key")


def _check_text(fields: dict[str, Any]) -> None:
    if not is_name(fields["name"]):
        raise DocumentError("the document's name is not a certificate's name")
    identifiers = fields["identifiers"]
    if not identifiers or not all(
        isinstance(one, str) and 0 < len(one) <= 255 and one.isascii() for one in identifiers
    ):
        raise DocumentError("the document's identifiers are not a list of DNS names")
    for field, letters, longest in _LETTERS:
        value = fields[field]
        if not value or len(value) > longest or not set(value) <= letters:
            raise DocumentError(f"the document's {field} is not what it should be")
    chain = fields["fullchain_pem"]
    labels = {line.strip() for line in chain.splitlines() if "-----BEGIN" in line}
    if labels != {_PEM_LABEL} or not chain.isascii():
        raise DocumentError("the document's chain holds something else than certificates, or nothing")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
