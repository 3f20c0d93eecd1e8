"""The sandbox's CAs: real programs, asked by the acme library."""

from __future__ import annotations

import base64
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from acme import messages
from cryptography import x509

from certkeeper.sandbox import parts, processes
from certkeeper.sandbox.authority import Authority, Caddy, ExternalAccountBinding, Pebble, Profile, authority
from certkeeper.sandbox.processes import SandboxError
from certkeeper.sandbox.tls import TestTls
from tests.sandbox.acme_client import Client, TxtServer

pytestmark = pytest.mark.live

# Caddy is a second opinion where it is installed. The client here asks again only once when its nonce is refused, and
# that Pebble refuses some is tested with clients that have to stand it.
KINDS = [
    pytest.param(partial(Pebble, nonce_reject=0), id="Pebble"),
    *([pytest.param(Caddy, id="Caddy")] if parts.find("caddy") else []),
]


@pytest.fixture
def client(pebble: Pebble, tls: TestTls, dns: TxtServer) -> Iterator[Client]:
    client = Client(pebble.directory_url, tls, dns)
    client.register()
    yield client
    client.close()


def leaf_of(chain_pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(chain_pem.encode())


def lifetime(certificate: x509.Certificate) -> timedelta:
    return certificate.not_valid_after_utc - certificate.not_valid_before_utc


def fetched(url: str, tls: TestTls) -> bytes:
    handler = urllib.request.HTTPSHandler(context=tls.client_context())
    with urllib.request.build_opener(urllib.request.ProxyHandler({}), handler).open(url, timeout=5) as answer:
        body: bytes = answer.read()
    return body


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for temporary files that no other test uses at the same time."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_a_ca_proves_by_dns_01_over_our_name_server_and_its_chain_leads_to_its_root(
    kind: Callable[[str, TestTls], Authority], tls: TestTls, dns: TxtServer
) -> None:
    ca = kind(dns.address, tls)
    client = Client(ca.directory_url, tls, dns)
    try:
        client.register()
        chain = client.obtain("ca.example.com", "*.ca.example.com", profile="classic" if ca.has_profiles else None)
        leaf, intermediate = x509.load_pem_x509_certificates(chain.encode())[:2]
        root = leaf_of(ca.roots_pem())
        intermediates = x509.load_pem_x509_certificates(ca.intermediates_pem().encode())
    finally:
        client.close()
        ca.close()

    assert intermediate in intermediates
    leaf.verify_directly_issued_by(intermediate)
    intermediate.verify_directly_issued_by(root)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"ca.example.com", "*.ca.example.com"}
    assert timedelta(days=89) < lifetime(leaf) <= timedelta(days=90, minutes=5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_ca_answers_at_the_same_address_after_a_restart_and_has_forgotten_everything(
    kind: Callable[[str, TestTls], Authority], tls: TestTls, dns: TxtServer
) -> None:
    ca = kind(dns.address, tls)
    client = Client(ca.directory_url, tls, dns)
    try:
        client.register()
        root = ca.roots_pem()
        ca.restart()
        with pytest.raises(messages.Error, match="accountDoesNotExist"):
            client.obtain("ca.example.com", profile="classic" if ca.has_profiles else None)
        after = ca.roots_pem()
    finally:
        client.close()
        ca.close()

    assert after != root


@pytest.mark.parametrize("kind", KINDS)
def test_closing_a_ca_twice_leaves_no_process_and_no_folder(
    kind: Callable[[str, TestTls], Authority], tls: TestTls, dns: TxtServer, temporary: Path
) -> None:
    ca = kind(dns.address, tls)
    ca.close()
    ca.close()

    with pytest.raises(urllib.error.URLError, match="refused"):
        fetched(ca.directory_url, tls)
    assert list(temporary.iterdir()) == []


def test_each_profile_has_its_lifetime(client: Client) -> None:
    lifetimes = {
        profile: lifetime(leaf_of(client.obtain("a.example.com", profile=profile)))
        for profile in ("classic", "tlsserver", "shortlived")
    }

    second = timedelta(seconds=1)
    assert lifetimes == {
        "classic": timedelta(days=90) - second,
        "tlsserver": timedelta(days=45) - second,
        "shortlived": timedelta(hours=160) - second,
    }


def test_profiles_can_be_others(tls: TestTls) -> None:
    pebble = Pebble(None, tls, nonce_reject=0, always_valid=True, profiles={"minute": Profile(60, "one minute")})
    client = Client(pebble.directory_url, tls)
    try:
        client.register()
        leaf = leaf_of(client.obtain("a.example.com", profile="minute"))
    finally:
        client.close()
        pebble.close()

    assert client.directory.meta.profiles == {"minute": "one minute"}
    assert lifetime(leaf) == timedelta(seconds=59)


def test_a_wrong_record_fails_the_order(client: Client, dns: TxtServer) -> None:
    order = client.order("wrong.example.com")
    client.prove(order, text="wrong")

    with pytest.raises(AssertionError, match="invalid"):
        client.finish(order)


def test_renewal_information_can_be_anything(pebble: Pebble, client: Client) -> None:
    chain = client.obtain("a.example.com")

    pebble.set_renewal_info(chain, "not JSON at all")

    assert client.renewal_information(chain) == "not JSON at all"


def test_the_management_interface_tells_what_was_revoked(pebble: Pebble, client: Client) -> None:
    chain = client.obtain("a.example.com")
    serial = f"{leaf_of(chain).serial_number:x}"
    before = pebble.certificate_status(serial)

    client.revoke(chain)

    assert (before, pebble.certificate_status(serial)) == ("Valid", "Revoked")


def test_an_account_must_be_bound_where_the_ca_wants_it(tls: TestTls) -> None:
    mac_key = base64.urlsafe_b64encode(b"k" * 32).decode().rstrip("=")
    pebble = Pebble(None, tls, nonce_reject=0, external_account_binding=ExternalAccountBinding({"kid-1": mac_key}))
    unbound, bound = Client(pebble.directory_url, tls), Client(pebble.directory_url, tls)
    try:
        with pytest.raises(messages.Error, match="externalAccountRequired"):
            unbound.register()
        account_url = bound.register_bound("kid-1", mac_key)
    finally:
        unbound.close()
        bound.close()
        pebble.close()

    assert account_url.startswith("https://127.0.0.1:")


def test_the_ca_is_pebble_where_there_is_pebble(tls: TestTls, dns: TxtServer) -> None:
    ca = authority(dns.address, tls)
    ca.close()

    assert ca.name == "Pebble"
    assert ca.has_renewal_information


def test_without_pebble_and_caddy_it_says_what_to_install(tls: TestTls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "find", lambda _: None)

    with pytest.raises(SandboxError, match="neither Pebble nor Caddy") as missing:
        authority("127.0.0.1:53", tls)

    assert missing.value.hint is not None
    assert "scripts/get-pebble" in missing.value.hint


def test_a_port_that_somebody_takes_first_is_replaced_by_another(
    tls: TestTls, pebble: Pebble, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = int(pebble.directory_url.split(":")[2].split("/")[0])
    offered = iter([taken, processes.free_port(), processes.free_port(), processes.free_port()])
    monkeypatch.setattr("certkeeper.sandbox.authority.free_port", lambda: next(offered))

    second = Pebble(None, tls)
    second.close()

    assert second.directory_url != pebble.directory_url


def test_a_pebble_that_cannot_start_is_quoted_and_leaves_nothing(tls: TestTls, temporary: Path) -> None:
    with pytest.raises(SandboxError, match="pebble ended before answering") as ended:
        Pebble(None, tls, profiles={"classic": Profile(-1)})

    assert ended.value.hint is not None
    assert "its last words: " in ended.value.hint
    assert list(temporary.iterdir()) == []


def test_the_root_of_one_sandbox_means_nothing_in_another(pebble: Pebble) -> None:
    other = TestTls()
    try:
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            fetched(pebble.directory_url, other)
    finally:
        other.close()

    assert not other.bundle.exists()
