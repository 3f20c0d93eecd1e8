"""`certkeeper status --probe`: what servers really serve, beside what is stored."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from certkeeper import wiring
from certkeeper.adapters import tls_probe
from certkeeper.core.errors import SettingsError
from certkeeper.jobs.status import Status, Survey
from certkeeper.sandbox.tls import ServerFiles, TestTls

PEM_END = "END CERTIFICATE-----\n"
STORED = Status("www", ("example.com", "*.example.com"), "ok", "77")
OTHER = Status("api", ("api.example.com", "example.net"), "ok", "78")


@pytest.fixture(scope="module")
def files() -> Iterator[ServerFiles]:
    tls = TestTls()
    yield tls.server_files("example.com")
    tls.close()


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_probe, "TIMEOUT", 60.0)


@contextmanager
def serving(files: ServerFiles, before: Callable[[], object] = lambda: None) -> Iterator[str]:
    """The address of a TLS server that does something before each handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.fullchain, files.private_key)

    class Shaking(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            before()
            with context.wrap_socket(self.request, server_side=True) as tls:
                tls.recv(1)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Shaking) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def serial_number(files: ServerFiles) -> str:
    return f"{x509.load_pem_x509_certificates(files.fullchain.read_bytes())[0].serial_number:x}"


def probed(survey: Survey, address: str) -> Survey:
    return wiring.probed(survey, address, lambda name, doing: None)


def test_each_name_but_a_wildcard_is_asked_and_compared_with_what_is_stored(files: ServerFiles) -> None:
    stored = Status("www", STORED.identifiers, "ok", serial_number(files))

    with serving(files) as address:
        www, api = probed(Survey((stored, OTHER), None), address).statuses

    assert [(one.identifier, one.same, one.error) for one in www.served or ()] == [("example.com", True, None)]
    assert [(one.identifier, one.same) for one in api.served or ()] == [
        ("api.example.com", False),
        ("example.net", False),
    ]
    assert {one.serial_number for one in (*(www.served or ()), *(api.served or ()))} == {serial_number(files)}
    assert (www.bad, api.bad) == (False, True)


def test_a_server_that_does_not_answer_is_told_and_holds_up_no_other() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and does not listen
        (www,) = probed(Survey((STORED,), None), f"127.0.0.1:{silent.getsockname()[1]}").statuses

    assert [(one.same, one.error) for one in www.served or ()] == [(False, "cannot be asked: Connection refused")]


def test_what_is_served_and_is_no_certificate_as_rfc_5280_has_it_is_told(files: ServerFiles, tmp_path: Path) -> None:
    der = ssl.PEM_cert_to_DER_cert(files.fullchain.read_text().partition("END CERTIFICATE-----")[0] + PEM_END)
    version = der.index(bytes.fromhex("a003020102")) + 4
    (tmp_path / "chain.pem").write_text(ssl.DER_cert_to_PEM_cert(der[:version] + b"\x06" + der[version + 1 :]))

    with serving(replace(files, fullchain=tmp_path / "chain.pem")) as address:
        (www,) = probed(Survey((STORED,), None), address).statuses

    assert [(one.same, one.error) for one in www.served or ()] == [
        (False, "cannot be asked: what was served is no certificate")
    ]


def test_servers_are_asked_side_by_side(files: ServerFiles) -> None:
    together = threading.Barrier(3, timeout=60)

    with serving(files, together.wait) as address:
        found = probed(Survey((STORED, OTHER), None), address)

    assert {one.error for status in found.statuses for one in status.served or ()} == {None}


@pytest.mark.parametrize("address", ["nowhere", ":443", "example.com:https", "example.com:65536"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match="is not an address"):
        probed(Survey((STORED,), None), address)
