"""`renew --staging`: the tick itself, at the CA's staging directory, with everything real but the store.

The account at the staging CA is kept, so that it is made once. Certificates, journal and index lie in memory and are
forgotten. Killed by force, a rehearsal may so leave a TXT value behind in DNS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from threading import Lock
from typing import Any, cast

from certkeeper.core import accounts
from certkeeper.core.decision import Ask
from certkeeper.core.errors import Conflict
from certkeeper.core.model import Account, CertificateSpec, Outcome
from certkeeper.core.order import Order
from certkeeper.core.ports import CertificateAuthority, Records, Stored
from certkeeper.jobs.keeper import Keeper
from certkeeper.jobs.tick import Report, tick

REHEARSED = "rehearsed"
CAVEAT = "a CAA record that names the account of the real CA (accounturi) lets no rehearsal pass, which has another"


def rehearse(keeper: Keeper, specs: Sequence[CertificateSpec]) -> Report:
    """Order what `specs`, which name a staging CA, want, and keep none of it. The outcomes are rehearsed, failed or
    waiting. Raises nothing but programming errors.
    """
    apart = _Apart(keeper.records)
    authorities = {
        spec.ca: cast("CertificateAuthority", _Afresh(keeper.authorities[spec.ca]))
        for spec in specs
        if spec.ca in keeper.authorities
    }
    rehearsing = replace(keeper, records=apart, certificate_records=apart, authorities=authorities)
    report = tick(rehearsing, specs, Ask(by_name=True))
    outcomes = tuple(_as_rehearsed(rehearsing, one) for one in report.outcomes)
    return replace(report, outcomes=outcomes)


def _as_rehearsed(keeper: Keeper, outcome: Outcome) -> Outcome:
    plain = replace(outcome, serial_number=None, not_after=None, next_attempt=None)
    if outcome.outcome == "renewed":
        return replace(plain, outcome=REHEARSED, reason="the staging CA issued a certificate; nothing was saved")
    failure = keeper.journal.read(outcome.name).entry.failure
    if failure is not None and failure.kind == "caa":
        return replace(plain, hint=f"{outcome.hint}; {CAVEAT}" if outcome.hint else CAVEAT)
    return plain


@dataclass
class _Apart:
    """Records in memory, but for the accounts, which are the store's."""

    records: Records
    _kept: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    _writes: int = 0
    _lock: Lock = field(default_factory=Lock)

    def read(self, path: str) -> Stored | None:
        if path.startswith(accounts.PREFIX):
            return self.records.read(path)
        kept = self._kept.get(path)
        return Stored(*kept, timedelta(0)) if kept else None

    def write(self, path: str, data: bytes, version: str | None) -> str:
        if path.startswith(accounts.PREFIX):
            return self.records.write(path, data, version)
        with self._lock:
            before = self._kept.get(path)
            if (before[1] if before else None) != version:
                raise Conflict(f"{path} has changed")
            self._writes += 1
            self._kept[path] = data, str(self._writes)
            return str(self._writes)

    def delete(self, path: str) -> None:
        self._kept.pop(path, None)

    def list(self, prefix: str) -> dict[str, str]:
        return {path: version for path, (_, version) in self._kept.items() if path.startswith(prefix)}


class _Afresh:
    """A CA of which every order has to be proven: what an earlier rehearsal has proven is given back first."""

    def __init__(self, authority: CertificateAuthority) -> None:
        self._authority = authority

    def __getattr__(self, method: str) -> Any:
        return getattr(self._authority, method)

    def new_order(
        self, account: Account, identifiers: Sequence[str], profile: str | None, replaces: str | None = None
    ) -> Order:
        order = self._authority.new_order(account, identifiers, profile)
        looks = {url: self._authority.authorization(account, url) for url in order.authorization_urls}
        proven = [url for url, one in looks.items() if one.status == "valid"]
        for url in proven:
            self._authority.deactivate(account, url)
        return self._authority.new_order(account, identifiers, profile) if proven else order
