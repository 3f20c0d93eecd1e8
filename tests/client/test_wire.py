"""The HTTP reader against servers that behave oddly."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from certkeeper.client.wire import Answer, Connection, seconds_at, split_url
from certkeeper.core.errors import SettingsError


@contextmanager
def server(*answers: bytes, drip: float = 0.0, close: bool = True) -> Iterator[str]:
    """Say these bytes, one answer to each request, on one connection after another."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(5)

    def serve() -> None:
        left = list(answers)
        while left:
            try:
                talk, _ = listener.accept()
            except OSError:
                return
            with talk:
                while left and talk.recv(65536):
                    answer = left.pop(0)
                    try:
                        for begin in range(0, len(answer), 1 if drip else len(answer)):
                            talk.sendall(answer[begin : begin + 1] if drip else answer)
                            time.sleep(drip)
                    except OSError:
                        break
                    if close:
                        break

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()
        thread.join(2)


def ask(url: str, most: int = 100, seconds: float = 2.0) -> Answer:
    connection = Connection(url, seconds, None)
    try:
        return connection.request("GET", "/x", {"a": "b"}, b"", most)
    finally:
        connection.close()


def test_nothing_that_is_sent_waits_for_an_acknowledgement() -> None:
    with server(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", close=False) as url:
        connection = Connection(url, 2.0, None)
        connection.request("GET", "/x", {}, b"", 100)

        assert connection.socket is not None
        assert connection.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        connection.close()


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\nt: u\r\n\r\n", b"abc"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
)
def test_reads_every_way_to_send_a_body(answer: bytes, body: bytes) -> None:
    with server(answer) as url:
        answered = ask(url)

    assert (answered.status in (200, 204), answered.body) == (True, body)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n" + b"x" * 101,
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n" + b"x" * 101 + b"\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + (b"3c\r\n" + b"x" * 60 + b"\r\n") * 2 + b"0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 10000,
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 \r\n\r\n",
        b"",
    ],
)
def test_anything_else_is_an_os_error(answer: bytes) -> None:
    with server(answer or b"\r\n\r\n") as url, pytest.raises(OSError):  # noqa: PT011 - any of them
        ask(url)


def test_a_dripping_server_does_not_outlast_the_deadline() -> None:
    begun = time.monotonic()

    with server(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n" + b"x" * 50, drip=0.05) as url:
        with pytest.raises(OSError):  # noqa: PT011 - a time-out by whatever name
            ask(url, seconds=0.3)
        taken = time.monotonic() - begun

    assert taken < 2.0


def test_a_server_that_stops_late_does_not_get_a_new_deadline() -> None:
    with server(b"HTTP", drip=1.9) as url:
        begun = time.monotonic()
        with pytest.raises(OSError):  # noqa: PT011 - a time-out by whatever name
            ask(url, seconds=2.0)
        taken = time.monotonic() - begun

    assert taken < 3.5


def test_many_addresses_that_do_not_answer_take_little_longer_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as stack:
        for _ in range(4):  # more than its queue takes: from now on nobody is let in, and nobody is told
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", full.getsockname())
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [address] * 8)
        monkeypatch.setattr("certkeeper.client.wire._OPENING", 0.05, raising=False)
        begun = time.monotonic()

        with pytest.raises(OSError):  # noqa: PT011 - a time-out by whatever name
            ask("http://127.0.0.1:1", seconds=1.0)
        taken = time.monotonic() - begun

    assert taken < 4.0


def test_a_redirect_is_an_answer_like_any_other() -> None:
    with server(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n") as url:
        answered = ask(url)

    assert answered.status == 302


def test_a_connection_is_used_again_and_opened_anew_when_closed() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"
    with server(answer + b"1", answer + b"2", close=False) as url:
        connection = Connection(url, 2.0, None)

        bodies = [connection.request("GET", "/", {}, b"", 9).body for _ in range(2)]

        connection.close()
    assert bodies == [b"1", b"2"]


@pytest.mark.parametrize("path", ["/a\r\nx: y", "/ä"])
def test_a_request_that_would_break_its_head_is_not_sent(path: str) -> None:
    connection = Connection("http://127.0.0.1:1", 1.0, None)

    with pytest.raises(SettingsError):
        connection.request("GET", path, {}, b"", 9)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://s3.example.com", (True, "s3.example.com", 443)),
        ("http://localhost:4566/", (False, "localhost", 4566)),
        ("http://[fd00:ec2::254]", (False, "[fd00:ec2::254]", 80)),
    ],
)
def test_endpoint_urls_are_taken_apart(url: str, parts: tuple[bool, str, int]) -> None:
    assert split_url(url) == parts


@pytest.mark.parametrize(
    "url", ["", "s3.example.com", "ftp://x", "http://", "http://a b", "http://a/b", "http://a@b", "http://x:²"]
)
def test_a_strange_endpoint_url_is_refused(url: str) -> None:
    with pytest.raises(SettingsError):
        split_url(url)


def test_dates_are_read_without_a_library() -> None:
    assert seconds_at("23", "Nov", "2026", "02:46:40") == 1_795_402_000.0
