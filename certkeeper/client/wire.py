"""HTTP/1.1 over one kept-open connection: no proxy, no redirect, bounded in bytes and in seconds.

Everything that goes wrong on the wire is an OSError.
"""

from __future__ import annotations

import os
import socket
import ssl
import time

from certkeeper.core.errors import SettingsError

_HOST_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]")
_LONGEST_HEAD = 32 * 1024
_OPENING = 1.2  # seconds for one address: S3 has up to eight, and where no way leads there, none of them answers
_ALL = 50  # roots in a folder: beside a bundle it may hold a few of the machine's own instead
_MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"


def trusting(bundle: str | None) -> ssl.SSLContext:
    """A client's TLS settings: roots out of a file, else the system's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # 3.9 does not ask for it by itself
    folder = ssl.get_default_verify_paths().capath
    if bundle:
        try:
            context.load_verify_locations(bundle)
        except OSError as error:
            raise SettingsError(f"{bundle}: no roots can be read from it ({error})") from None
    elif folder and "SSL_CERT_FILE" not in os.environ and sum(one.endswith(".0") for one in os.listdir(folder)) >= _ALL:
        context.load_verify_locations(capath=folder)  # read one root at a time (0.3 ms), the bundle as a whole (19 ms)
    else:
        context.set_default_verify_paths()
    return context


def seconds_at(day: str, month: str, year: str, clock: str) -> float:
    """Unix seconds of a date as HTTP and OpenSSL write it, always in GMT. Raises ValueError."""
    since_march = (_MONTHS.index(month) // 3 + 10) % 12  # so that a leap day ends a year
    years = int(year) - (since_march > 9)
    days = 365 * years + years // 4 - years // 100 + years // 400 + (153 * since_march + 2) // 5 + int(day) - 719469
    hours, minutes, seconds = map(int, clock.split(":"))
    return days * 86400.0 + hours * 3600 + minutes * 60 + seconds


def split_url(url: str) -> tuple[bool, str, int]:
    """(with TLS, host, port) of `http[s]://host[:port]`. Raises SettingsError."""
    scheme, _, host = url.rstrip("/").partition("://")
    with_tls = scheme == "https"
    port = "443" if with_tls else "80"
    if host.rpartition(":")[0] and not host.endswith("]"):
        host, _, port = host.rpartition(":")
    if scheme not in ("http", "https") or not host or not set(host) <= _HOST_LETTERS or not port.isdecimal():
        raise SettingsError(f"{url!r} is not an endpoint like https://host:port")
    return with_tls, host, int(port)


class Answer:
    """What a server said, whatever its status."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body


class Connection:
    """Opened when first needed, opened again after any trouble; `seconds` bound each step and each answer."""

    def __init__(self, url: str, seconds: float, context: ssl.SSLContext | None) -> None:
        with_tls, host, self.port = split_url(url)
        self.host_header = host if self.port == (443 if with_tls else 80) else f"{host}:{self.port}"
        self.host = host.strip("[]")
        self.context = context if with_tls else None
        self.seconds, self.deadline = seconds, 0.0
        self.socket: socket.socket | None = None
        self.buffer = b""

    def request(self, method: str, path: str, headers: dict[str, str], body: bytes, most: int) -> Answer:
        """One exchange; a body over `most` bytes is an OSError."""
        self.deadline = time.monotonic() + self.seconds
        headers = dict(headers, host=self.host_header)
        if method != "GET":
            headers["content-length"] = str(len(body))
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {headers[name]}\r\n" for name in headers)
        if head.count("\n") != len(headers) + 1 or not head.isascii():
            raise SettingsError("a request that is not plain ASCII was not sent")
        try:
            if self.socket is None:
                host = self.host.encode()  # of a text both calls would make IDNA, whose tables are dear to import
                self.socket = socket.create_connection((host, self.port), _OPENING)  # type: ignore[arg-type] # bytes will do
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else a handshake takes longer
                self.socket.settimeout(self.seconds)
                if self.context is not None:
                    self.socket = self.context.wrap_socket(self.socket, server_hostname=host)
            self.socket.settimeout(self.seconds)
            self.socket.sendall(head.encode() + b"\r\n" + body)
            return self._answer(most)
        except OSError:  # first: a refused certificate is a ValueError as well
            self.close()
            raise
        except (ValueError, KeyError):
            self.close()
            raise ConnectionError("the answer is not HTTP/1.1 with a length") from None

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
        self.socket = None
        self.buffer = b""

    def _answer(self, most: int) -> Answer:
        first, *rest = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        if not first.startswith("HTTP/1."):
            raise ValueError
        status, body = int(first[9:12]), b""
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while True:
                size = int(self._until(b"\r\n").split(b";")[0], 16)
                body += self._exactly(size, most - len(body))
                if size == 0:
                    break
                self._until(b"\r\n")
            while self._until(b"\r\n"):
                pass
        elif status not in (204, 304):  # a body without a length has no end that can be told from a torn one
            body = self._exactly(int(headers["content-length"]), most)
        if first.startswith("HTTP/1.0") or headers.get("connection", "").lower() == "close":
            self.close()
        return Answer(status, headers, body)

    def _exactly(self, size: int, most: int) -> bytes:
        if not 0 <= size <= most:
            raise ConnectionError(f"the answer has more than {most} bytes")
        while len(self.buffer) < size:
            self._more()
        body, self.buffer = self.buffer[:size], self.buffer[size:]
        return body

    def _until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            if len(self.buffer) > _LONGEST_HEAD:
                raise ConnectionError("the answer's head does not end")
            self._more()
        found, _, self.buffer = self.buffer.partition(mark)
        return found

    def _more(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0 or self.socket is None:
            raise TimeoutError("the answer takes too long")
        self.socket.settimeout(left)
        received = self.socket.recv(65536)
        if not received:
            raise ConnectionError("the answer is torn")
        self.buffer += received
