"""AcmeAuthority and a CA that takes connections and says nothing."""

from __future__ import annotations

import time
from datetime import timedelta
from socket import create_server

import pytest

from certkeeper.adapters.acme_authority import AcmeAuthority
from certkeeper.adapters.store_keys import StoreSealer
from certkeeper.adapters.system_clock import SystemClock
from certkeeper.core.errors import OutOfTime


def test_a_ca_is_waited_for_until_the_deadline_and_not_asked_after_it() -> None:
    with create_server(("127.0.0.1", 0)) as ca:
        clock = SystemClock(timedelta(seconds=1), margin=timedelta(0))
        authority = AcmeAuthority(f"http://127.0.0.1:{ca.getsockname()[1]}/directory", StoreSealer(), clock)
        begun = time.monotonic()

        with pytest.raises(OutOfTime):
            authority.issuer_domains()
        ca.accept()[0].close()
        with pytest.raises(OutOfTime):
            authority.issuer_domains()

        assert time.monotonic() - begun < 10
        ca.settimeout(0.2)
        with pytest.raises(TimeoutError):
            ca.accept()
