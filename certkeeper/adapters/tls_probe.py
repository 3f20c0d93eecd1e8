"""What a server really serves: a TLS handshake with SNI, and the serial number of the leaf."""

from __future__ import annotations

import socket
import ssl

from cryptography import x509

TIMEOUT = 5.0


def served_serial(address: str, port: int, identifier: str) -> str:
    """The serial number served for `identifier` at an address, lower-case hex. Raises OSError.

    Nothing is verified: the question is what is served, not whether it is any good.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((address, port), timeout=TIMEOUT) as raw,
        context.wrap_socket(raw, server_hostname=identifier) as tls,
    ):
        der = tls.getpeercert(binary_form=True)
    if not der:
        raise OSError("no certificate was served")
    try:
        return f"{x509.load_der_x509_certificate(der).serial_number:x}"
    except (ValueError, x509.InvalidVersion):
        raise OSError("what was served is no certificate") from None
