"""What passes for a good pair, and what does not."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from certkeeper.client.proof import Proven, blocks, prove
from certkeeper.client.wire import trusting
from certkeeper.core.errors import ChainError
from tests.client.certificates import DAY, Pair, authority, issue, now


@pytest.fixture
def roots(tmp_path: Path) -> str:
    (tmp_path / "roots.pem").write_text(authority().root_pem)
    return str(tmp_path / "roots.pem")


def proven(pair: Pair, roots: str, *identifiers: str, chain: str = "", private_key: str = "") -> Proven:
    return prove(
        blocks(chain or pair.fullchain_pem, "CERTIFICATE"),
        private_key or pair.private_key_pem,
        list(identifiers),
        trusting(roots),
        roots + ".scratch",
    )


def test_a_good_pair_is_proven_with_openssls_own_words(roots: str) -> None:
    pair = issue("example.com", "*.example.com", serial_number=0xA0B)

    shown = proven(pair, roots, "example.com", "*.example.com", "WWW.example.com")

    assert (shown.serial_number, shown.root_known) == ("a0b", True)
    assert shown.not_after == pair.leaf.not_valid_after_utc.timestamp()


@pytest.mark.parametrize(
    "identifier",
    ["example.org", "a.b.example.com", "example.com.evil", ".example.com", "*.com", "xexample.com", "*", ""],
)
def test_a_name_that_is_not_covered_is_refused(roots: str, identifier: str) -> None:
    with pytest.raises(ChainError, match="cover"):
        proven(issue("example.com", "*.example.com"), roots, identifier)


@pytest.mark.parametrize("name", ["example.com", "www.example.com", "a.b.example.com", "example.org", "x.example.org"])
def test_coverage_agrees_with_openssls_host_name_check(name: str, roots: str, tmp_path: Path) -> None:
    pair = issue("example.com", "*.example.com", "x.example.org")
    (tmp_path / "pair.pem").write_text(pair.fullchain_pem + pair.private_key_pem)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(tmp_path / "pair.pem")
    client_context = ssl.create_default_context(cafile=roots)
    client_context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(there, back, server_side=True)
    client = client_context.wrap_bio(back, there, server_hostname=name)

    accepted = True
    for side in (client, server, client):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLCertVerificationError:
            accepted = False

    assert proven(pair, roots).covers(name) is accepted


def test_another_pairs_private_key_is_refused(roots: str) -> None:
    with pytest.raises(ChainError, match="does not belong"):
        proven(issue("example.com"), roots, private_key=issue("example.com").private_key_pem)


@pytest.mark.parametrize(("before", "after"), [(-9, -1), (1, 9)])
def test_a_pair_out_of_date_is_refused(roots: str, before: int, after: int) -> None:
    with pytest.raises(ChainError, match="does not verify"):
        proven(issue("a.test", not_before=now() + before * DAY, not_after=now() + after * DAY), roots)


def test_an_expired_pair_of_an_unknown_root_is_refused_too(roots: str) -> None:
    stale = issue("a.test", by=authority("Other"), not_before=now() - 9 * DAY, not_after=now() - DAY)

    with pytest.raises(ChainError):
        proven(stale, roots)


def test_a_leaf_for_clients_only_is_refused(roots: str) -> None:
    with pytest.raises(ChainError):
        proven(issue("a.test", usage=ExtendedKeyUsageOID.CLIENT_AUTH), roots)


def test_an_unknown_root_is_told_apart_from_a_broken_chain(roots: str) -> None:
    shown = proven(issue("a.test", by=authority("Other")), roots, "a.test")

    assert not shown.root_known


def test_a_chain_whose_links_do_not_hold_is_refused(roots: str) -> None:
    pair = issue("a.test")

    with pytest.raises(ChainError, match="hold together"):
        proven(
            pair,
            roots,
            chain=pair.fullchain_pem.split("-----END")[0]
            + "-----END CERTIFICATE-----\n"
            + authority("Other").intermediate_pem,
        )


@pytest.mark.parametrize(
    "chain",
    [
        "",
        "-----BEGIN CERTIFICATE-----\nAAAA\n",
        "-----BEGIN CERTIFICATE-----\nA;A\n-----END CERTIFICATE-----\n",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "-----BEGIN CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n",
    ],
)
def test_unclean_pem_is_refused(chain: str) -> None:
    with pytest.raises(ChainError):
        blocks(chain, "CERTIFICATE")


def test_a_chain_with_a_broken_mark_is_not_a_shorter_chain() -> None:
    leaf, intermediate = issue("a.test").fullchain_pem.split("-----BEGIN")[1:]

    with pytest.raises(ChainError, match="or another one"):
        blocks(f"-----BEGIN{leaf}-----BEGUN{intermediate}", "CERTIFICATE")


def test_words_between_the_blocks_are_dropped() -> None:
    pair = issue("a.test")

    cleaned = blocks("subject: a.test\r\n" + pair.fullchain_pem.replace("\n", "\r\n"), "CERTIFICATE")

    assert "".join(cleaned) == pair.fullchain_pem


def test_garbage_in_a_clean_block_is_refused_without_a_question_on_the_terminal(roots: str) -> None:
    for label in ("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"):
        with pytest.raises(ChainError, match="broken"):
            proven(issue("a.test"), roots, private_key=f"-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n")


@pytest.mark.parametrize("good", [True, False])
def test_without_memory_files_the_private_key_is_on_disk_for_the_proof_only(
    roots: str, good: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    load = ssl.SSLContext.load_cert_chain

    def watching(self: ssl.SSLContext, certfile: str, keyfile: None = None, password: str = "") -> None:
        modes.append(os.stat(certfile).st_mode & 0o777)
        assert certfile == roots + ".scratch"
        assert password, "OpenSSL would ask for one on the terminal"
        load(self, certfile, password=password)

    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", watching)
    pair = issue("a.test")

    if good:
        proven(pair, roots)
    else:
        with pytest.raises(ChainError):
            proven(pair, roots, private_key=issue("a.test").private_key_pem)

    assert modes == [0o600]
    assert not os.path.exists(roots + ".scratch")
