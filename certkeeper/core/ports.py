"""What the jobs ask of the world. Each method says its promise and what it raises; contract suites hold every
implementation, fakes included, to it. None is a fact: it means "certainly not there".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from certkeeper.core.ari import Information
from certkeeper.core.caa import CaaRecord
from certkeeper.core.errors import CertkeeperError
from certkeeper.core.gauges import Notice
from certkeeper.core.model import (
    Account,
    CertificateRequest,
    CertificateSpec,
    Chain,
    HostedZone,
    Sealed,
    TxtRecord,
)
from certkeeper.core.order import Authorization, Challenge, Order

Result = TypeVar("Result")


@dataclass(frozen=True)
class Stored:
    """One stored object as read. `age` is measured by the store's own clock, so no clock of ours matters."""

    data: bytes
    version: str
    age: timedelta


class Records(Protocol):
    """Small objects under paths, each with a version that changes with every write."""

    def read(self, path: str) -> Stored | None:
        """The object; None only if there certainly is none. Raises StoreError if that cannot be told."""

    def write(self, path: str, data: bytes, version: str | None) -> str:
        """Write at exactly that version (None: nothing there yet) and return the new version.

        `data` must be unique to this write (it carries a random write_id): when the answer is lost or doubtful the
        object is read back, and our own bytes mean that it was done. Raises Conflict if somebody else certainly
        wrote first, StoreError if it cannot be told whether the write was done.
        """

    def delete(self, path: str) -> None:
        """Make sure that nothing is there. Raises StoreError."""

    def list(self, prefix: str) -> dict[str, str]:
        """Every path that begins with `prefix`, and its version. Raises StoreError; never a part of the list."""


class Sealer(Protocol):
    """Makes bytes unreadable for all but the readers of one encryption context."""

    def seal(self, clear: bytes, context: Mapping[str, str]) -> Sealed:
        """Raises SealingError."""

    def open(self, sealed: Sealed, context: Mapping[str, str]) -> bytes:
        """The clear bytes. Raises SealingError, for a wrong context too."""


class KeySource(Protocol):
    """Makes private keys. A clear one never leaves the call that makes it."""

    def new_request(self, spec: CertificateSpec) -> CertificateRequest:
        """A new private key of the spec's type, sealed under its name, and a CSR for its identifiers.

        Raises SealingError.
        """

    def new_account_key(self, directory: str) -> Sealed:
        """A new account key, sealed under the CA's directory URL. Raises SealingError."""


class ChainReader(Protocol):
    """Knows X.509."""

    def read(self, pem: str) -> Chain:
        """What a PEM chain says. Raises ChainError unless it holds certificates only, each issued by the next."""


class RenewalInformation(Protocol):
    """RFC 9773, apart from the rest of ACME: it needs no account."""

    def ask(self, directory: str, certificate_id: str, now: datetime) -> Information | None:
        """The CA's answer for one certificate; None if this CA gives no renewal information. Raises nothing: an
        answer that is none is a Silence, and the next run asks again.
        """


class CertificateAuthority(Protocol):
    """One ACME server (RFC 8555). Every method raises AuthorityError, which keeps what the server said, and
    OutOfTime: nothing is asked past the deadline of the run, nor waited for."""

    def register(self, account: Account) -> str:
        """newAccount (section 7.3): the account's URL; of the same account for the same key, however often called."""

    def find(self, account: Account) -> str | None:
        """The URL of the account of this key (section 7.3.1); None if the CA says that it knows none. Makes none."""

    def change_key(self, account: Account, new: Sealed) -> None:
        """Make `new` the account's key instead of the present one (section 7.3.5). Never repeated by itself."""

    def issuer_domains(self) -> tuple[str, ...]:
        """What the CA calls itself in CAA records (section 7.1.1, caaIdentities); none if it does not say."""

    def new_order(
        self, account: Account, identifiers: Sequence[str], profile: str | None, replaces: str | None = None
    ) -> Order:
        """newOrder (section 7.4) and nothing else: what it returns can be journaled before anything can fail.

        `replaces` names the predecessor (RFC 9773 section 5); left out where the CA gives no renewal information.
        """

    def fetch_order(self, account: Account, url: str) -> Order:
        """The order as it stands now."""

    def authorization(self, account: Account, url: str) -> Authorization:
        """One authorization (section 7.5), with its dns-01 challenge where offered."""

    def answer(self, account: Account, challenge: Challenge) -> None:
        """Tell the CA that the challenge is ready (section 7.5.1)."""

    def deactivate(self, account: Account, authorization_url: str) -> None:
        """Give an authorization back (section 7.5.2): no order is proven by it any more."""

    def finalize(self, account: Account, order: Order, csr_pem: str) -> Order:
        """Hand in the CSR (section 7.4). Never repeated by itself: it is not idempotent."""

    def revoke(self, account: Account, leaf_pem: str, reason: int) -> None:
        """revokeCert by the account's key (section 7.6), with a reason code of RFC 5280 section 5.3.1. One that is
        revoked already raises AuthorityError of the kind alreadyRevoked.
        """

    def download(self, account: Account, order: Order) -> str:
        """The PEM chain of a valid order (section 7.4.2); may be asked for any number of times."""

    def alternates(self, account: Account, order: Order) -> tuple[str, ...]:
        """The other PEM chains for the same certificate (section 7.4.2); none if the CA has only the one."""


@dataclass
class Presented:
    """What became of challenge records. `refused` is known on entry, `left` when the block has ended."""

    refused: dict[TxtRecord, CertkeeperError]
    left: set[TxtRecord]


class ChallengeRecords(Protocol):
    """TXT records in hosted zones."""

    def presenting(
        self, records: Sequence[TxtRecord], leftovers: Sequence[TxtRecord]
    ) -> AbstractContextManager[Presented]:
        """Have all the records stand while the block runs, visible at every name server of their zones.

        One change batch per zone; a refused record is in `refused` and holds up no other; foreign values stay.
        `leftovers`, and the records when the block ends, are taken away; what could not be is in `left`.
        Raises nothing of its own on the way out.
        """


class Zones(Protocol):
    def hosted_zones(self, role_arn: str = "") -> tuple[HostedZone, ...]:
        """All hosted zones, however many, of the account that a role leads to; of our own without one.

        Raises DnsError.
        """

    def name_servers(self, zone: HostedZone) -> frozenset[str]:
        """The name servers that serve this very zone, whoever asks them: lower case, no final dot. Raises DnsError."""


class DnsLookup(Protocol):
    def cname(self, name: str) -> str | None:
        """The target of the CNAME at a name, lower case; None if there certainly is none. Raises DnsError."""

    def caa(self, name: str) -> Sequence[CaaRecord]:
        """The CAA records at a name; none if there certainly are none. Raises DnsError."""

    def txt(self, name: str) -> Mapping[str, frozenset[str]]:
        """The TXT values at `name` as each name server of its zone tells them, by server; a server that does not
        answer is left out. Raises DnsError if the name servers cannot be found."""

    def delegation(self, zone: str) -> frozenset[str]:
        """The name servers that the world asks about a zone: lower case, no final dot. Raises DnsError."""


class RightsOfRoles(Protocol):
    """What other roles may do, by the policies of their account."""

    def may_write_txt(self, role_arn: str, zone: str, names: Sequence[str]) -> bool:
        """Whether a role may change TXT records at any of these names of a hosted zone. Raises RightsError."""


class Notices(Protocol):
    """How people are told."""

    def send(self, notice: Notice) -> None:
        """Hand the notice over. Raises NoticeError."""


class Clock(Protocol):
    def now(self) -> datetime:
        """Aware, UTC."""

    def wait(self, seconds: float) -> None:
        """Let time pass. Raises OutOfTime, at once, if the deadline would come first."""

    def remaining(self) -> timedelta:
        """Until the deadline."""


class SideBySide(Protocol):
    def __call__(self, tasks: Sequence[Callable[[], Result]]) -> list[Result]:
        """Run all, several at once, and return their results in order. A task must not raise."""
