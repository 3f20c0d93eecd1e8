"""Small working stand-ins for every port, each put through the contract suite of its port.

`Fate` is what happens to a keeper from outside: it counts every call of every port and, at one of them, kills the
keeper or stops it while somebody else runs.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import inspect
import itertools
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any, ClassVar, TypeVar

from certkeeper.core.ari import Information
from certkeeper.core.caa import CaaRecord
from certkeeper.core.errors import (
    AuthorityError,
    ChainError,
    Conflict,
    DnsError,
    NoticeError,
    OutOfTime,
    SealingError,
    StoreError,
)
from certkeeper.core.gauges import Notice
from certkeeper.core.model import (
    Account,
    CertificateRequest,
    CertificateSpec,
    Chain,
    HostedZone,
    Sealed,
    TxtRecord,
    Validity,
)
from certkeeper.core.order import Authorization, Challenge, Order, Problem
from certkeeper.core.ports import Presented, Records, Stored
from certkeeper.jobs.keeper import Keeper

START = datetime(2026, 11, 23, 2, 20, tzinfo=UTC)
CA = "https://ca.test/directory"
SECOND_CA = "https://second.test/directory"
WWW = CertificateSpec("www", ("example.com", "*.example.com"), CA)
API = CertificateSpec("api", ("api.example.com",), CA)
Result = TypeVar("Result")


class FakeClock:
    """Time that passes only when waited for, in whole seconds as documents keep it. Runs out of patience, so that a
    loop that never ends fails a test."""

    def __init__(self, start: datetime = START, patience: timedelta = timedelta(minutes=14)) -> None:
        self.time = start
        self.patience = patience
        self.deadline = start + patience

    def now(self) -> datetime:
        return self.time

    def wait(self, seconds: float) -> None:
        passing = timedelta(seconds=max(ceil(seconds), 0.001))
        if self.time + passing > self.deadline:
            raise OutOfTime("no time left")
        self.time += passing

    def remaining(self) -> timedelta:
        return self.deadline - self.time

    def later(self, by: timedelta) -> None:
        self.time += by
        self.deadline = self.time + self.patience


@dataclass
class InMemoryRecords:
    """A store in a dictionary; `clock` is its own."""

    clock: FakeClock = field(default_factory=FakeClock)
    objects: dict[str, tuple[bytes, str, datetime]] = field(default_factory=dict)
    writes: int = 0

    def read(self, path: str) -> Stored | None:
        if path not in self.objects:
            return None
        data, version, at = self.objects[path]
        return Stored(data, version, self.clock.now() - at)

    def write(self, path: str, data: bytes, version: str | None) -> str:
        if (self.objects[path][1] if path in self.objects else None) != version:
            raise Conflict(f"{path} has changed")
        self.writes += 1
        new = f"v{self.writes}"
        self.objects[path] = (data, new, self.clock.now())
        return new

    def delete(self, path: str) -> None:
        self.objects.pop(path, None)

    def list(self, prefix: str) -> dict[str, str]:
        return {path: version for path, (_, version, _) in self.objects.items() if path.startswith(prefix)}


@dataclass
class CertificateReadFirst:
    """A store that has every certificate read before its journal: the wrong order, to show that it matters."""

    records: Records
    _early: dict[str, Stored | None] = field(default_factory=dict)

    def read(self, path: str) -> Stored | None:
        if path.startswith("journal/"):
            certificate = path.replace("journal/", "certificates/")
            self._early[certificate] = self.records.read(certificate)
        if path in self._early:
            return self._early.pop(path)
        return self.records.read(path)

    def write(self, path: str, data: bytes, version: str | None) -> str:
        return self.records.write(path, data, version)

    def delete(self, path: str) -> None:
        self.records.delete(path)

    def list(self, prefix: str) -> dict[str, str]:
        return self.records.list(prefix)


@dataclass
class FaultyRecords:
    """A store that cannot read or write some paths ("" stands for all), or reads something else there.

    Like S3 it looks at what stands there when a write is refused, and tells a conflict from a refusal.
    """

    records: Records
    unreadable: set[str] = field(default_factory=set)
    unwritable: set[str] = field(default_factory=set)
    instead: dict[str, bytes] = field(default_factory=dict)

    def read(self, path: str) -> Stored | None:
        self._refuse(path, self.unreadable, "read")
        stored = self.records.read(path)
        return replace(stored, data=self.instead[path]) if stored and path in self.instead else stored

    def write(self, path: str, data: bytes, version: str | None) -> str:
        if path in self.unwritable:
            stored = self.records.read(path)
            if (stored.version if stored else None) != version:
                raise Conflict(f"{path} has changed")
        self._refuse(path, self.unwritable, "write")
        return self.records.write(path, data, version)

    def delete(self, path: str) -> None:
        self._refuse(path, self.unwritable, "delete")
        self.records.delete(path)

    def list(self, prefix: str) -> dict[str, str]:
        self._refuse(prefix, self.unreadable, "list")
        return self.records.list(prefix)

    def _refuse(self, path: str, refused: set[str], verb: str) -> None:
        if path in refused or "" in refused:
            raise StoreError(f"the store could not {verb} {path}", "wait for the store")


@dataclass
class FakeSealer:
    """Not secret, but honest about contexts."""

    arn: str = "arn:aws:kms:eu-west-1:1:key/k"

    def seal(self, clear: bytes, context: Mapping[str, str]) -> Sealed:
        return Sealed("kms", json.dumps(dict(context)).encode() + b"\0" + clear[::-1], self.arn)

    def open(self, sealed: Sealed, context: Mapping[str, str]) -> bytes:
        said, _, turned = sealed.blob.partition(b"\0")
        if json.loads(said) != dict(context):
            raise SealingError("the private key cannot be opened under this context")
        return turned[::-1]


@dataclass
class FakeKeys:
    """A private key is a number."""

    made: int = 0
    account_keys: int = 0
    sealer: FakeSealer = field(default_factory=FakeSealer)

    def new_request(self, spec: CertificateSpec) -> CertificateRequest:
        self.made += 1
        clear = f"private key {self.made} {spec.key_type}".encode()
        csr = json.dumps({"identifiers": spec.identifiers, "spki": _spki(clear)})
        return CertificateRequest(csr, _spki(clear), self.sealer.seal(clear, {"certkeeper-name": spec.name}))

    def new_account_key(self, directory: str) -> Sealed:
        self.account_keys += 1
        return self.sealer.seal(f"account key {self.account_keys}".encode(), {"certkeeper-account": directory})


def _spki(clear: bytes) -> str:
    return hashlib.sha256(clear).hexdigest()


class FakeChains:
    def read(self, pem: str) -> Chain:
        try:
            said = json.loads(base64.b64decode(pem.split("-----")[2]))
        except (ValueError, IndexError):
            raise ChainError("not a chain") from None
        return Chain(
            pem=pem,
            identifiers=tuple(said["identifiers"]),
            serial_number=said["serial_number"],
            spki_sha256=said["spki"],
            validity=Validity(datetime.fromisoformat(said["from"]), datetime.fromisoformat(said["to"])),
            issuer="Fake CA",
            certificate_id=f"fake.{said['serial_number']}",
            top_issuer=said.get("top", "Fake Root"),
        )


@dataclass
class FakeDns:
    """Who serves what: zone id to name to values. The truth that the CA looks at."""

    records: set[TxtRecord] = field(default_factory=set)
    refuse: set[str] = field(default_factory=set)
    batches: int = 0
    stuck: bool = False

    def present(self, records: Sequence[TxtRecord], leftovers: Sequence[TxtRecord]) -> dict[TxtRecord, DnsError]:
        self.batches += 1
        self.records -= set(leftovers)
        refused = {one: DnsError(f"{one.name} is refused") for one in records if one.name in self.refuse}
        self.records |= set(records) - set(refused)
        return refused

    def take_away(self, records: Sequence[TxtRecord]) -> set[TxtRecord]:
        if self.stuck:
            return set(records)
        self.records -= set(records)
        return set()


@dataclass
class FakeChallengeRecords:
    dns: FakeDns

    @contextmanager
    def presenting(self, records: Sequence[TxtRecord], leftovers: Sequence[TxtRecord]) -> Iterator[Presented]:
        presented = Presented(dict(self.dns.present(records, leftovers)), left={*records, *leftovers})
        try:
            yield presented
        finally:
            presented.left = self.dns.take_away([*records, *leftovers])


@dataclass
class FakeNotices:
    """People who read everything; `refuse` is what happens instead."""

    sent: list[Notice] = field(default_factory=list)
    refuse: NoticeError | None = None

    def send(self, notice: Notice) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.sent.append(notice)


@dataclass
class FakeZones:
    zones: tuple[HostedZone, ...] = (HostedZone("Z1", "example.com"), HostedZone("Z2", "example.net"))
    asked: int = 0
    servers: dict[HostedZone, frozenset[str]] = field(default_factory=dict)

    def hosted_zones(self, role_arn: str = "") -> tuple[HostedZone, ...]:
        self.asked += 1
        return tuple(zone for zone in self.zones if zone.role_arn == role_arn)

    def name_servers(self, zone: HostedZone) -> frozenset[str]:
        return self.servers.get(zone, frozenset())


@dataclass
class FakeLookup:
    cnames: dict[str, str] = field(default_factory=dict)
    delegations: dict[str, frozenset[str]] = field(default_factory=dict)
    caas: dict[str, tuple[CaaRecord, ...]] = field(default_factory=dict)

    def cname(self, name: str) -> str | None:
        return self.cnames.get(name)

    def caa(self, name: str) -> Sequence[CaaRecord]:
        return self.caas.get(name, ())

    def txt(self, name: str) -> Mapping[str, frozenset[str]]:
        return {}

    def delegation(self, zone: str) -> frozenset[str]:
        return self.delegations.get(zone, frozenset())


@dataclass
class FakeRenewalInformation:
    """Says what `answers` holds for a certificate id, and nothing for others; counts how often it was asked."""

    answers: dict[str, Information] = field(default_factory=dict)
    asked: int = 0

    def ask(self, directory: str, certificate_id: str, now: datetime) -> Information | None:
        self.asked += 1
        return self.answers.get(certificate_id)


@dataclass
class FakeAuthority:
    """A CA. `issued` counts certificates by identifier set. With `reuse_orders` an order that is pending or ready is
    handed out again to the same account for the same names, as Boulder does. With `retries` a challenge whose record
    is not found stays open, for another answer, as with step-ca."""

    clock: FakeClock
    dns: FakeDns
    reuse_orders: bool = False
    retries: bool = False
    lifetime: timedelta = timedelta(days=90)
    processing: int = 1
    accounts: dict[bytes, str] = field(default_factory=dict)
    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    proven: set[str] = field(default_factory=set)
    unmet: set[str] = field(default_factory=set)
    """The challenges that it has looked at in vain, and will look at again."""
    issued: list[frozenset[str]] = field(default_factory=list)
    refuse: list[AuthorityError] = field(default_factory=list)
    replaced: set[str] = field(default_factory=set)
    deactivated: set[str] = field(default_factory=set)
    """The URLs of accounts that it does not accept any more."""
    revoked: dict[str, int] = field(default_factory=dict)
    new_orders: int = 0
    base: str = "https://ca.test"
    issuers: tuple[str, ...] = ()
    alternate_tops: tuple[str, ...] = ()
    """The common names of the roots of its other chains."""
    trouble: AuthorityError | None = None
    """What it answers to everything, on a bad day."""
    forgotten: bool = False
    """Whether orders are not found any more, as with an expired one; its certificate still is."""

    def register(self, account: Account) -> str:
        self._up()
        self._active(account)
        return self.accounts.setdefault(account.private_key.blob, f"{self.base}/account/{len(self.accounts) + 1}")

    def new_order(
        self, account: Account, identifiers: Sequence[str], profile: str | None, replaces: str | None = None
    ) -> Order:
        self._known(account)
        if self.refuse:
            raise self.refuse.pop(0)
        if replaces in self.replaced:
            raise AuthorityError("replaced already", kind="alreadyReplaced", status=409)
        names = tuple(sorted(identifiers))
        if self.reuse_orders:
            for url, order in self.orders.items():
                if order["names"] == names and self._status(order) in ("pending", "ready"):
                    return self._shown(url)
        self.new_orders += 1
        if replaces is not None:
            self.replaced.add(replaces)
        url = f"{self.base}/order/{len(self.orders) + 1}"
        self.orders[url] = {"names": names, "chain": None, "left": None, "dead": None}
        return self._shown(url)

    def fetch_order(self, account: Account, url: str) -> Order:
        self._known(account)
        order = self.orders.get(url)
        if order is None or self.forgotten:
            raise AuthorityError("no such order", kind="malformed", status=404)
        if order["left"]:
            order["left"] -= 1
        return self._shown(url)

    def authorization(self, account: Account, url: str) -> Authorization:
        self._known(account)
        order_url, _, identifier = url.partition("#")
        order = self.orders[order_url]
        status = "valid" if identifier in self.proven else "pending"
        problem = None
        if order["dead"] == identifier:
            status, problem = "invalid", Problem("incorrectResponse", "no such TXT record", identifier)
        value = f"{len(order_url)}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
        challenge = Challenge(url + "#dns-01", value, status)
        if status == "pending" and challenge.url in self.unmet:
            problem = Problem("rejectedIdentifier", "another TXT record", identifier)
        return Authorization(url, identifier, status, challenge, problem)

    def answer(self, account: Account, challenge: Challenge) -> None:
        self._up()
        order_url, identifier, _ = challenge.url.split("#")
        if identifier in self.proven:
            raise AuthorityError("the challenge is not pending", kind="malformed", status=400)
        name = "_acme-challenge." + identifier.removeprefix("*.")
        if any(record.name == name and record.value == challenge.value for record in self.dns.records):
            self.proven.add(identifier)
        elif self.retries:
            self.unmet.add(challenge.url)
        else:
            self.orders[order_url]["dead"] = identifier

    def deactivate(self, account: Account, authorization_url: str) -> None:
        self._known(account)
        order_url, _, identifier = authorization_url.partition("#")
        self.proven.discard(identifier)
        self.orders[order_url]["dead"] = identifier

    def finalize(self, account: Account, order: Order, csr_pem: str) -> Order:
        self._up()
        kept = self.orders[order.url]
        if self._status(kept) != "ready":
            raise AuthorityError("the order is not ready", kind="orderNotReady", status=403)
        said = json.loads(csr_pem)
        self.issued.append(frozenset(kept["names"]))
        now = self.clock.now().replace(microsecond=0)  # X.509 knows whole seconds only
        facts = {
            "identifiers": sorted(kept["names"]),
            "serial_number": f"{len(self.issued):04x}",
            "spki": said["spki"],
            "from": now.isoformat(),
            "to": (now + self.lifetime).isoformat(),
        }
        kept["chain"] = fake_pem(facts)
        kept["left"] = self.processing
        return self._shown(order.url)

    def download(self, account: Account, order: Order) -> str:
        self._up()
        chain: str = self.orders[order.url]["chain"]
        return chain

    def alternates(self, account: Account, order: Order) -> tuple[str, ...]:
        facts = json.loads(base64.b64decode(self.download(account, order).split("-----")[2]))
        return tuple(fake_pem({**facts, "top": top}) for top in self.alternate_tops)

    def issuer_domains(self) -> tuple[str, ...]:
        self._up()
        return self.issuers

    def _up(self) -> None:
        if self.trouble is not None:
            raise self.trouble

    def find(self, account: Account) -> str | None:
        self._up()
        self._active(account)
        return self.accounts.get(account.private_key.blob)

    def change_key(self, account: Account, new: Sealed) -> None:
        self._known(account)
        if new.blob in self.accounts:
            raise AuthorityError("this key has an account", kind="conflict", status=409)
        self.accounts[new.blob] = self.accounts.pop(account.private_key.blob)

    def revoke(self, account: Account, leaf_pem: str, reason: int) -> None:
        self._known(account)
        serial_number = FakeChains().read(leaf_pem).serial_number
        if serial_number in self.revoked:
            raise AuthorityError("it is revoked already", kind="alreadyRevoked", status=400)
        self.revoked[serial_number] = reason

    def _known(self, account: Account) -> None:
        self._up()
        if account.url not in self.accounts.values():
            raise AuthorityError("no such account", kind="accountDoesNotExist", status=400)
        self._active(account)
        if self.accounts.get(account.private_key.blob) != account.url:
            raise AuthorityError("the signature is not the account's", kind="malformed", status=400)

    def _active(self, account: Account) -> None:
        if self.accounts.get(account.private_key.blob) in self.deactivated:
            raise AuthorityError("the account has been deactivated", kind="unauthorized", status=403)

    def _status(self, order: dict[str, Any]) -> str:
        if order["dead"]:
            return "invalid"
        if order["chain"] is not None:
            return "processing" if order["left"] else "valid"
        return "ready" if set(order["names"]) <= self.proven else "pending"

    def _shown(self, url: str) -> Order:
        order = self.orders[url]
        status = self._status(order)
        return Order(
            url=url,
            status=status,
            identifiers=order["names"],
            authorization_urls=tuple(f"{url}#{name}" for name in order["names"]),
            finalize_url=url + "/finalize",
            certificate_url=url + "/certificate" if status == "valid" else None,
        )


def fake_pem(facts: dict[str, Any]) -> str:
    text = base64.b64encode(json.dumps(facts).encode()).decode()
    return f"-----BEGIN CERTIFICATE-----{text}-----END CERTIFICATE-----\n".replace("-----" + text, "-----\n" + text)


@dataclass
class World:
    """Everything outside a keeper, which outlives it."""

    clock: FakeClock = field(default_factory=FakeClock)
    reuse_orders: bool = False

    def __post_init__(self) -> None:
        self.records = InMemoryRecords(self.clock)
        self.dns = FakeDns()
        self.authority = FakeAuthority(self.clock, self.dns, self.reuse_orders)
        self.second = FakeAuthority(self.clock, self.dns, self.reuse_orders, base="https://second.test")
        self.keys = FakeKeys()
        self.zones = FakeZones()
        self.lookup = FakeLookup()
        self.information = FakeRenewalInformation()
        self.holders = 0

    def keeper(self, fate: Fate | None = None, certificate_first: bool = False, seed: int = 0) -> Keeper:
        self.holders += 1

        def fated(port: Result) -> Result:
            return fate.over(port) if fate else port

        records: Records = fated(self.records)
        if certificate_first:
            records = CertificateReadFirst(records)
        return Keeper(
            records=records,
            certificate_records=records,
            authorities={CA: fated(self.authority), SECOND_CA: fated(self.second)},
            keys=fated(self.keys),
            chains=FakeChains(),
            renewal_information=fated(self.information),
            challenge_records=FakeChallengeRecords(fated(self.dns)),
            zones=fated(self.zones),
            lookup=fated(self.lookup),
            clock=self.clock,
            side_by_side=Seeded(seed),
            holder=f"holder {self.holders}",
            term=timedelta(minutes=15),
        )


@dataclass
class Seeded:
    """Side by side, as one thread sees it: in an order that the seed decides."""

    seed: int

    def __call__(self, tasks: Sequence[Callable[[], Result]]) -> list[Result]:
        order = list(range(len(tasks)))
        random.Random(self.seed).shuffle(order)
        done = {place: tasks[place]() for place in order}
        return [done[place] for place in range(len(tasks))]


class Altered:
    """A port with some of its methods replaced."""

    def __init__(self, port: object, **methods: Callable[..., Any]) -> None:
        self._port = port
        self._methods = methods

    def __getattr__(self, method: str) -> Any:
        return self._methods.get(method) or getattr(self._port, method)


class Untouchable:
    """A port that nobody may use."""

    def __getattr__(self, method: str) -> Any:
        raise AssertionError(f"{method} was called")


class Killed(BaseException):
    """SIGKILL, as seen from inside: no handler may catch it, and afterwards nothing happens any more."""


class Fate:
    """Lets something happen before or after call number `moment` of any port."""

    made: ClassVar[list[Fate]] = []

    def __init__(self, moment: int, after: bool, happening: Callable[[], None]) -> None:
        self.made.append(self)
        self.moment = moment
        self.after = after
        self.happening = happening
        self.calls = 0
        self.dead = False

    @property
    def came(self) -> bool:
        return self.calls >= self.moment

    def over(self, port: Result) -> Result:
        wrapped: Any = _Fated(port, self)
        return wrapped  # type: ignore[no-any-return] # it passes for any port

    def call(self, method: Callable[..., Result], *args: Any) -> Result:
        if self.dead:
            raise Killed
        self.calls += 1
        ours = self.calls == self.moment
        if ours and not self.after:
            self._strike()
        result = method(*args)
        if ours and self.after:
            self._strike()
        return result

    def _strike(self) -> None:
        try:
            self.happening()
        except Killed:
            self.dead = True
            raise


class _Fated:
    def __init__(self, port: object, fate: Fate) -> None:
        self._port = port
        self._fate = fate

    def __getattr__(self, method: str) -> Callable[..., Any]:
        real = getattr(self._port, method)
        return lambda *args: self._fate.call(real, *args)


def killed() -> None:
    raise Killed


def every_moment(test: Callable[..., None]) -> Callable[..., None]:
    """Runs a test with each `moment` from 1 on (with `after` both ways), up to the first that its `Fate` does not see.

    All are one test to pytest: to keep hundreds apart would take as long as to run them.
    """
    signature = inspect.signature(test)
    given = [one for name, one in signature.parameters.items() if name not in ("moment", "after")]
    both: list[dict[str, bool]] = [{"after": False}, {"after": True}] if "after" in signature.parameters else [{}]

    @functools.wraps(test)
    def at_every_moment(**arguments: Any) -> None:
        for moment in itertools.count(1):
            Fate.made.clear()
            for how in both:
                try:
                    test(moment=moment, **how, **arguments)
                except BaseException as error:
                    error.add_note(f"moment {moment}, {how}")
                    raise
            if not any(fate.came for fate in Fate.made if fate.moment == moment):
                break
        assert 4 < moment < 100, "the moments do not cover what is tried"

    vars(at_every_moment)["__signature__"] = signature.replace(parameters=given)
    return at_every_moment
