"""The contract of CertificateAuthority, held by the fake, and by the ACME adapter on Pebble and on Caddy's server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count

import pytest

from certkeeper.adapters.acme_authority import AcmeAuthority
from certkeeper.adapters.store_keys import StoreSealer
from certkeeper.adapters.system_clock import SystemClock
from certkeeper.adapters.x509 import Chains, PrivateKeys
from certkeeper.core.errors import AuthorityError
from certkeeper.core.model import Account, CertificateRequest, CertificateSpec, TxtRecord
from certkeeper.core.order import Authorization, Order
from certkeeper.core.ports import CertificateAuthority, ChainReader, KeySource
from certkeeper.core.zones import challenge_name
from certkeeper.sandbox.authority import Caddy, Pebble
from certkeeper.sandbox.tls import TestTls
from tests.fakes import CA, FakeAuthority, FakeChains, FakeClock, FakeDns, FakeKeys
from tests.sandbox.acme_client import TxtServer

numbers = count(1)


@dataclass
class Setting:
    """A CA, what it takes to satisfy it, and how to let time pass for it."""

    authority: CertificateAuthority
    directory: str
    keys: KeySource
    chains: ChainReader
    present: Callable[[str, str], None]
    wait: Callable[[], None]
    profile: str | None = None

    def account(self) -> Account:
        """A new one, registered."""
        account = Account(self.directory, self.keys.new_account_key(self.directory))
        return replace(account, url=self.authority.register(account))

    def unregistered(self) -> Account:
        return Account(self.directory, self.keys.new_account_key(self.directory))

    def order(self, account: Account, identifiers: Sequence[str]) -> Order:
        return self.authority.new_order(account, identifiers, self.profile)

    def request(self, identifiers: Sequence[str]) -> CertificateRequest:
        return self.keys.new_request(CertificateSpec("www", tuple(identifiers), self.directory))

    def proven(self, account: Account, order: Order) -> Order:
        """Prove everything; the order, ready."""
        for url in order.authorization_urls:
            one = self.authority.authorization(account, url)
            if one.status == "pending":
                self.prove(account, one)
        return self.until(lambda: self.authority.fetch_order(account, order.url), "ready")

    def prove(self, account: Account, one: Authorization) -> None:
        assert one.challenge is not None
        self.present(challenge_name(one.identifier), one.challenge.value)
        self.authority.answer(account, one.challenge)

    def issued(self, account: Account, identifiers: Sequence[str]) -> tuple[Order, CertificateRequest]:
        order, request = self.order(account, identifiers), self.request(identifiers)
        self.authority.finalize(account, self.proven(account, order), request.csr_pem)
        return self.until(lambda: self.authority.fetch_order(account, order.url), "valid"), request

    def until(self, look: Callable[[], Order], status: str) -> Order:
        for _ in range(200):
            order = look()
            if order.status == status:
                return order
            self.wait()
        raise AssertionError(f"the order stays {order.status}, and does not become {status}")


def faked(retries: bool) -> Setting:
    clock, dns = FakeClock(), FakeDns()
    return Setting(
        authority=FakeAuthority(clock, dns, retries=retries),
        directory=CA,
        keys=FakeKeys(),
        chains=FakeChains(),
        present=lambda name, value: dns.records.add(TxtRecord("Z1", name, value)),
        wait=lambda: clock.wait(1),
    )


def real(ca: Pebble | Caddy, tls: TestTls, dns: TxtServer) -> Setting:
    sealer = StoreSealer()
    return Setting(
        authority=AcmeAuthority(
            ca.directory_url,
            sealer,
            SystemClock(timedelta(hours=1)),
            ca_bundle=str(tls.bundle),
            contact="ops@example.com",
        ),
        directory=ca.directory_url,
        keys=PrivateKeys(sealer),
        chains=Chains(),
        present=lambda name, value: dns.records.setdefault(name, []).append(value),
        wait=lambda: time.sleep(0.05),
        profile="tlsserver" if ca.has_profiles else None,
    )


@pytest.fixture(scope="module", name="dns")
def _dns() -> Iterator[TxtServer]:
    dns = TxtServer()
    yield dns
    dns.close()


@pytest.fixture(scope="module", name="pebble")
def _pebble(tls: TestTls, dns: TxtServer) -> Iterator[Pebble]:
    pebble = Pebble(dns.address, tls, environment={"PEBBLE_ALTERNATE_ROOTS": "1"})
    yield pebble
    pebble.close()


@pytest.fixture(scope="module", name="caddy")
def _caddy(tls: TestTls, dns: TxtServer) -> Iterator[Caddy]:
    caddy = Caddy(dns.address, tls)
    yield caddy
    caddy.close()


FAKE, RETRYING_FAKE, PEBBLE, CADDY = (
    pytest.param("fake"),
    pytest.param("retrying fake"),
    pytest.param("pebble", marks=pytest.mark.live),
    pytest.param("caddy", marks=pytest.mark.live),
)


@pytest.fixture(name="setting", params=[FAKE, PEBBLE, CADDY])
def _setting(request: pytest.FixtureRequest) -> Setting:
    if "fake" in request.param:
        return faked(retries="retrying" in request.param)
    return real(*(request.getfixturevalue(one) for one in (request.param, "tls", "dns")))


MOST = pytest.mark.parametrize("setting", [FAKE, PEBBLE], indirect=True)
RETRYING = pytest.mark.parametrize("setting", [RETRYING_FAKE, CADDY], indirect=True)


@pytest.fixture(name="names")
def _names() -> list[str]:
    name = f"n{next(numbers)}.example.com"
    return [name, f"*.{name}"]


# Accounts.


def test_the_same_key_has_the_same_account_however_often_it_is_registered(setting: Setting) -> None:
    account = setting.account()

    assert setting.authority.register(account) == account.url
    assert setting.account().url != account.url


def test_an_account_is_found_by_its_key_and_none_is_made_by_looking(setting: Setting) -> None:
    account, stranger = setting.account(), setting.unregistered()

    assert setting.authority.find(replace(account, url=None)) == account.url
    assert setting.authority.find(stranger) is None
    assert setting.authority.find(stranger) is None


def test_an_account_that_the_ca_does_not_know_may_order_nothing(setting: Setting, names: list[str]) -> None:
    account = setting.account()
    assert account.url is not None

    with pytest.raises(AuthorityError):
        setting.order(replace(setting.unregistered(), url=account.url + "0"), names)


@MOST
def test_after_a_change_of_key_the_new_one_is_the_accounts_and_the_old_one_is_refused(
    setting: Setting, names: list[str]
) -> None:
    account, new_key = setting.account(), setting.keys.new_account_key(setting.directory)

    setting.authority.change_key(account, new_key)

    changed = replace(account, private_key=new_key)
    assert setting.authority.find(changed) == account.url
    assert setting.authority.find(account) is None
    assert setting.order(changed, names).status == "pending"
    with pytest.raises(AuthorityError) as caught:
        setting.order(account, names)
    assert caught.value.kind in ("malformed", "unauthorized")


# Orders.


def test_a_new_order_is_for_what_was_asked_and_can_be_fetched_again(setting: Setting, names: list[str]) -> None:
    account = setting.account()

    order = setting.order(account, names)

    assert order.status == "pending"
    assert set(order.identifiers) == set(names)
    assert len(order.authorization_urls) == len(names)
    again = setting.authority.fetch_order(account, order.url)
    assert (again.url, again.status, set(again.identifiers)) == (order.url, "pending", set(names))


def test_an_authorization_tells_its_identifier_and_its_challenge(setting: Setting, names: list[str]) -> None:
    account = setting.account()
    order = setting.order(account, names)

    found = [setting.authority.authorization(account, url) for url in order.authorization_urls]

    assert {one.identifier for one in found} == set(names)
    assert {one.status for one in found} == {"pending"}
    assert len({one.challenge.value for one in found if one.challenge}) == len(names)


def test_an_order_that_nobody_placed_is_refused(setting: Setting, names: list[str]) -> None:
    account = setting.account()
    order = setting.order(account, names)

    with pytest.raises(AuthorityError) as caught:
        setting.authority.fetch_order(account, order.url + "0")

    assert caught.value.status is not None and 400 <= caught.value.status < 500


def test_a_proven_order_is_issued_and_its_chain_is_for_our_private_key(setting: Setting, names: list[str]) -> None:
    account = setting.account()

    order, request = setting.issued(account, names)

    chain = setting.chains.read(setting.authority.download(account, order))
    assert set(chain.identifiers) == set(names)
    assert chain.spki_sha256 == request.spki_sha256
    assert setting.authority.download(account, order) == chain.pem


def test_a_certificate_can_be_fetched_by_its_url_alone(setting: Setting, names: list[str]) -> None:
    account = setting.account()
    order, _ = setting.issued(account, names)

    known = Order(order.url, "valid", order.identifiers, (), "", order.certificate_url)

    assert setting.authority.download(account, known) == setting.authority.download(account, order)


@pytest.mark.parametrize("setting", [pytest.param("pebble", marks=pytest.mark.live)], indirect=True)
def test_alternates_are_chains_for_the_same_leaf_to_other_roots(setting: Setting, names: list[str]) -> None:
    account = setting.account()
    order, _ = setting.issued(account, names)
    usual = setting.chains.read(setting.authority.download(account, order))

    (alternate,) = (setting.chains.read(pem) for pem in setting.authority.alternates(account, order))

    assert alternate.serial_number == usual.serial_number
    assert alternate.top_issuer != usual.top_issuer


def test_an_order_that_is_not_ready_cannot_be_finalized(setting: Setting, names: list[str]) -> None:
    account = setting.account()
    order = setting.order(account, names)

    with pytest.raises(AuthorityError):
        setting.authority.finalize(account, order, setting.request(names).csr_pem)

    assert setting.authority.fetch_order(account, order.url).status == "pending"


def test_finalizing_twice_changes_nothing(setting: Setting, names: list[str]) -> None:
    account = setting.account()
    order, request = setting.issued(account, names)
    chain = setting.authority.download(account, order)

    with suppress(AuthorityError):  # as RFC 8555 section 7.4 has it; Caddy answers with the order
        setting.authority.finalize(account, order, request.csr_pem)

    assert setting.authority.download(account, setting.authority.fetch_order(account, order.url)) == chain


def answered_without_a_record(setting: Setting, names: list[str]) -> tuple[Account, Order, Authorization]:
    """An order, with its first authorization as it was before the CA was told to look."""
    account = setting.account()
    order = setting.order(account, names)
    one = setting.authority.authorization(account, order.authorization_urls[0])
    assert one.challenge is not None
    setting.authority.answer(account, one.challenge)
    return account, order, one


@MOST
def test_a_challenge_without_its_record_makes_the_order_invalid_and_the_ca_says_why(
    setting: Setting, names: list[str]
) -> None:
    account, order, _ = answered_without_a_record(setting, names)

    setting.until(lambda: setting.authority.fetch_order(account, order.url), "invalid")
    failed = setting.authority.authorization(account, order.authorization_urls[0])
    assert failed.status == "invalid"
    assert failed.problem is not None and failed.problem.detail


@RETRYING
def test_a_challenge_without_its_record_may_stay_open_and_be_answered_again_when_the_record_is_there(
    setting: Setting, names: list[str]
) -> None:
    account, order, before = answered_without_a_record(setting, names)
    url = order.authorization_urls[0]

    unmet = setting.authority.authorization(account, url)
    assert before.unmet is None
    assert unmet.unmet is not None and unmet.unmet.detail
    setting.proven(account, order)
    assert setting.authority.authorization(account, url).status == "valid"


@MOST
def test_an_authorization_that_is_given_back_ends_its_order(setting: Setting, names: list[str]) -> None:
    account = setting.account()
    order = setting.order(account, names)

    setting.authority.deactivate(account, order.authorization_urls[0])

    assert setting.authority.authorization(account, order.authorization_urls[0]).status != "pending"
    assert setting.authority.fetch_order(account, order.url).status in ("invalid", "deactivated")


def test_the_issuer_domains_are_what_the_directory_says(setting: Setting) -> None:
    assert isinstance(setting.authority.issuer_domains(), tuple)
