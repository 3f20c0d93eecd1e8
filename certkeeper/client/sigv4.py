"""AWS Signature Version 4 of one request. Pure."""

from __future__ import annotations

import hashlib
import hmac
import time

_UNRESERVED = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/")


class Credentials:
    """What signs. Deliberately without a repr: nothing here may ever be printed."""

    def __init__(self, access_key_id: str, secret_access_key: str, session_token: str) -> None:
        self.access_key_id = access_key_id
        self.secret_access_key = secret_access_key
        self.session_token = session_token


def is_region(text: str) -> bool:
    """Whether this can be a region: it becomes part of host names and of signatures."""
    return text.isascii() and text.replace("-", "").isalnum()


def encoded_path(path: str) -> str:
    """A path as S3 signs it and as it goes over the wire: percent-encoded once, nothing normalised."""
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in path.encode())


def signed(
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes,
    credentials: Credentials,
    scope: tuple[str, str],
    moment: float,
) -> dict[str, str]:
    """The headers to send: those given (lower case, with `host`), all of them signed, and the signature.

    `path` is encoded already; `scope` is (region, service); `moment` is in Unix seconds.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(moment))
    body_hash = hashlib.sha256(body).hexdigest()
    headers = dict(headers, **{"x-amz-date": stamp, "x-amz-content-sha256": body_hash})
    if credentials.session_token:
        headers["x-amz-security-token"] = credentials.session_token
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in sorted(headers))
    canonical = f"{method}\n{path}\n\n{lines}\n{names}\n{body_hash}"
    parts = [stamp[:8], scope[0], scope[1], "aws4_request"]
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{'/'.join(parts)}\n{digest}"
    signing_key = b"AWS4" + credentials.secret_access_key.encode()
    for part in parts:
        signing_key = hmac.digest(signing_key, part.encode(), "sha256")
    signature = hmac.digest(signing_key, to_sign.encode(), "sha256").hex()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key_id}/{'/'.join(parts)},"
        f" SignedHeaders={names}, Signature={signature}"
    )
    return headers
