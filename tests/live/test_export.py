"""`certkeeper export` on real parts: what an instance would install, for a person who may open it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.live.operators import SPKI, Operator

pytestmark = pytest.mark.live


def test_a_certificate_and_its_private_key_are_written_proven_and_belong_together(
    operator: Operator, tmp_path: Path
) -> None:
    assert operator.renew().status == 0
    roots = tmp_path / "roots.pem"
    roots.write_text(operator.sandbox.ca.roots_pem())

    said = operator.run("export", operator.name, "--into", str(tmp_path / "out"), "--roots", str(roots))

    assert said.status == 0, said.talk
    certificate = operator.certificate()
    assert certificate is not None
    assert said.data.startswith(f"{operator.name} installed {certificate.chain.serial_number} until ")
    live = tmp_path / "out" / "live" / operator.name
    assert (live / "fullchain.pem").read_text() == certificate.chain.pem
    private_key = serialization.load_pem_private_key((live / "privkey.pem").read_bytes(), None)
    leaf = x509.load_pem_x509_certificates(certificate.chain.pem.encode())[0]
    assert private_key.public_key().public_bytes(*SPKI) == leaf.public_key().public_bytes(*SPKI)
    assert stat.S_IMODE((live / "privkey.pem").stat().st_mode) == 0o600
    assert "privkey.pem" in said.talk and "PRIVATE KEY" not in said.talk


def test_what_is_not_stored_is_told_and_nothing_is_written(operator: Operator, tmp_path: Path) -> None:
    said = operator.run("export", operator.name, "--into", str(tmp_path / "out"))

    assert said.status == 1
    assert said.data == ""
    assert not (tmp_path / "out" / "live").exists()
