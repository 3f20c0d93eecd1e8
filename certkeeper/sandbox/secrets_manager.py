"""What Secrets Manager refuses and moto does not: sizes, labels, KMS states, secrets that are marked for deletion."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any

LARGEST = 65536
MOST_LABELS = 20
CURRENT = "AWSCURRENT"
MARKED = "You can't perform this operation on the secret because it was marked for deletion."
MARKED_NAME = "You can't create this secret because a secret with this name is already scheduled for deletion."
STAY_AS_THEY_ARE = frozenset(("DescribeSecret", "RestoreSecret", "DeleteSecret", "ListSecretVersionIds"))
WRITE = frozenset(("CreateSecret", "PutSecretValue", "UpdateSecret"))

Refusal = tuple[str, str]
KeyState = Callable[[str], str]


def refusal_of(backend: Any, operation: str, document: Mapping[str, Any], key_state: KeyState) -> Refusal | None:
    """Code and message with which AWS would refuse this call, None if it is left to moto.

    `key_state` tells the state of a KMS key by id, ARN or alias, "" if there is none.
    """
    secret = found(backend, str(document.get("SecretId") or document.get("Name") or ""))
    if operation in WRITE and _size(document) > LARGEST:
        return "InvalidParameterException", f"The value is longer than {LARGEST} bytes."
    if secret is not None and secret.is_deleted():
        if operation == "CreateSecret":
            return "InvalidRequestException", MARKED_NAME
        if operation not in STAY_AS_THEY_ARE:
            return "InvalidRequestException", MARKED
    refused = _kms_refusal(secret, operation, document, key_state)
    if refused is None and secret is not None and operation == "PutSecretValue":
        refused = _too_many_labels(secret, document)
    if refused is None and secret is not None and operation == "UpdateSecretVersionStage":
        refused = _move_refusal(secret, document)
    return refused


def found(backend: Any, named: str) -> Any:
    """The secret of that name or ARN in moto's backend, None if there is none."""
    return backend.secrets[named] if named and named in backend.secrets else None


def labels_of(secret: Any) -> dict[str, str]:
    """Each staging label of a secret, and the version that it is attached to."""
    return {label: one for one, version in secret.versions.items() for label in version["version_stages"]}


def mended(secret: Any, before: Mapping[str, str]) -> None:
    """Undo what moto does beyond a write: it takes the labels of others off the version that was current, and goes
    on calling that version the current one after the label was moved.
    """
    after = labels_of(secret)
    for label, version in before.items():
        if label not in after and label not in (CURRENT, "AWSPREVIOUS"):
            secret.versions[version]["version_stages"].append(label)
    secret.set_default_version_id(after.get(CURRENT))


def asked(operation: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """The request as moto has to see it: without a version it answers the last one put, and AWS the current one."""
    if operation == "GetSecretValue" and not document.get("VersionId") and not document.get("VersionStage"):
        return {**document, "VersionStage": CURRENT}
    return dict(document)


def _size(document: Mapping[str, Any]) -> int:
    text, binary = document.get("SecretString"), document.get("SecretBinary")
    try:
        return len(text.encode()) if text else len(base64.b64decode(binary or ""))
    except (binascii.Error, ValueError):
        return 0


def _kms_refusal(secret: Any, operation: str, document: Mapping[str, Any], key_state: KeyState) -> Refusal | None:
    reading = operation == "GetSecretValue"
    if operation not in WRITE and not reading:
        return None
    named = document.get("KmsKeyId") or (secret.kms_key_id if secret is not None else None)
    if not named or str(named).endswith("alias/aws/secretsmanager") or key_state(str(named)) == "Enabled":
        return None
    if reading:
        return "DecryptionFailure", "Secrets Manager can't decrypt the protected secret text using the provided key."
    return "EncryptionFailure", "Secrets Manager can't encrypt the protected secret text using the provided key."


def _too_many_labels(secret: Any, document: Mapping[str, Any]) -> Refusal | None:
    if len(labels_of(secret).keys() | set(document.get("VersionStages") or ())) > MOST_LABELS:
        return "LimitExceededException", f"A secret can have no more than {MOST_LABELS} staging labels."
    return None


def _move_refusal(secret: Any, document: Mapping[str, Any]) -> Refusal | None:
    """Looked at before anything is moved; moto takes the label away first and refuses then."""
    label, target = str(document.get("VersionStage")), document.get("MoveToVersionId")
    source = document.get("RemoveFromVersionId")
    holder = labels_of(secret).get(label)
    code = "InvalidParameterException"
    for version in (source, target):
        if version and version not in secret.versions:
            return "ResourceNotFoundException", f"Secrets Manager can't find the specified secret version: {version}"
    if source and source != holder:
        return code, f"The staging label {label} isn't attached to version {source}."
    if not target and label == CURRENT:
        return code, f"You can only move staging label {CURRENT} to a different secret version."
    if target and holder and holder not in (target, source):
        return code, (
            f"The parameter RemoveFromVersionId can't be empty. Staging label {label} is currently attached to "
            f"version {holder}, so you must explicitly reference that version in RemoveFromVersionId."
        )
    return None
