from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator

import pytest

from certkeeper.sandbox.aws import AwsServer
from certkeeper.sandbox.calls import Desk, Dropped
from certkeeper.sandbox.loopback import HttpServer, Request, Response
from certkeeper.sandbox.route53 import HostedZones

SEEN: list[Request] = []


def answer(request: Request) -> Response:
    SEEN.append(request)
    if request.path == "/dropped":
        raise Dropped
    return Response(200, [("X-Body", str(len(request.body)))], b"body of " + request.path.encode())


@pytest.fixture
def server() -> Iterator[HttpServer]:
    SEEN.clear()
    running = HttpServer(answer, "test")
    yield running
    running.close()


@pytest.fixture
def connection(server: HttpServer) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    yield connection
    connection.close()


def test_path_query_and_headers_are_read_as_sent(connection: http.client.HTTPConnection) -> None:
    connection.request("GET", "/a%20b//c?x=1&empty&y=%26", headers={"X-Thing": "yes"})
    connection.getresponse().read()

    assert (SEEN[0].path, SEEN[0].query) == ("/a%20b//c", {"x": "1", "empty": "", "y": "&"})
    assert SEEN[0].headers["x-thing"] == SEEN[0].headers["X-THING"] == "yes"


def test_bodies_are_read_whole_in_chunks_or_not(connection: http.client.HTTPConnection) -> None:
    connection.request("PUT", "/whole", body=b"x" * 100_000)
    assert connection.getresponse().read() == b"body of /whole"
    connection.request(
        "PUT", "/chunks", body=iter([b"abc", b"de"]), encode_chunked=True, headers={"Transfer-Encoding": "chunked"}
    )
    assert connection.getresponse().read() == b"body of /chunks"

    assert [len(request.body) for request in SEEN] == [100_000, 5]
    assert SEEN[1].body == b"abcde"


def test_a_head_is_answered_without_a_body_on_a_connection_that_goes_on(connection: http.client.HTTPConnection) -> None:
    connection.request("HEAD", "/a")
    response = connection.getresponse()
    assert (response.read(), response.headers["Content-Length"]) == (b"", "10")

    connection.request("GET", "/b")
    assert connection.getresponse().read() == b"body of /b"


def test_a_dropped_request_gets_not_one_byte(server: HttpServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
        raw.sendall(b"GET /dropped HTTP/1.1\r\nHost: x\r\n\r\n")
        assert raw.recv(100) == b""


def test_an_aws_server_closed_twice_makes_room_for_one_other() -> None:
    first = AwsServer(Desk(), HostedZones())
    first.create_bucket("left-behind")
    first.close()
    first.close()

    with AwsServer(Desk(), HostedZones()) as second:
        second.create_bucket("left-behind")
        with pytest.raises(RuntimeError):
            AwsServer(Desk(), HostedZones())


def test_closing_ends_idle_connections_and_their_threads() -> None:
    before = set(threading.enumerate())
    server = HttpServer(answer, "closing")
    idle = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    idle.request("GET", "/")
    idle.getresponse().read()

    server.close()
    server.close()

    assert idle.sock.recv(100) == b""
    idle.close()
    assert set(threading.enumerate()) <= before
