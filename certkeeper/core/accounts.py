"""The ACME accounts in the store: `accounts/CA`, the sealed account key and the account's URL."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets

from certkeeper.core.document import FORMAT, parse_object
from certkeeper.core.errors import DocumentError
from certkeeper.core.model import Account, Sealed
from certkeeper.core.ports import Records

PREFIX = "accounts/"


class Accounts:
    """Accounts over any Records."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def read(self, directory: str) -> tuple[Account | None, str | None]:
        """The account at a CA and its version. Raises StoreError, DocumentError."""
        stored = self._records.read(path(directory))
        return (None, None) if stored is None else (decode(stored.data, directory), stored.version)

    def write(self, account: Account, version: str | None) -> str:
        """Replace exactly that version. Raises Conflict, StoreError."""
        return self._records.write(path(account.ca), encode(account), version)


def path(directory: str) -> str:
    """Readable, and one for each directory URL."""
    host = directory.split("/")[2].split(":")[0] if directory.count("/") > 2 else "ca"
    return f"{PREFIX}{host}-{hashlib.sha256(directory.encode()).hexdigest()[:12]}"


def encode(account: Account) -> bytes:
    fields = {
        "format": FORMAT,
        "write_id": secrets.token_hex(16),
        "ca_directory": account.ca,
        "account_url": account.url,
        "sealing": account.private_key.sealing,
        "kms_key_arn": account.private_key.kms_key_arn,
        "sealed_account_key": base64.b64encode(account.private_key.blob).decode(),
        "next": account.next_key and _sealed_fields(account.next_key),
    }
    return json.dumps(fields, indent=1, sort_keys=True).encode() + b"\n"


def _sealed_fields(sealed: Sealed) -> dict[str, object]:
    return {
        "sealing": sealed.sealing,
        "kms_key_arn": sealed.kms_key_arn,
        "sealed_account_key": base64.b64encode(sealed.blob).decode(),
    }


def decode(data: bytes, directory: str) -> Account:
    """Raises DocumentError; never quotes the bytes."""
    restore = f"restore {path(directory)} from an earlier version of the object"
    try:
        fields = parse_object(data)
    except DocumentError as error:
        raise DocumentError(f"the account of {directory} cannot be read: {error.message}", restore) from None
    if fields.get("format") != FORMAT or fields.get("ca_directory") != directory:
        raise DocumentError(f"the account of {directory} is of an unknown format or of another CA", "update certkeeper")
    url, next_fields = fields.get("account_url"), fields.get("next")
    try:
        if not isinstance(url, (str, type(None))):
            raise ValueError
        return Account(directory, _sealed(fields), url, None if next_fields is None else _sealed(next_fields))
    except ValueError:
        raise DocumentError(f"the account of {directory} cannot be read", restore) from None


def _sealed(fields: object) -> Sealed:
    if not isinstance(fields, dict):
        raise ValueError
    sealing, blob, arn = fields.get("sealing"), fields.get("sealed_account_key"), fields.get("kms_key_arn")
    if sealing not in ("kms", "store") or not isinstance(blob, str) or not isinstance(arn, (str, type(None))):
        raise ValueError
    return Sealed(str(sealing), base64.b64decode(blob, validate=True), arn)
