"""Prove a pair good before anybody serves it: a TLS handshake with ourselves, in memory.

OpenSSL is the judge of everything it can judge: that the private key is the leaf's, that the chain leads to a
root, that all is in date. Of what is proven only OpenSSL's word is used, never the document's.
"""

from __future__ import annotations

import os
import ssl

from certkeeper.client.wire import seconds_at
from certkeeper.core.errors import ChainError

_PARTIAL_CHAIN = 0x80000  # ssl.VERIFY_X509_PARTIAL_CHAIN, which 3.9 does not name
_NO_ROOT = (2, 18, 19, 20, 21)  # OpenSSL's X509_V_ERR_*: no issuer found, or a self-signed one not known here
_PEM_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/=")


class Proven:
    """What the handshake showed of a leaf."""

    def __init__(self, leaf: dict[str, object], root_known: bool) -> None:
        self.serial_number = f"{abs(int(str(leaf['serialNumber']), 16)):x}"  # below zero only where a CA errs
        month, day, clock, year, _ = str(leaf["notAfter"]).split()
        self.not_after = seconds_at(day, month, year, clock)
        alternatives: tuple[tuple[str, str], ...] = leaf.get("subjectAltName", ())  # type: ignore[assignment] # of a leaf it is pairs
        self.dns_names = {value.lower() for kind, value in alternatives if kind == "DNS"}
        self.root_known = root_known

    def covers(self, identifier: str) -> bool:
        """Whether a client that asks for this DNS name accepts the leaf (RFC 6125: one label for a `*`)."""
        label, _, rest = identifier.lower().partition(".")
        return identifier.lower() in self.dns_names or (label != "" and f"*.{rest}" in self.dns_names)


def blocks(pem: str, label: str) -> list[str]:
    """The PEM blocks of one label, each written the one usual way; none, or an unclean one, is a ChainError."""
    begin, end = f"-----BEGIN {label}-----", f"-----END {label}-----"
    found: list[str] = []
    between, *parts = pem.split(begin)
    for part in parts:
        body, closed, after = part.partition(end)
        lines = body.split()
        between += after
        if not closed or not set("".join(lines)) <= _PEM_LETTERS:
            raise ChainError(f"a PEM block is not a clean {label}")
        found.append("\n".join([begin, *lines, end]) + "\n")
    if not found or "-----" in between:
        raise ChainError(f"there is no {label} block, or another one")
    return found


def prove(chain: list[str], private_key: str, identifiers: list[str], trusted: ssl.SSLContext, scratch: str) -> Proven:
    """Prove PEM blocks (leaf first) and a private key; raises ChainError with what is wrong.

    `trusted` are a client's TLS settings with its roots, and are left as they are. `scratch` is a path for the private
    key, used only where the kernel has no memory files, and removed again. An unknown root is not an error:
    `root_known` tells.
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(server, ("".join(chain) + private_key).encode(), scratch)
    root_known = True
    try:
        leaf = _shake_hands(server, trusted)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code not in _NO_ROOT:
            raise ChainError(f"the chain does not verify: {error.verify_message}") from None
        root_known = False
        # Is all well up to the last certificate that came along?
        anchored = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anchored.load_verify_locations(cadata=chain[-1])
        anchored.verify_flags |= _PARTIAL_CHAIN
        try:
            leaf = _shake_hands(server, anchored)
        except ssl.SSLCertVerificationError as again:
            raise ChainError(f"the chain does not hold together: {again.verify_message}") from None
    proven = Proven(leaf, root_known)
    missing = [one for one in identifiers if not proven.covers(one)]
    if missing:
        raise ChainError(f"the certificate does not cover {', '.join(missing)}")
    return proven


def _load(server: ssl.SSLContext, pem: bytes, scratch: str) -> None:
    try:
        file = os.memfd_create("certkeeper")
        path = f"/proc/self/fd/{file}"
        os.stat(path)
    except (AttributeError, OSError):
        path = scratch
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        while pem:
            pem = pem[os.write(file, pem) :]
        # Without a password of ours OpenSSL would ask for one on the terminal.
        server.load_cert_chain(path, password="none")  # noqa: S106 - none is needed, and none is asked for
    except ssl.SSLError as error:
        reason = error.reason or "not readable"
        raise ChainError(
            f"the private key does not belong to the certificate, or one of them is broken: {reason}"
        ) from None
    finally:
        os.close(file)
        if path == scratch:
            os.unlink(path)


def _shake_hands(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> dict[str, object]:
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(there, back, server_side=True)
    client_context.check_hostname = False  # all names are compared afterwards
    client = client_context.wrap_bio(back, there)
    client_context.check_hostname = True  # AWS is asked with the same settings
    try:
        for side in (client, server, client, server, client):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
        return dict(client.getpeercert() or {})
    except ssl.SSLCertVerificationError:
        raise
    except (ssl.SSLError, ValueError) as error:
        raise ChainError(f"no TLS handshake is possible with it: {getattr(error, 'reason', error)}") from None
