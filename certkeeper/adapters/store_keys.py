"""Sealer for `sealing = "store"`: none of our own; the store's encryption and its access rules are all there is."""

from __future__ import annotations

from collections.abc import Mapping

from certkeeper.core.errors import SealingError
from certkeeper.core.model import Sealed


class StoreSealer:
    """Leaves private keys as they are. Whoever may read the object may read the private key."""

    def seal(self, clear: bytes, context: Mapping[str, str]) -> Sealed:
        return Sealed("store", clear)

    def open(self, sealed: Sealed, context: Mapping[str, str]) -> bytes:
        if sealed.sealing != "store":
            raise SealingError(
                "the private key was sealed by KMS, and the settings name no KMS key", 'set sealing = "kms" again'
            )
        return sealed.blob
