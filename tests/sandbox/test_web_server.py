"""nginx and its stand-in, serving what lies under live/, asked by a client that verifies."""

from __future__ import annotations

import shlex
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from cryptography import x509

from certkeeper.sandbox import parts
from certkeeper.sandbox.processes import SandboxError
from certkeeper.sandbox.web_server import Nginx, PythonTlsServer, Servers, WebServer, served_serial, web_server

pytestmark = pytest.mark.live

Kind = Callable[[Path, Servers], WebServer]


@pytest.fixture(scope="module")
def root() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def live(tmp_path: Path, root: trustme.CA) -> Path:
    install(root, tmp_path / "live", "www", "www.example.com")
    return tmp_path / "live"


@pytest.fixture(params=[Nginx, PythonTlsServer])
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


@pytest.fixture
def server(kind: Kind, live: Path) -> Iterator[WebServer]:
    server = kind(live, {"www": ["www.example.com"]})
    yield server
    server.close()


def install(root: trustme.CA, live: Path, name: str, *names: str) -> str:
    """Put a new pair under live/name; its serial number."""
    certificate = root.issue_cert(*names)
    (live / name).mkdir(parents=True, exist_ok=True)
    (live / name / "fullchain.pem").write_bytes(certificate.cert_chain_pems[0].bytes())
    (live / name / "privkey.pem").write_bytes(certificate.private_key_pem.bytes())
    return f"{x509.load_pem_x509_certificate(certificate.cert_chain_pems[0].bytes()).serial_number:x}"


def pem(root: trustme.CA) -> str:
    return root.cert_pem.bytes().decode()


def run(command: str) -> int:
    return subprocess.run(shlex.split(command), capture_output=True, timeout=30, check=False).returncode


def test_it_serves_what_lies_under_live(server: WebServer, live: Path, root: trustme.CA) -> None:
    serial = install(root, live, "www", "www.example.com")

    server.start()

    assert server.running
    assert served_serial(server.port, "www.example.com", pem(root)) == serial


def test_a_newer_certificate_is_served_after_the_reload_and_not_before(
    server: WebServer, live: Path, root: trustme.CA
) -> None:
    server.start()
    old = served_serial(server.port, "www.example.com", pem(root))
    new = install(root, live, "www", "www.example.com")
    before = served_serial(server.port, "www.example.com", pem(root))

    server.reload()

    assert before == old
    assert served_serial(server.port, "www.example.com", pem(root)) == new


def test_the_reload_command_is_for_anybody_to_run(server: WebServer, live: Path, root: trustme.CA) -> None:
    server.start()
    new = install(root, live, "www", "www.example.com")

    assert run(server.test_command) == 0
    assert run(server.reload_command) == 0
    server.reload()  # which waits

    assert served_serial(server.port, "www.example.com", pem(root)) == new


def test_a_broken_pair_fails_the_test_command_and_the_reload_and_the_old_one_is_served_on(
    server: WebServer, live: Path, root: trustme.CA
) -> None:
    server.start()
    old = served_serial(server.port, "www.example.com", pem(root))
    (live / "www" / "privkey.pem").write_text("not a private key")

    assert run(server.test_command) != 0
    with pytest.raises(SandboxError, match="refused"):
        server.reload()

    assert served_serial(server.port, "www.example.com", pem(root)) == old


def test_each_name_gets_its_own_certificate(kind: Kind, live: Path, root: trustme.CA) -> None:
    www = install(root, live, "www", "www.example.com", "example.com")
    wild = install(root, live, "wild", "*.wild.example.com")
    server = kind(live, {"www": ["www.example.com", "example.com"], "wild": ["*.wild.example.com"]})
    try:
        server.start()
        serials = [
            served_serial(server.port, name, pem(root))
            for name in ("www.example.com", "example.com", "any.wild.example.com")
        ]
    finally:
        server.close()

    assert serials == [www, www, wild]


def test_a_client_refuses_a_wrong_name_and_an_unknown_root(server: WebServer, root: trustme.CA) -> None:
    server.start()

    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        served_serial(server.port, "other.example.com", pem(root))
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        served_serial(server.port, "www.example.com", pem(trustme.CA()))


def test_without_certificates_it_does_not_start_and_says_why_and_starts_once_they_are_there(
    kind: Kind, tmp_path: Path, root: trustme.CA
) -> None:
    live = tmp_path / "with space" / "live"
    server = kind(live, {"www": ["www.example.com"]})
    try:
        with pytest.raises(SandboxError, match="ended before listening") as refused:
            server.start()
        serial = install(root, live, "www", "www.example.com")
        server.start()
        served = served_serial(server.port, "www.example.com", pem(root))
    finally:
        server.close()

    assert "No such file" in str(refused.value.hint)
    assert served == serial


def test_nothing_is_left_of_a_closed_server(
    kind: Kind, live: Path, root: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = set(tmp_path.iterdir())
    server = kind(live, {"www": ["www.example.com"]})
    server.start()
    while_it_runs = set(tmp_path.iterdir())

    server.close()
    server.close()

    assert not server.running
    with pytest.raises(ConnectionRefusedError):
        served_serial(server.port, "www.example.com", pem(root))
    assert set(tmp_path.iterdir()) == before < while_it_runs


def test_a_taken_port_is_replaced_by_another(live: Path, root: trustme.CA) -> None:
    first, second = Nginx(live, {"www": ["www.example.com"]}), Nginx(live, {"www": ["www.example.com"]})
    try:
        first.start()
        second.listen_at(first.port)
        second.start()
        served = served_serial(second.port, "www.example.com", pem(root))
    finally:
        first.close()
        second.close()

    assert second.port != first.port
    assert served


def test_the_web_server_is_nginx_where_there_is_nginx(live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best = web_server(live, {"www": ["www.example.com"]})
    monkeypatch.setattr(parts, "find", lambda _: None)
    other = web_server(live, {"www": ["www.example.com"]})
    best.close()
    other.close()

    assert (best.name, other.name) == ("nginx", "Python")
