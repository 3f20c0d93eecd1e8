"""TLS of the sandbox's own servers: one throw-away root, which everything in the sandbox trusts."""

from __future__ import annotations

import shutil
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import trustme

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class ServerFiles:
    """A server's chain and private key, as PEM files."""

    fullchain: Path
    private_key: Path


class TestTls:
    """A root of its own; `bundle` is the PEM file to trust (REQUESTS_CA_BUNDLE, `ca_bundle`, AWS_CA_BUNDLE ...)."""

    __test__: ClassVar[bool] = False  # the name begins as pytest's test classes do

    def __init__(self) -> None:
        self._root = trustme.CA(organization_name="certkeeper sandbox")
        self._folder = Path(tempfile.mkdtemp(prefix="certkeeper-tls-"))
        self.bundle = self._folder / "root.pem"
        self._root.cert_pem.write_to_path(self.bundle)

    @property
    def root_pem(self) -> str:
        return self._root.cert_pem.bytes().decode()

    def server_files(self, *names: str) -> ServerFiles:
        """A new certificate for `names` (without any: for loopback), on disk until close()."""
        certificate = self._root.issue_cert(*(names or LOOPBACK))
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        files = ServerFiles(folder / "fullchain.pem", folder / "privkey.pem")
        files.fullchain.write_bytes(b"".join(block.bytes() for block in certificate.cert_chain_pems))
        certificate.private_key_pem.write_to_path(files.private_key)
        return files

    def server_context(self, *names: str) -> ssl.SSLContext:
        """For a server of ours that serves `names` (without any: loopback)."""
        files = self.server_files(*names)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.fullchain, files.private_key)
        return context

    def client_context(self) -> ssl.SSLContext:
        """Trusts the sandbox's servers and nothing else."""
        return ssl.create_default_context(cadata=self.root_pem)

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
