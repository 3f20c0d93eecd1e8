"""Sealer by AWS KMS: Encrypt and Decrypt on the private key itself, under an encryption context.

RSA-4096 in PKCS #8 PEM is 3,272 bytes and Encrypt takes 4,096, so no data key and no cipher of our own is needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from certkeeper.adapters.aws_refusals import Refused, code_of, hint_for
from certkeeper.core.errors import SealingError
from certkeeper.core.model import Sealed

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

HINTS = {
    "NotFoundException": "create the key, or correct kms_key or AWS_REGION: an alias belongs to one region",
    "AccessDeniedException": "the role lacks kms:Encrypt (and kms:Decrypt for account keys) under this context",
    "DisabledException": "enable the KMS key again",
    "KMSInvalidStateException": "the KMS key is disabled or waits for its deletion: cancel that",
}


class KmsSealer:
    """Seals under one KMS key."""

    def __init__(self, kms: KMSClient, kms_key: str) -> None:
        self._kms = kms
        self._kms_key = kms_key

    def seal(self, clear: bytes, context: Mapping[str, str]) -> Sealed:
        try:
            answer = self._kms.encrypt(KeyId=self._kms_key, Plaintext=clear, EncryptionContext=dict(context))
        except Refused as error:
            raise _sealing_error("sealed", self._kms_key, error) from None
        return Sealed("kms", answer["CiphertextBlob"], answer["KeyId"])

    def open(self, sealed: Sealed, context: Mapping[str, str]) -> bytes:
        if sealed.sealing != "kms" or sealed.kms_key_arn is None:
            raise SealingError("the private key was not sealed by KMS", "set sealing back to what it was")
        try:
            answer = self._kms.decrypt(
                KeyId=sealed.kms_key_arn, CiphertextBlob=sealed.blob, EncryptionContext=dict(context)
            )
        except Refused as error:
            raise _sealing_error("opened", sealed.kms_key_arn, error) from None
        return answer["Plaintext"]


def find_arn(kms: KMSClient, kms_key: str) -> str | None:
    """The ARN of a key, given by its alias, id or ARN; None if there certainly is none. Raises SealingError."""
    try:
        return kms.describe_key(KeyId=kms_key)["KeyMetadata"]["Arn"]
    except Refused as error:
        if code_of(error) == "NotFoundException":
            return None
        hint = hint_for(error, {}, "see to kms:DescribeKey, or give the key's ARN as kms_key")
        raise SealingError(f"KMS does not say which key {kms_key} is: {code_of(error)}", hint) from None


def state(kms: KMSClient, kms_key: str) -> str | None:
    """A key's state in KMS's words ("Enabled", "Disabled", "PendingDeletion"); None if there is none.

    Raises SealingError.
    """
    try:
        return str(kms.describe_key(KeyId=kms_key)["KeyMetadata"]["KeyState"])
    except Refused as error:
        if code_of(error) == "NotFoundException":
            return None
        raise _sealing_error("found", kms_key, error) from None


def policy(kms: KMSClient, arn: str) -> dict[str, Any]:
    """A key's policy. Raises SealingError."""
    try:
        found: dict[str, Any] = json.loads(kms.get_key_policy(KeyId=arn, PolicyName="default")["Policy"])
    except Refused as error:
        hint = hint_for(error, {}, "see to kms:GetKeyPolicy")
        raise SealingError(f"KMS does not show the policy of {arn}: {code_of(error)}", hint) from None
    return found


def delete(kms: KMSClient, arn: str, alias: str) -> None:
    """Take the alias away and have the key deleted in 30 days; that can be cancelled. What is done already is left at
    that. Raises SealingError."""
    try:
        if alias:
            with suppress(kms.exceptions.NotFoundException):
                kms.delete_alias(AliasName=alias)
        if state(kms, arn) not in (None, "PendingDeletion"):
            kms.schedule_key_deletion(KeyId=arn, PendingWindowInDays=30)
    except Refused as error:
        raise _sealing_error("deleted", arn, error) from None


def _sealing_error(verb: str, kms_key: str, error: Exception) -> SealingError:
    hint = hint_for(error, HINTS, "check the KMS key and this role's rights on it")
    return SealingError(f"a private key could not be {verb} by KMS key {kms_key}: {code_of(error)}", hint)
