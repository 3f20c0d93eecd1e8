"""Revoke a certificate (RFC 8555 section 7.6): it is replaced first, if it is still held.

The wish is written into the journal entry, with all it takes. From then on every tick finds the certificate due; once
it is not held any more, the same tick or a later one asks the CA and takes the wish out again. A CA that says that it
is revoked already has done what was asked, so being killed in between costs nothing. A person may withdraw the wish
until then: that the CA is about to be asked is written down first, at the version that was read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from certkeeper.core.errors import AuthorityError, CertkeeperError, ChainError, DocumentError, SettingsError
from certkeeper.core.journal import Claim, unspoilt
from certkeeper.core.model import REASONS, Account, Certificate, GivenUp, Revocation
from certkeeper.core.order import Download, Order, Wait, next_step
from certkeeper.jobs import survey
from certkeeper.jobs.account import AccountDesk
from certkeeper.jobs.case import believe, persistently
from certkeeper.jobs.keeper import Keeper

END = "-----END CERTIFICATE-----"
LOST = timedelta(days=7)
"""For how long a CA must not find an order that was given up, or its certificate, until there is nothing to be revoked:
a CA in trouble says so for hours of what is there, too.
"""


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
    believe(keeper, name, current, read)
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
    return Revocation(chain.serial_number, chain.spki_sha256, certificate.ca, reason, _leaf_of(chain.pem))


def _leaf_of(pem: str) -> str:
    return pem[: pem.index(END) + len(END)] + "\n"


def _target(keeper: Keeper, name: str, current: Certificate | None, revision: int | None) -> Certificate | None:
    if revision is None or (current is not None and current.revision == revision):
        return current
    return keeper.history.read(name, revision)


def withdraw(keeper: Keeper, name: str) -> Revocation:
    """Take the wish back; what it was. An order that was begun to replace the certificate goes with it, unless it may
    be paid for.

    Raises SettingsError if there is none, or the CA may have done it already; StoreError, DocumentError.
    """
    withdrawn = persistently(name, lambda: _withdrawn(keeper, name))
    survey.catch_up(keeper)
    return withdrawn


def _withdrawn(keeper: Keeper, name: str) -> Revocation:
    read = keeper.journal.read(name)
    entry, revocation = read.entry, read.entry.revocation
    if revocation is None:
        raise SettingsError(f"nothing of {name} is to be revoked")
    if revocation.asked:
        raise SettingsError(
            f"{name}: the CA has been asked to revoke {revocation.serial_number}, and may have done so",
            f"finish that: certkeeper revoke {name} --reason {revocation.reason}",
        )
    pending = entry.pending if entry.pending is not None and entry.pending.finalized else None
    keeper.journal.write(name, replace(entry, revocation=None, pending=pending), read.version)
    return revocation


def carry_out(
    keeper: Keeper, accounts: AccountDesk, name: str, revocation: Revocation, note: Callable[[Revocation], None]
) -> None:
    """Have the CA revoke it, and whatever else there is with the same compromised private key: in the history, or of
    an order that was given up. What is revoked leaves the history. `note` writes the wish down as it stands then.

    Raises AuthorityError, ChainError, SettingsError, StoreError, and what `note` raises.
    """
    asked = replace(revocation, asked=True)
    if not revocation.asked:
        note(asked)
    try:
        _revoke(keeper, accounts, name, revocation)
    except AuthorityError as error:
        if not revocation.asked and error.status is not None and 400 <= error.status < 500:
            note(revocation)  # it has said no, so it has not
        raise
    left, trouble = _revoke_what_came_of(keeper, accounts, name, revocation)
    if left != revocation.given_up:
        note(replace(asked, given_up=left))
    for revision in keeper.history.revisions(name):
        earlier = _readable(keeper, name, revision)
        if earlier is not None and revocation.concerns(earlier):
            if earlier.chain.serial_number != revocation.serial_number:
                _revoke(keeper, accounts, name, _revocation(earlier, revocation.reason))
            keeper.history.remove(name, revision)
    if trouble is not None:
        raise trouble


def _revoke_what_came_of(
    keeper: Keeper, accounts: AccountDesk, name: str, revocation: Revocation
) -> tuple[tuple[GivenUp, ...], CertkeeperError | None]:
    """Revoke what came of orders that were given up; those that are still open, and the first reason."""
    left: list[GivenUp] = []
    trouble: CertkeeperError | None = None
    for one in revocation.given_up:
        try:
            pem = _downloaded(keeper, accounts.of(one.ca), one)
            if pem is not None:
                chain = keeper.chains.read(pem)
                # The CA may have handed the order out again, and it was finalized with a new private key then.
                if chain.spki_sha256 == revocation.spki_sha256:
                    lost = Revocation(chain.serial_number, chain.spki_sha256, one.ca, revocation.reason, _leaf_of(pem))
                    _revoke(keeper, accounts, name, lost)
        except (AuthorityError, ChainError, SettingsError) as error:
            if isinstance(error, AuthorityError) and error.status == 404 and error.kind:
                what = f"the CA does not find what came of an order for the compromised private key: {error.message}"
                now = keeper.clock.now()
                one = replace(one, missed_since=one.missed_since or now)
                if one.missed_since is not None and now - one.missed_since >= LOST:
                    keeper.tell(name, what)
                    continue
                error = AuthorityError(what, "the next run looks again, for a week")
            left.append(one)
            trouble = trouble or error
    return tuple(left), trouble


def _downloaded(keeper: Keeper, account: Account, given_up: GivenUp) -> str | None:
    authority = keeper.authorities[given_up.ca]
    order = Order(given_up.url, "valid", (), (), "", given_up.certificate_url)
    if given_up.certificate_url is None:
        order = authority.fetch_order(account, given_up.url)
        step = next_step(order)
        if isinstance(step, Wait):
            raise AuthorityError("the CA is still at work on an order for the compromised private key")
        if not isinstance(step, Download):
            return None
    return authority.download(account, order)


def _revoke(keeper: Keeper, accounts: AccountDesk, name: str, revocation: Revocation) -> None:
    if keeper.chains.read(revocation.leaf_pem).validity.not_after <= keeper.clock.now():
        keeper.tell(name, f"{revocation.serial_number} has expired, so it needs no revocation")
        return
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
    if read.entry.revocation is None:
        return
    entry, version = replace(unspoilt(read.entry), claim=Claim(keeper.holder, keeper.term)), read.version

    def note(as_it_stands: Revocation) -> None:
        nonlocal version
        version = keeper.journal.write(name, replace(entry, revocation=as_it_stands), version)

    assert entry.revocation is not None  # noqa: S101 - unspoilt() takes none away
    note(entry.revocation)
    carry_out(keeper, AccountDesk(keeper), name, entry.revocation, note)
    keeper.journal.write(name, replace(entry, claim=None, revocation=None), version)


def is_done(keeper: Keeper, name: str) -> bool:
    """Whether no wish is left. Raises StoreError, DocumentError."""
    return keeper.journal.read(name).entry.revocation is None
