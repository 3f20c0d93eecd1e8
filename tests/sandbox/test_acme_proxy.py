"""The proxy in front of a real Pebble, seen by the acme library and by plain requests."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator

import pytest
import requests
from acme import messages

from certkeeper.sandbox.acme_proxy import AcmeProxy
from certkeeper.sandbox.acme_traffic import AcmeRequest, AcmeResponse, Issued
from certkeeper.sandbox.authority import Pebble
from certkeeper.sandbox.calls import Call, Desk, Fault, Phase
from certkeeper.sandbox.tls import TestTls
from tests.sandbox.acme_client import Client, TxtServer, serial_of

pytestmark = pytest.mark.live


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def proxy(pebble: Pebble, desk: Desk, tls: TestTls) -> Iterator[AcmeProxy]:
    proxy = AcmeProxy(pebble.directory_url, desk, tls)
    yield proxy
    desk.stop()
    proxy.close()


@pytest.fixture
def client(proxy: AcmeProxy, tls: TestTls, dns: TxtServer) -> Iterator[Client]:
    client = Client(proxy.directory_url, tls, dns)
    client.register()
    yield client
    client.close()


@pytest.fixture
def session(tls: TestTls) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(tls.bundle)
        session.headers["User-Agent"] = "certkeeper-tests/1"
        yield session


def operations(desk: Desk) -> list[str]:
    return [call.operation for call in desk.calls("acme")]


def test_an_issuance_is_counted_call_by_call_by_the_names_of_rfc_8555(desk: Desk, client: Client) -> None:
    client.obtain("a.example.com", "*.a.example.com")

    counted = operations(desk)
    assert counted[:4] == ["directory", "newNonce", "newAccount", "newOrder"]
    assert counted[-1] == "certificate"
    assert set(counted) == {
        "directory", "newNonce", "newAccount", "newOrder", "authorization", "challenge", "finalize", "order",
        "certificate",
    }  # fmt: skip
    assert [counted.count(once) for once in ("newOrder", "challenge", "finalize", "certificate")] == [1, 2, 1, 1]


def test_the_client_only_ever_sees_the_proxys_address(proxy: AcmeProxy, pebble: Pebble, client: Client) -> None:
    order = client.order("a.example.com")

    seen = json.dumps([client.directory.to_json(), order.uri, order.body.to_json()])
    assert proxy.directory_url.removesuffix("/dir") in seen
    assert pebble.directory_url.removesuffix("/dir") not in seen


def test_renewal_information_revocation_and_the_account_have_their_names(desk: Desk, client: Client) -> None:
    chain = client.obtain("a.example.com")
    mark = desk.mark()

    client.acme.renewal_time(chain.encode())
    client.revoke(chain)
    client.post_as_get(client.account.uri)

    assert [call.operation for call in desk.calls("acme", since=mark)] == ["renewalInfo", "revokeCert", "account"]


def test_a_call_tells_which_identifiers_it_is_about_and_whose_account_made_it(desk: Desk, client: Client) -> None:
    client.obtain("a.example.com", "*.a.example.com")

    order, finalize = desk.calls(operation="newOrder")[0], desk.calls(operation="finalize")[0]
    both = (("identifier", "*.a.example.com"), ("identifier", "a.example.com"))
    assert order.context == finalize.context == both
    assert {call.context for call in desk.calls(operation="challenge")} == {both[:1], both[1:]}
    assert order.principal == client.account.uri
    assert finalize.resource.startswith("/finalize-order/")


def test_issued_names_every_certificate_with_its_serial_number(proxy: AcmeProxy, client: Client) -> None:
    first = client.obtain("b.example.com", "A.example.com")
    second = client.obtain("c.example.com")

    assert proxy.issued() == [
        Issued(("a.example.com", "b.example.com"), serial_of(first)),
        Issued(("c.example.com",), serial_of(second)),
    ]
    assert proxy.orders == 2


def test_a_certificate_that_nobody_downloaded_is_issued_all_the_same(
    proxy: AcmeProxy, desk: Desk, client: Client
) -> None:
    order = client.order("a.example.com")
    client.prove(order)

    with desk.fault(Fault("lose", operation="finalize", times=1)), pytest.raises(requests.ConnectionError):
        client.finish(order)

    assert proxy.issued() == [Issued(("a.example.com",), "")]
    lost = desk.calls(operation="finalize")[0]
    assert (lost.fault, lost.status) == ("lose", None)


def test_a_failed_order_is_no_certificate(proxy: AcmeProxy, client: Client) -> None:
    order = client.order("a.example.com")

    with pytest.raises(messages.Error, match="orderNotReady"):
        client.acme.begin_finalization(order)

    assert (proxy.orders, proxy.issued()) == (1, [])


def test_a_refused_call_gets_a_problem_document_and_a_fresh_nonce(desk: Desk, client: Client) -> None:
    fault = Fault(
        "refuse", service="acme", operation="newOrder", status=503, code="rateLimited", message="come back later",
        headers=(("Retry-After", "120"),),
    )  # fmt: skip

    with desk.fault(fault), pytest.raises(messages.Error, match="come back later") as refused:
        client.order("a.example.com")
    response = client.last_response

    assert refused.value.code == "rateLimited"
    assert (response.status_code, response.headers["Retry-After"]) == (503, "120")
    assert response.headers["Content-Type"] == "application/problem+json"
    assert len(response.headers["Replay-Nonce"]) > 10
    assert [(call.status, call.fault) for call in desk.calls(operation="newOrder")] == [(503, "refuse")]
    client.order("a.example.com")


def test_a_fault_can_be_about_one_identifier_only(desk: Desk, client: Client) -> None:
    with desk.fault(Fault("refuse", operation="newOrder", contains="bad.example.com", code="rejectedIdentifier")):
        client.order("good.example.com")
        with pytest.raises(messages.Error, match="rejectedIdentifier"):
            client.order("bad.example.com")


def test_a_dropped_call_never_reaches_the_ca_and_is_not_answered(proxy: AcmeProxy, desk: Desk, client: Client) -> None:
    with desk.fault(Fault("drop", operation="newOrder", times=1)), pytest.raises(requests.ConnectionError):
        client.order("a.example.com")

    assert proxy.orders == 0
    client.order("a.example.com")
    assert proxy.orders == 1


def test_a_call_that_hangs_ends_when_the_sandbox_stops(proxy: AcmeProxy, desk: Desk, session: requests.Session) -> None:
    stopping = threading.Timer(0.2, desk.stop)
    stopping.start()

    with desk.fault(Fault("hang", operation="directory", seconds=60)), pytest.raises(requests.ConnectionError):
        session.get(proxy.directory_url, timeout=10)

    stopping.join()
    assert [call.fault for call in desk.calls("acme")] == ["hang"]


def test_a_delayed_call_is_answered(proxy: AcmeProxy, desk: Desk, session: requests.Session) -> None:
    with desk.fault(Fault("delay", operation="directory", seconds=0.1)):
        answer = session.get(proxy.directory_url, timeout=10)

    assert answer.elapsed.total_seconds() >= 0.1
    assert "newOrder" in answer.json()


def test_a_refused_nonce_is_marked(desk: Desk, tls: TestTls) -> None:
    strict = Pebble(None, tls, nonce_reject=100)
    proxy = AcmeProxy(strict.directory_url, desk, tls)
    client = Client(proxy.directory_url, tls)
    try:
        with pytest.raises(messages.Error, match="badNonce"):
            client.register()
    finally:
        client.close()
        proxy.close()
        strict.close()

    marked = desk.calls(operation="newAccount")
    assert [(call.status, call.fault) for call in marked] == [(400, "badNonce")] * len(marked)
    assert marked


def test_the_sixth_certificate_for_one_set_of_identifiers_is_refused_in_lets_encrypts_own_words(
    proxy: AcmeProxy, client: Client
) -> None:
    proxy.exact_set_limit = 5
    proxy.spend("b.example.com", "a.example.com", times=4)
    client.obtain("a.example.com", "b.example.com")

    with pytest.raises(messages.Error) as refused:
        client.order("b.example.com", "a.example.com")

    assert refused.value.code == "rateLimited"
    assert str(refused.value.detail).startswith(
        "too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s, retry after "
    )
    assert str(refused.value.detail).endswith(
        " UTC: see https://letsencrypt.org/docs/rate-limits/#new-certificates-per-exact-set-of-identifiers"
    )
    assert client.last_response.status_code == 429
    assert int(client.last_response.headers["Retry-After"]) == pytest.approx(168 * 3600 / 5, abs=60)
    assert client.order("a.example.com").uri
    assert proxy.orders == 2


def test_a_renewal_is_exempt_from_the_limit_inside_its_suggested_window_and_only_there(
    proxy: AcmeProxy, pebble: Pebble, client: Client
) -> None:
    chain = client.obtain("a.example.com")
    while int(serial_of(chain), 16).bit_length() % 8 == 0:  # Pebble does not find those again, see Pebble's docstring
        chain = client.obtain("a.example.com")
    proxy.exact_set_limit = 1

    with pytest.raises(messages.Error, match="rateLimited"):
        client.order_replacing(chain, "a.example.com")
    window = {"suggestedWindow": {"start": "2020-01-01T00:00:00Z", "end": "2199-01-01T00:00:00Z"}}
    pebble.set_renewal_info(chain, json.dumps(window))
    answer = client.order_replacing(chain, "a.example.com")

    assert answer.status_code == 201
    assert answer.json()["replaces"]


def test_a_script_answers_in_the_cas_place_or_changes_what_it_answered(
    proxy: AcmeProxy, desk: Desk, client: Client
) -> None:
    def paused(_: AcmeRequest, __: Callable[[], AcmeResponse]) -> AcmeResponse:
        return AcmeResponse.of_problem(429, "rateLimited", "paused, see https://ca.invalid/unpause")

    def with_garbage(_: AcmeRequest, forward: Callable[[], AcmeResponse]) -> AcmeResponse:
        answer = forward()
        answer.body += b"garbage"
        return answer

    with proxy.script("newOrder", paused), pytest.raises(messages.Error, match="unpause"):
        client.order("a.example.com")
    with proxy.script("certificate", with_garbage):
        chain = client.obtain("a.example.com")

    assert chain.endswith("garbage")
    assert client.obtain("a.example.com").endswith("-----END CERTIFICATE-----\n")
    assert proxy.orders == 2
    assert [call.status for call in desk.calls(operation="newOrder")] == [429, 201, 201]


def test_a_script_sees_the_request_with_its_headers_and_what_its_jws_says(proxy: AcmeProxy, client: Client) -> None:
    seen: list[AcmeRequest] = []

    def look(request: AcmeRequest, forward: Callable[[], AcmeResponse]) -> AcmeResponse:
        seen.append(request)
        return forward()

    with proxy.script("", look):
        client.order("a.example.com", profile="shortlived")

    order = seen[0]
    assert order.payload["profile"] == "shortlived"
    assert order.payload["identifiers"] == [{"type": "dns", "value": "a.example.com"}]
    assert order.account_url == client.account.uri
    assert order.headers["User-Agent"] == "certkeeper-tests/1"


def test_a_mistake_in_a_script_is_shown_to_who_made_it(proxy: AcmeProxy, session: requests.Session) -> None:
    def mistaken(_: AcmeRequest, __: Callable[[], AcmeResponse]) -> AcmeResponse:
        raise ValueError("oops")

    with proxy.script("directory", mistaken):
        answer = session.get(proxy.directory_url, timeout=10)

    assert (answer.status_code, answer.text) == (500, "in the sandbox: ValueError('oops')\n")


def test_a_watcher_sees_a_call_before_the_ca_does_and_after_it(proxy: AcmeProxy, desk: Desk, client: Client) -> None:
    seen: list[tuple[Phase, int]] = []

    def watch(phase: Phase, call: Call) -> None:
        if call.operation == "newOrder":
            seen.append((phase, proxy.orders))

    with desk.watching(watch):
        client.order("a.example.com")

    assert seen == [("before", 0), ("after", 1)]


def test_the_proxy_goes_on_with_a_ca_that_was_restarted(dns: TxtServer, desk: Desk, tls: TestTls) -> None:
    pebble = Pebble(dns.address, tls, nonce_reject=0)
    proxy = AcmeProxy(pebble.directory_url, desk, tls)
    client = Client(proxy.directory_url, tls, dns)
    try:
        client.register()
        pebble.restart()
        with pytest.raises(messages.Error, match="accountDoesNotExist"):
            client.order("a.example.com")
        client.register()
        client.obtain("a.example.com")
    finally:
        client.close()
        proxy.close()
        pebble.close()

    assert len(proxy.issued()) == 1


def test_a_ca_that_is_gone_is_a_bad_gateway_until_it_is_back(
    desk: Desk, tls: TestTls, session: requests.Session
) -> None:
    pebble = Pebble(None, tls, nonce_reject=0)
    proxy = AcmeProxy(pebble.directory_url, desk, tls)
    pebble.stop()
    try:
        away = session.get(proxy.directory_url, timeout=10).status_code
        pebble.restart()
        back = session.get(proxy.directory_url, timeout=10)
        session.head(back.json()["newNonce"], timeout=10)
    finally:
        proxy.close()
        pebble.close()

    assert (away, back.status_code) == (502, 200)
    assert operations(desk) == ["directory", "directory", "newNonce"]


def test_an_order_that_pebble_overlooks_is_counted_and_no_other_trouble_is(
    proxy: AcmeProxy, tls: TestTls, dns: TxtServer
) -> None:
    """The CA is another proxy here, which says what Pebble says of one serial number in 256."""
    sentences = ["could not find order resulting in the given certificate serial number", "out of order"]

    def stumbling(_: AcmeRequest, __: Callable[[], AcmeResponse]) -> AcmeResponse:
        return AcmeResponse.of_problem(500, "serverInternal", sentences.pop(0))

    desk = Desk()
    behind = AcmeProxy(proxy.directory_url, desk, tls)
    client = Client(behind.directory_url, tls, dns)
    before = AcmeProxy.overlooked
    try:
        client.register()
        with proxy.script("newOrder", stumbling):
            counts = []
            for _ in range(2):
                with pytest.raises(messages.Error, match="serverInternal"):
                    client.order("a.example.com")
                counts.append(AcmeProxy.overlooked - before)
    finally:
        client.close()
        behind.close()
        desk.stop()
        AcmeProxy.overlooked = before  # none of Pebble's

    assert counts == [1, 1]


def test_many_clients_at_once_are_all_served(proxy: AcmeProxy, tls: TestTls, dns: TxtServer) -> None:
    chains: list[str] = []

    def run(name: str) -> None:
        client = Client(proxy.directory_url, tls, dns)
        try:
            client.register()
            chains.append(client.obtain(name))
        finally:
            client.close()

    threads = [threading.Thread(target=run, args=(f"n{number}.example.com",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(chains) == 8
    assert sorted(issued.serial for issued in proxy.issued()) == sorted(serial_of(chain) for chain in chains)


def test_closing_ends_idle_connections_and_is_done_twice_without_harm(
    pebble: Pebble, desk: Desk, tls: TestTls, session: requests.Session
) -> None:
    before = threading.active_count()
    proxy = AcmeProxy(pebble.directory_url, desk, tls)
    session.get(proxy.directory_url, timeout=10)

    proxy.close()
    proxy.close()

    assert threading.active_count() == before
    with pytest.raises(requests.ConnectionError):
        session.get(proxy.directory_url, timeout=10)
