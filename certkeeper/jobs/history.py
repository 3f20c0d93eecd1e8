"""Earlier certificates: which there are, and making one of them current again.

A rollback is written like a renewal: the claim first, then what is replaced into the history, then the certificate at
the version that was read, then the closed entry. So a tick that is under way finds itself overtaken, and a rollback
that was killed has either happened or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from certkeeper.core.ari import Information, Window
from certkeeper.core.certificates import held, next_revision
from certkeeper.core.decision import due_time, in_date, pinned
from certkeeper.core.document import written
from certkeeper.core.errors import ChainError, Conflict, DocumentError, SettingsError
from certkeeper.core.journal import Claim, Read, at_rest, settled
from certkeeper.core.model import Certificate
from certkeeper.jobs import survey
from certkeeper.jobs.case import believe, persistently
from certkeeper.jobs.keeper import Keeper


@dataclass(frozen=True)
class Earlier:
    """One certificate of a name. `problem` is why it cannot be made current, None if it can or is."""

    revision: int
    certificate: Certificate | None
    current: bool = False
    pinned: bool = False
    problem: str | None = None


def history(keeper: Keeper, name: str) -> tuple[Earlier, ...]:
    """The current certificate and the earlier ones, the newest first. Raises StoreError, DocumentError."""
    now = keeper.clock.now()
    current, _ = keeper.certificates.read(name)
    found = [_earlier(keeper, name, revision, now) for revision in keeper.history.revisions(name)]
    if current is None:
        return tuple(found)
    # A run that was killed may have left what is current here too.
    others = [one for one in found if not _is(one.certificate, current)]
    facts = held(current)
    is_pinned = facts is not None and pinned(facts, now)
    return (Earlier(current.revision, current, current=True, pinned=is_pinned), *others)


def _is(one: Certificate | None, other: Certificate | None) -> bool:
    return one is not None and other is not None and one.chain.serial_number == other.chain.serial_number


def _earlier(keeper: Keeper, name: str, revision: int, now: datetime) -> Earlier:
    try:
        certificate = keeper.history.read(name, revision)
    except DocumentError as error:
        return Earlier(revision, None, problem=error.message)
    return Earlier(revision, certificate, problem=_problem(certificate, now))


def _problem(certificate: Certificate | None, now: datetime) -> str | None:
    if certificate is None:
        return "it is gone"
    facts = held(replace(certificate, pinned_since=now))
    if not in_date(facts, now):
        return "it is not in date"
    return None if facts is not None and pinned(facts, now) else "less than 1/10 of its lifetime is left"


def rollback(keeper: Keeper, name: str, revision: int | None = None) -> Certificate:
    """Make an earlier certificate current, as a new revision that is pinned; without `revision` the newest one that is
    older than the current one. What is current already is left alone.

    Raises SettingsError if there is none such, ChainError if it must not be served, StoreError, DocumentError.
    """
    if revision is None:
        # Chosen once: what a tick stores in between must not make the one current that was to be left.
        revision = _chosen(keeper, name, keeper.certificates.read(name)[0], None).revision
    new, said = persistently(name, lambda: _rolled_back(keeper, name, revision))
    about = new.chain.certificate_id
    survey.catch_up(keeper, {about: said} if about and said else None)
    return new


def release(keeper: Keeper, name: str) -> Certificate:
    """Take the pin away; what is due then is renewed by the next tick. Raises like `rollback`."""
    new = persistently(name, lambda: _released(keeper, name))
    survey.catch_up(keeper)
    return new


def listed(name: str, found: Sequence[Earlier]) -> dict[str, Any]:
    """The object that `history --json` prints and the function answers. No word of private keys."""
    return {"name": name, "history": [_fields(one) for one in found]}


def _fields(one: Earlier) -> dict[str, Any]:
    chain = one.certificate.chain if one.certificate else None
    return {
        "revision": one.revision,
        "serial_number": chain.serial_number if chain else None,
        "not_before": written(chain.validity.not_before) if chain else None,
        "not_after": written(chain.validity.not_after) if chain else None,
        "issuer": chain.issuer if chain else None,
        "current": one.current,
        "pinned": one.pinned,
        "problem": one.problem,
    }


def told(new: Certificate) -> dict[str, Any]:
    """What has been made current, and from when on it is renewed: the function's answer."""
    facts = held(new)
    assert facts is not None  # noqa: S101 - of a certificate there always are
    return {"serial_number": new.chain.serial_number, "revision": new.revision, "due": written(due_time(facts))}


def _rolled_back(keeper: Keeper, name: str, revision: int) -> tuple[Certificate, Information | None]:
    read = keeper.journal.read(name)
    current, version = keeper.certificates.read(name)
    believe(keeper, name, current, read)
    target = _chosen(keeper, name, current, revision)
    if read.entry.revocation is not None and read.entry.revocation.concerns(target):
        raise SettingsError(f"revision {target.revision} of {name} is to be revoked", "take another one")
    if _is(target, current):
        assert current is not None  # noqa: S101 - _is() says so
        return current if current.pinned_since else _written(keeper, read, current, version, current, pin=True), None
    said = _prove(keeper, target)
    new = _written(keeper, read, current, version, target, pin=True)
    keeper.history.remove(name, target.revision)  # it is the current one now
    keeper.history.prune(name)
    return new, said


def _released(keeper: Keeper, name: str) -> Certificate:
    read = keeper.journal.read(name)
    current, version = keeper.certificates.read(name)
    believe(keeper, name, current, read)
    if current is None or current.pinned_since is None:
        raise SettingsError(f"{name} is not pinned", f"look at it with: certkeeper history {name}")
    return _written(keeper, read, current, version, current, pin=False)


def _written(
    keeper: Keeper, read: Read, current: Certificate | None, version: str | None, target: Certificate, *, pin: bool
) -> Certificate:
    now, name = keeper.clock.now(), target.name
    # An order under way stays in the entry; a pin holds it up.
    entry = settled(read.entry, current.order_url if current else None, now)
    entry = replace(entry, claim=Claim(keeper.holder, keeper.term))
    if pin:
        entry = replace(entry, rolled_back_to=target.chain.serial_number)
    at = keeper.journal.write(name, entry, read.version)
    if current is not None and not _is(current, target):
        keeper.history.keep(current)
    new = replace(
        target,
        revision=next_revision(current or target, now),
        issued=current.issued if current and _same_set(current, target) else target.issued,
        pinned_since=now if pin else None,
    )
    keeper.certificates.write(new, version)
    try:
        keeper.journal.write(
            name, replace(at_rest(entry, now), claim=None, revision=new.revision, kept_in=keeper.kept_in), at
        )
    except Conflict:
        keeper.tell(name, "another run has taken it over meanwhile")
    return new


def _same_set(one: Certificate, other: Certificate) -> bool:
    return one.ca == other.ca and set(one.chain.identifiers) == set(other.chain.identifiers)


def _chosen(keeper: Keeper, name: str, current: Certificate | None, revision: int | None) -> Certificate:
    kept = history(keeper, name)
    look = f"see what there is: certkeeper history {name}"
    if revision is None:
        if current is not None and current.pinned_since is not None:
            raise SettingsError(f"{name} is pinned to an earlier certificate already", f"name a revision; {look}")
        older = [one for one in kept if not one.current and one.problem is None and _older(one, current)]
        if not older:
            raise SettingsError(f"there is no earlier certificate of {name} that could be made current", look)
        return _certificate(older[0])
    for one in kept:
        if one.revision == revision:
            if one.problem is not None:
                raise SettingsError(f"revision {revision} of {name} cannot be made current: {one.problem}", look)
            return _certificate(one)
    raise SettingsError(f"there is no revision {revision} of {name}", look)


def _certificate(one: Earlier) -> Certificate:
    assert one.certificate is not None  # noqa: S101 - one without a certificate has a problem
    return one.certificate


def _older(one: Earlier, current: Certificate | None) -> bool:
    before = _certificate(one).chain.validity.not_before
    return current is None or before < current.chain.validity.not_before


def _prove(keeper: Keeper, target: Certificate) -> Information | None:
    """What the CA says of it. Raises ChainError unless it is whole, and the CA does not want it replaced."""
    chain = keeper.chains.read(target.chain.pem)
    said = chain.serial_number, set(chain.identifiers), chain.spki_sha256
    if said != (target.chain.serial_number, set(target.chain.identifiers), target.request.spki_sha256):
        raise ChainError(f"revision {target.revision} is not what its document says", "take another one")
    if chain.certificate_id is None:
        return None
    now = keeper.clock.now()
    information = keeper.renewal_information.ask(target.ca, chain.certificate_id, now)
    facts = held(replace(target, pinned_since=now))
    if isinstance(information, Window) and facts and not pinned(replace(facts, information=information), now):
        raise ChainError(
            f"the CA wants revision {target.revision} replaced; it may have been revoked", "take another one"
        )
    return information
