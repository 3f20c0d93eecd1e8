"""Every shape in which a clear private key could lie about."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

WHITE_SPACE = re.compile(rb"\s|\\n|\\r")


def shapes(clear: bytes) -> dict[str, bytes]:
    """What to look for, by what it is: DER and scalar, raw and encoded. A PEM's body is its DER in base64."""
    private_key = serialization.load_pem_private_key(clear, None)
    assert isinstance(private_key, ec.EllipticCurvePrivateKey)
    number = private_key.private_numbers().private_value
    raw = {"scalar": number.to_bytes(private_key.key_size // 8, "big")}
    forms = {
        "PKCS #8": serialization.PrivateFormat.PKCS8,
        "SEC 1": serialization.PrivateFormat.TraditionalOpenSSL,
    }
    for what, form in forms.items():
        raw[what] = private_key.private_bytes(serialization.Encoding.DER, form, serialization.NoEncryption())
    found = {"the scalar in decimal": str(number).encode(), "the PEM in base64": base64.b64encode(clear)[:-4]}
    for what, data in raw.items():
        found |= {
            f"{what}, raw": data,
            f"{what} in hex": data.hex().encode(),
            f"{what} in HEX": data.hex().upper().encode(),
            f"{what} in base64": base64.b64encode(data).rstrip(b"="),
            f"{what} in base64url": base64.urlsafe_b64encode(data).rstrip(b"="),
        }
    return found


def seen(clear_keys: Iterable[bytes], text: bytes) -> list[str]:
    """Which of the keys' shapes stand in `text`, in any line breaking."""
    joined = WHITE_SPACE.sub(b"", text)
    return [
        what
        for clear in clear_keys
        for what, shape in shapes(clear).items()
        if shape in text or WHITE_SPACE.sub(b"", shape) in joined
    ]
