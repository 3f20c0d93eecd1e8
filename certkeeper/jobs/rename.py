"""Give a certificate another name without obtaining it anew: possible only where no private key is sealed to a name."""

from __future__ import annotations

from dataclasses import replace

from certkeeper.core.certificates import next_revision
from certkeeper.core.errors import SettingsError
from certkeeper.core.journal import Claim, Entry, at_rest
from certkeeper.core.model import Certificate, CertificateSpec
from certkeeper.jobs import survey
from certkeeper.jobs.case import believe, persistently
from certkeeper.jobs.forget import is_stored
from certkeeper.jobs.keeper import Keeper
from certkeeper.jobs.status import plan


def copied(keeper: Keeper, old: str, new: str) -> Certificate | None:
    """Store the certificate of `old` under `new`, where it stays; None if there is none or its private key is sealed
    to its name. What is held under `new` already is left alone.

    Raises SettingsError like `refuse_what_is_to_be_revoked`, StoreError, DocumentError.
    """
    certificate = persistently(new, lambda: _copied(keeper, old, new))
    survey.catch_up(keeper)
    return certificate


def _copied(keeper: Keeper, old: str, new: str) -> Certificate | None:
    read = keeper.journal.read(new)
    there, version = keeper.certificates.read(new)
    believe(keeper, new, there, read)
    certificate, _ = keeper.certificates.read(old)
    if there is not None or certificate is None or certificate.request.private_key.sealing != "store":
        return there
    refuse_what_is_to_be_revoked(keeper, old)
    claim, known = Claim(keeper.holder, keeper.term), read.entry
    now = keeper.clock.now()
    kept = at_rest(known, now).asked_to_wait
    entry = Entry(claim, records=known.records, spent=known.spent, asked_to_wait=kept)
    at = keeper.journal.write(new, entry, read.version)
    # What it spent of the CA's limits is told by the old name, whose journal stays.
    certificate = replace(certificate, name=new, revision=next_revision(certificate, now), issued=())
    keeper.certificates.write(certificate, version)
    keeper.journal.write(new, replace(entry, claim=None, revision=certificate.revision, kept_in=keeper.kept_in), at)
    return certificate


def refuse(keeper: Keeper, spec: CertificateSpec, new: str) -> None:
    """Raise SettingsError if the certificate cannot be called `new`: something is stored there, what has the old name
    is to be revoked, its successor may be paid for already, or the new certificate that it takes would cost the
    reserve. Raises StoreError, DocumentError.
    """
    refuse_what_is_to_be_revoked(keeper, spec.name)
    entry = keeper.journal.read(spec.name).entry
    if spec.sealing == "store" and any(one is not None and one.finalized for one in (entry.pending, *entry.aside)):
        raise SettingsError(
            f"{spec.name}: an order is under way that may be paid for, and the new name would order another one",
            f"finish that first: certkeeper renew {spec.name}",
        )
    if is_stored(keeper, new):
        raise SettingsError(f"something is stored under {new!r}", f"if it is of no use: certkeeper forget {new}")
    scarce = [] if spec.sealing == "store" else [one for one in plan(keeper, [spec])[0].budget if not one.allows()]
    if scarce:
        possible = max(one.possible_from() for one in scarce)
        raise SettingsError(
            f"{new} would be a new certificate, and the CA's limits leave too little for it",
            f"rename it after {possible:%Y-%m-%d %H:%M}Z; see: certkeeper plan {spec.name}",
        )


def refuse_what_is_to_be_revoked(keeper: Keeper, name: str) -> None:
    """Raise SettingsError if something of a name is to be revoked: under another name nobody would know of it.

    Raises StoreError, DocumentError.
    """
    revocation = keeper.journal.read(name).entry.revocation
    if revocation is not None:
        raise SettingsError(
            f"{name}: {revocation.serial_number} is to be revoked first",
            f"finish that: certkeeper revoke {name} --reason {revocation.reason}",
        )
