"""Revoke a certificate (RFC 8555 section 7.6): it is replaced first, if it is still held.

The wish is written into the journal entry, with all it takes. From then on every tick finds the certificate due; once
it is not held any more, the same tick or a later one asks the CA and takes the wish out again. A CA that says that it
is revoked already has done what was asked, so being killed in between costs nothing.
"""

from __future__ import annotations

from dataclasses import replace

from certkeeper.core.errors import AuthorityError, DocumentError, SettingsError
from certkeeper.core.journal import Claim
from certkeeper.core.model import REASONS, Certificate, Revocation
from certkeeper.jobs import survey
from certkeeper.jobs.account import AccountDesk
from certkeeper.jobs.case import believe, persistently
from certkeeper.jobs.keeper import Keeper

END = "-----END CERTIFICATE-----"


def wish(keeper: Keeper, name: str, reason: str, revision: int | None = None) -> Revocation:
    """Write down that the current certificate, or an earlier one, is to be revoked. The same wish may be repeated,
    also when it is replaced by now, and with another reason.

    `reason` is a key of REASONS. Raises SettingsError if there is none such, or another wish is not done with yet;
    StoreError, DocumentError.
    """
    written = persistently(name, lambda: _wished(keeper, name, reason, revision))
    survey.catch_up(keeper)
    return written


def _wished(keeper: Keeper, name: str, reason: str, revision: int | None) -> Revocation:
    read = keeper.journal.read(name)
    current, _ = keeper.certificates.read(name)
    believe(current, read)
    before = read.entry.revocation
    target = _target(keeper, name, current, revision)
    if before is not None:
        # What was current when it was wished, and is replaced by now, is not in the history.
        repeated = target is None if revision is not None else not _is_kept(keeper, name, before)
        if repeated or (target is not None and before.serial_number == target.chain.serial_number):
            new = replace(before, reason=reason)
            keeper.journal.write(name, replace(read.entry, revocation=new), read.version)
            return new
        raise SettingsError(
            f"{name}: {before.serial_number} is to be revoked first", f"finish that: certkeeper renew {name}"
        )
    if target is None:
        raise SettingsError(f"nothing of {name} can be revoked", f"see what there is: certkeeper history {name}")
    if target.chain.validity.not_after <= keeper.clock.now():
        raise SettingsError(f"{target.chain.serial_number} has expired, so it needs no revocation")
    new = _revocation(target, reason)
    keeper.journal.write(name, replace(read.entry, revocation=new), read.version)
    return new


def _revocation(certificate: Certificate, reason: str) -> Revocation:
    chain = certificate.chain
    leaf_pem = chain.pem[: chain.pem.index(END) + len(END)] + "\n"
    return Revocation(chain.serial_number, chain.spki_sha256, certificate.ca, reason, leaf_pem)


def _target(keeper: Keeper, name: str, current: Certificate | None, revision: int | None) -> Certificate | None:
    if revision is None or (current is not None and current.revision == revision):
        return current
    return keeper.history.read(name, revision)


def carry_out(keeper: Keeper, accounts: AccountDesk, name: str, revocation: Revocation) -> None:
    """Have the CA revoke it, and whatever else is in the history with the same compromised private key; what is revoked
    leaves the history. Raises AuthorityError, SettingsError, StoreError.
    """
    _revoke(keeper, accounts, name, revocation)
    for revision in keeper.history.revisions(name):
        earlier = _readable(keeper, name, revision)
        if earlier is not None and revocation.concerns(earlier):
            in_date = keeper.clock.now() < earlier.chain.validity.not_after
            if in_date and earlier.chain.serial_number != revocation.serial_number:
                _revoke(keeper, accounts, name, _revocation(earlier, revocation.reason))
            keeper.history.remove(name, revision)


def _revoke(keeper: Keeper, accounts: AccountDesk, name: str, revocation: Revocation) -> None:
    account = accounts.of(revocation.ca)
    try:
        keeper.authorities[revocation.ca].revoke(account, revocation.leaf_pem, REASONS[revocation.reason])
    except AuthorityError as error:
        if error.kind != "alreadyRevoked":
            raise
    keeper.tell(name, f"revoked {revocation.serial_number}")


def _readable(keeper: Keeper, name: str, revision: int) -> Certificate | None:
    try:
        return keeper.history.read(name, revision)
    except DocumentError:
        return None


def _is_kept(keeper: Keeper, name: str, revocation: Revocation) -> bool:
    kept = (_readable(keeper, name, revision) for revision in keeper.history.revisions(name))
    return any(one is not None and one.chain.serial_number == revocation.serial_number for one in kept)


def without_replacement(keeper: Keeper, name: str) -> None:
    """Carry out the wish of a name that nobody wants any more: it is not in the settings, so it is not replaced.

    Raises what `carry_out` raises.
    """
    persistently(name, lambda: _without_replacement(keeper, name))
    survey.catch_up(keeper)


def _without_replacement(keeper: Keeper, name: str) -> None:
    read = keeper.journal.read(name)
    revocation = read.entry.revocation
    if revocation is not None:
        entry = replace(read.entry, claim=Claim(keeper.holder, keeper.term))
        version = keeper.journal.write(name, entry, read.version)
        carry_out(keeper, AccountDesk(keeper), name, revocation)
        keeper.journal.write(name, replace(entry, claim=None, revocation=None), version)


def is_done(keeper: Keeper, name: str) -> bool:
    """Whether no wish is left. Raises StoreError, DocumentError."""
    return keeper.journal.read(name).entry.revocation is None
