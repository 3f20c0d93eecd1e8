"""A Pebble of one test module, with what it trusts and whom it asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from certkeeper.sandbox.authority import Pebble
from certkeeper.sandbox.tls import TestTls
from tests.sandbox.acme_client import TxtServer


@pytest.fixture(scope="module")
def tls() -> Iterator[TestTls]:
    tls = TestTls()
    yield tls
    tls.close()


@pytest.fixture(scope="module")
def dns() -> Iterator[TxtServer]:
    dns = TxtServer()
    yield dns
    dns.close()


@pytest.fixture(scope="module")
def pebble(tls: TestTls, dns: TxtServer) -> Iterator[Pebble]:
    pebble = Pebble(dns.address, tls, nonce_reject=0)
    yield pebble
    pebble.close()
