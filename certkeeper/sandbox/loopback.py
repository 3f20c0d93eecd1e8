"""Servers on 127.0.0.1 that leave nothing behind: no thread, no socket, no line on the terminal."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from certkeeper.sandbox.calls import Dropped

ADDRESS = "127.0.0.1"
POLL_SECONDS = 0.05
JOIN_SECONDS = 5.0


class Headers(Mapping[str, str]):
    """HTTP headers, read without regard to case."""

    def __init__(self, items: Mapping[str, str] | Message) -> None:
        self._items = {name.lower(): value for name, value in items.items()}

    def __getitem__(self, name: str) -> str:
        return self._items[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


@dataclass(frozen=True)
class Request:
    """One HTTP request, body read; `target` is path and query as sent."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        return urlsplit("//" + ADDRESS + self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))


@dataclass
class Response:
    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def has(self, name: str) -> bool:
        return any(header.lower() == name for header, _ in self.headers)


class TcpServer(socketserver.TCPServer):
    """A thread per connection; closing it ends every conversation, idle ones too."""

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, handler: type[socketserver.BaseRequestHandler], port: int = 0, address: str = ADDRESS) -> None:
        self._conversations: dict[socket.socket, threading.Thread] = {}
        self._conversations_lock = threading.Lock()
        super().__init__((address, port), handler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self._converse, args=(request, client_address), name="sandbox-connection", daemon=True
        )
        with self._conversations_lock:
            self._conversations[request] = thread
        thread.start()

    def _converse(self, request: socket.socket, client_address: Any) -> None:
        try:
            # A client that goes away in the middle is its own business.
            with contextlib.suppress(OSError):
                self.finish_request(request, client_address)
        finally:
            # The socket is the key of the table: out of it before it is closed and its number used again.
            with self._conversations_lock:
                self._conversations.pop(request, None)
            self.shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        with self._conversations_lock:
            conversations = dict(self._conversations)
            for open_socket in conversations:
                with contextlib.suppress(OSError):
                    open_socket.shutdown(socket.SHUT_RDWR)
        for thread in conversations.values():
            thread.join(JOIN_SECONDS)


class UdpServer(socketserver.UDPServer):
    """A thread per datagram, so that one that is kept waiting holds up no other."""

    max_packet_size = 65_535

    def __init__(self, handler: type[socketserver.BaseRequestHandler], port: int = 0, address: str = ADDRESS) -> None:
        self._threads: set[threading.Thread] = set()
        super().__init__((address, port), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self._answer, args=(request, client_address), name="sandbox-datagram", daemon=True
        )
        self._threads = {running for running in self._threads if running.is_alive()} | {thread}
        thread.start()

    def _answer(self, request: Any, client_address: Any) -> None:
        with contextlib.suppress(OSError):
            self.finish_request(request, client_address)

    def server_close(self) -> None:
        super().server_close()
        for thread in self._threads:
            thread.join(JOIN_SECONDS)


class Serving:
    """A server's accept loop in a thread of its own, until `close`."""

    def __init__(self, server: socketserver.BaseServer, name: str) -> None:
        self._server = server
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(
            target=server.serve_forever, args=(POLL_SECONDS,), name=f"sandbox-{name}", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(JOIN_SECONDS)


class HttpServer:
    """HTTP/1.1 with keep-alive in front of a function. `Dropped` out of it closes the connection without a word."""

    def __init__(self, answer: Callable[[Request], Response], name: str) -> None:
        class Handler(HttpHandler):
            def answered(self, request: Request) -> Response:
                return answer(request)

        self._server = TcpServer(Handler)
        self.port = self._server.port
        self.url = f"http://{ADDRESS}:{self.port}"
        self._serving = Serving(self._server, name)

    def close(self) -> None:
        self._serving.close()


class HttpHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # an answer goes out in one piece

    def answered(self, request: Request) -> Response:
        raise NotImplementedError

    def serve(self) -> None:
        request = Request(self.command, self.path, Headers(self.headers), self.read_body())
        try:
            response = self.answered(request)
        except Dropped:
            self.close_connection = True
            return
        self.send(response)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_OPTIONS = do_PATCH = serve  # noqa: N815 - the library's names

    def handle_expect_100(self) -> bool:
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def read_body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return b"".join(iter(self.read_chunk, b""))
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def read_chunk(self) -> bytes:
        size = int(self.rfile.readline().split(b";")[0], 16)
        chunk = self.rfile.read(size)
        self.rfile.readline()
        return chunk

    def send(self, response: Response) -> None:
        self.send_response_only(response.status)
        if not response.has("date"):
            self.send_header("Date", formatdate(usegmt=True))
        bodiless = self.command == "HEAD" or response.status in (204, 304)
        for name, value in response.headers:
            # A HEAD's Content-Length is that of the body it does not send; elsewhere ours is the truth.
            if name.lower() == "content-length" and not bodiless:
                continue
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        if not bodiless or (self.command == "HEAD" and not response.has("content-length")):
            self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if not bodiless:
            self.wfile.write(response.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the desk keeps the record."""
