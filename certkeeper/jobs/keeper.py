"""Everything a job needs, in one value; wiring fills it with adapters, tests with fakes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from certkeeper.core.accounts import Accounts
from certkeeper.core.budget import Limits
from certkeeper.core.certificates import Certificates
from certkeeper.core.decision import PERIOD
from certkeeper.core.history import History
from certkeeper.core.journal import STORE, Journal
from certkeeper.core.model import ZonePlace
from certkeeper.core.ports import (
    CertificateAuthority,
    ChainReader,
    ChallengeRecords,
    Clock,
    DnsLookup,
    KeySource,
    Records,
    RenewalInformation,
    SideBySide,
    Zones,
)


def _silent(name: str, doing: str) -> None:
    pass


@dataclass(frozen=True)
class Keeper:
    """The ports. `records` keeps journal, accounts and index; `certificate_records` may be another store.

    `holder` names this run in its claims, `term` is how long a claim outlives its last write, `period` the time
    between two ticks, `door` is "cli" or "function"; `kept_in` names the other store ("secretsmanager:PREFIX"), or is
    "store"; `zone_places` says where zones are that are not simply in our own account, `limits` are the CAs' limits
    where the settings name some, by directory. `tell` is told what is being done for which name.
    """

    records: Records
    certificate_records: Records
    authorities: Mapping[str, CertificateAuthority]
    keys: KeySource
    chains: ChainReader
    renewal_information: RenewalInformation
    challenge_records: ChallengeRecords
    zones: Zones
    lookup: DnsLookup
    clock: Clock
    side_by_side: SideBySide
    holder: str
    term: timedelta
    period: timedelta = PERIOD
    door: str = "cli"
    kept_in: str = STORE
    zone_places: tuple[ZonePlace, ...] = ()
    limits: Mapping[str, Limits] = field(default_factory=dict)
    tell: Callable[[str, str], None] = _silent

    @property
    def journal(self) -> Journal:
        return Journal(self.records)

    @property
    def certificates(self) -> Certificates:
        return Certificates(self.certificate_records)

    @property
    def history(self) -> History:
        return History(self.records)

    @property
    def accounts(self) -> Accounts:
        return Accounts(self.records)
