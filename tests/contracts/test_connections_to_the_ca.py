"""How the ACME adapter uses its connections, which the port does not promise."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from certkeeper.adapters.acme_authority import AcmeAuthority
from certkeeper.adapters.store_keys import StoreSealer
from certkeeper.adapters.system_clock import SystemClock
from certkeeper.adapters.x509 import PrivateKeys
from certkeeper.core.errors import AuthorityError
from certkeeper.core.model import Account
from certkeeper.sandbox.acme_proxy import AcmeProxy
from certkeeper.sandbox.authority import Pebble
from certkeeper.sandbox.calls import Desk
from certkeeper.sandbox.processes import free_port
from certkeeper.sandbox.tls import TestTls

pytestmark = pytest.mark.live

AT_ONCE, TURNS = 4, 5


@pytest.fixture(scope="module", name="pebble")
def _pebble(tls: TestTls) -> Iterator[Pebble]:
    pebble = Pebble(None, tls, nonce_reject=0)
    yield pebble
    pebble.close()


def authority(directory: str, bundle: str | None) -> tuple[AcmeAuthority, Account]:
    sealer = StoreSealer()
    return AcmeAuthority(directory, sealer, SystemClock(timedelta(hours=1)), ca_bundle=bundle), Account(
        directory, PrivateKeys(sealer).new_account_key(directory)
    )


def test_there_are_no_more_connections_than_requests_at_once_whatever_threads_make_them(
    pebble: Pebble, tls: TestTls
) -> None:
    desk = Desk()
    proxy = AcmeProxy(pebble.directory_url, desk, tls)
    ca, account = authority(proxy.directory_url, str(tls.bundle))
    try:
        account = replace(account, url=ca.register(account))
        order = ca.new_order(account, ["www.example.com"], "tlsserver")
        for _ in range(TURNS):
            with ThreadPoolExecutor(AT_ONCE) as threads:
                list(threads.map(partial(ca.fetch_order, account), [order.url] * AT_ONCE))
    finally:
        proxy.close()

    assert len(desk.calls("acme", "order")) == AT_ONCE * TURNS
    # A connection begins with a nonce of its own, and lives on the CA's after that.
    assert len(desk.calls("acme", "newNonce")) <= AT_ONCE


def test_roots_that_the_environment_names_are_trusted_where_the_settings_name_none(
    pebble: Pebble, tls: TestTls, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusting, account = authority(pebble.directory_url, None)

    with pytest.raises(AuthorityError, match="is not trusted"):
        trusting.find(account)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls.bundle))
    trusting, account = authority(pebble.directory_url, None)

    assert trusting.find(account) is None


def test_a_proxy_that_the_environment_names_is_used_unless_the_ca_is_excepted_from_it(
    pebble: Pebble, tls: TestTls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    through, account = authority(pebble.directory_url, str(tls.bundle))
    with pytest.raises(AuthorityError, match="cannot be reached"):
        through.find(account)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    directly, account = authority(pebble.directory_url, str(tls.bundle))

    assert directly.find(account) is None
