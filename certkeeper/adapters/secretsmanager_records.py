"""Certificates in AWS Secrets Manager: `certificates/NAME` is the secret PREFIX/NAME. A version is a VersionId.

PutSecretValue alone compares nothing, so a new value is first put under a label that nobody reads, and AWSCURRENT is
then moved to it by UpdateSecretVersionStage, which names the version that was read: that is the compare-and-swap.
Killed in between, readers still have the old value, and the next write takes the label with it. The label is always
the same one, since labels of their own would add up to the 20 that a secret may have.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

from certkeeper.adapters.aws_refusals import Refused, code_of, hint_for
from certkeeper.core.document import is_name
from certkeeper.core.errors import Conflict, StoreError
from certkeeper.core.ports import Stored

PATHS = "certificates/"
CURRENT = "AWSCURRENT"
WRITTEN_LAST = "certkeeper"
TAG = "certkeeper"
LARGEST = 64 * 1024

HINTS = {
    "AccessDeniedException": "this role lacks rights on the secret or on the KMS key that encrypts it (docs/iam.md)",
    "DecryptionFailure": "the KMS key that encrypts the secret is disabled or waits for its deletion: undo that",
    "EncryptionFailure": "the KMS key that encrypts the secret is disabled or waits for its deletion: undo that",
    "LimitExceededException": "the secret has too many versions or staging labels, or the account too many secrets",
    "ResourceExistsException": "there is a secret of that name already; try again",
}


class SecretsManager(Protocol):
    """The calls that are made."""

    def get_secret_value(self, *, SecretId: str, VersionStage: str) -> Any: ...  # noqa: N803 - AWS's names
    def describe_secret(self, *, SecretId: str) -> Any: ...  # noqa: N803 - AWS's names
    def create_secret(self, **parameters: Any) -> Any: ...
    def put_secret_value(self, **parameters: Any) -> Any: ...
    def update_secret_version_stage(self, **parameters: Any) -> Any: ...
    def delete_secret(self, *, SecretId: str, ForceDeleteWithoutRecovery: bool) -> Any: ...  # noqa: N803 - AWS's names
    def get_paginator(self, operation_name: str) -> Any: ...


class SecretsManagerRecords:
    """One secret for each certificate, under `prefix`; `kms_key` encrypts new ones (None: the account's default)."""

    def __init__(self, secrets_manager: SecretsManager, prefix: str, kms_key: str | None = None) -> None:
        self._secrets_manager = secrets_manager
        self._prefix = f"{prefix}/"
        self._kms_key = kms_key

    def read(self, path: str) -> Stored | None:
        """The age counts from when the version was put, which may be earlier than when it became the current one."""
        name = self._secret_name(path)
        try:
            answer = self._secrets_manager.get_secret_value(SecretId=name, VersionStage=CURRENT)
        except Refused as error:
            if code_of(error) in ("ResourceNotFoundException", "InvalidRequestException"):
                self._make_sure_of_absence(name, code_of(error))
                return None
            raise _store_error("read", name, error) from None
        text = answer.get("SecretString")
        return Stored(answer["SecretBinary"] if text is None else text.encode(), answer["VersionId"], _age(answer))

    def _make_sure_of_absence(self, name: str, code: str) -> None:
        # A secret that is not there and one that has no current value are refused alike.
        try:
            secret = self._secrets_manager.describe_secret(SecretId=name)
        except Refused as error:
            if code == code_of(error) == "ResourceNotFoundException":
                return
            raise _store_error("read", name, error) from None
        if secret.get("DeletedDate") is not None:
            raise StoreError(
                f"the secret {name} is marked for deletion",
                f"restore it: aws secretsmanager restore-secret --secret-id {name}",
            )
        if not _current(secret.get("VersionIdsToStages")):
            raise StoreError(
                f"the secret {name} is there and has no value under {CURRENT}",
                f"move {CURRENT} to one of its versions, or delete the secret; nothing was ordered",
            )
        raise StoreError(f"Secrets Manager could not read the secret {name}: {code}", "it is tried again")

    def write(self, path: str, data: bytes, version: str | None) -> str:
        """`data` is text in UTF-8."""
        name = self._secret_name(path)
        if len(data) > LARGEST:
            raise StoreError(
                f"the certificate has {len(data)} bytes, and a secret takes {LARGEST}",
                "split its identifiers over several certificates, or keep certificates in the store",
            )
        # The version's id is the request's token: a request that is sent twice is done once.
        new = hashlib.sha256(data).hexdigest()
        value = {"SecretString": data.decode(), "ClientRequestToken": new}
        try:
            if version is None:
                self._create(name, value)
            else:
                self._replace(name, value, version)
        except Refused as error:
            refused = error
        else:
            return new
        now = self.read(path)
        if now is not None and now.data == data:
            return now.version
        if (now.version if now else None) != version:
            raise Conflict(f"the secret {name} was written by somebody else meanwhile", "try again")
        raise _store_error("write", name, refused)

    def _create(self, name: str, value: dict[str, str]) -> None:
        encryption = {"KmsKeyId": self._kms_key} if self._kms_key else {}
        self._secrets_manager.create_secret(
            Name=name,
            Description="a certificate, written by certkeeper",
            Tags=[{"Key": TAG, "Value": "certificate"}],
            **encryption,
            **value,
        )

    def _replace(self, name: str, value: dict[str, str], version: str) -> None:
        self._secrets_manager.put_secret_value(SecretId=name, VersionStages=[WRITTEN_LAST], **value)
        self._secrets_manager.update_secret_version_stage(
            SecretId=name,
            VersionStage=CURRENT,
            MoveToVersionId=value["ClientRequestToken"],
            RemoveFromVersionId=version,
        )

    def delete(self, path: str) -> None:
        """For good, without a recovery window: during one the name could be neither read nor written."""
        name = self._secret_name(path)
        try:
            self._secrets_manager.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
        except Refused as error:
            if code_of(error) != "ResourceNotFoundException":
                raise _store_error("delete", name, error) from None

    def list(self, prefix: str) -> dict[str, str]:
        """May be up to five minutes behind `read`, which alone decides; "" for a secret without a current value."""
        found = {}
        try:
            # On AWS the filters go by words and letter case at will: they only save pages.
            pages = self._secrets_manager.get_paginator("list_secrets").paginate(
                Filters=[{"Key": "name", "Values": [self._prefix]}, {"Key": "tag-key", "Values": [TAG]}]
            )
            for page in pages:
                for secret in page["SecretList"]:
                    path = self._path(secret)
                    if path is not None and path.startswith(prefix):
                        found[path] = _current(secret.get("SecretVersionsToStages"))
        except Refused as error:
            raise _store_error("list", f"{self._prefix}*", error) from None
        return found

    def _secret_name(self, path: str) -> str:
        if not path.startswith(PATHS):
            raise ValueError(f"{path}: Secrets Manager keeps certificates and nothing else")
        return self._prefix + path.removeprefix(PATHS)

    def _path(self, secret: Any) -> str | None:
        """The path of a secret of ours; other programs may keep theirs under the same prefix."""
        name = secret["Name"].removeprefix(self._prefix)
        ours = any(tag["Key"] == TAG for tag in secret.get("Tags", ()))
        return PATHS + name if ours and self._prefix + name == secret["Name"] and is_name(name) else None


class SecretPolicies:
    """The resource policies of the secrets under `prefix`, by a certificate's name: one without statements is none."""

    def __init__(self, client: Any, prefix: str) -> None:
        self._client = client
        self._prefix = f"{prefix}/"

    def read(self, name: str) -> dict[str, Any] | None:
        """None if there is no such secret. Raises StoreError."""
        try:
            answer = self._client.get_resource_policy(SecretId=self._prefix + name)
        except Refused as error:
            if code_of(error) == "ResourceNotFoundException":
                return None
            raise _store_error("read the policy of", self._prefix + name, error) from None
        return {"Version": "2012-10-17", "Statement": [], **json.loads(answer.get("ResourcePolicy") or "{}")}

    def write(self, name: str, policy: Mapping[str, Any]) -> None:
        """Raises StoreError."""
        secret = self._prefix + name
        try:
            if policy["Statement"]:
                self._client.put_resource_policy(SecretId=secret, ResourcePolicy=json.dumps(policy))
            else:
                self._client.delete_resource_policy(SecretId=secret)
        except Refused as error:
            raise _store_error("write the policy of", secret, error) from None


def _current(stages: dict[str, list[str]] | None) -> str:
    return next((version for version, labels in (stages or {}).items() if CURRENT in labels), "")


def _store_error(verb: str, name: str, error: Exception) -> StoreError:
    return StoreError(
        f"Secrets Manager could not {verb} the secret {name}: {code_of(error)}",
        hint_for(error, HINTS, "nothing was changed on doubt; it is tried again by the next run"),
    )


def _age(answer: Any) -> timedelta:
    """By AWS's own clock: the answer's Date less the version's CreatedDate."""
    served = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    age: timedelta = served - answer["CreatedDate"]
    return max(timedelta(0), age)
