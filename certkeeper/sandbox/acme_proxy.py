"""An HTTPS proxy in front of the CA: counts every request, and does what a real CA does on its bad days.

It passes the client's Host header on. A CA builds its URLs from it and compares it with the `url` in each JWS
(RFC 8555 section 6.4), so clients only ever see the proxy's address, and nothing has to be rewritten or signed again.
"""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any, ClassVar
from urllib.parse import urlsplit

from certkeeper.sandbox import exact_set_limit
from certkeeper.sandbox.acme_traffic import AcmeRequest, AcmeResponse, Issued, Traffic, identifier_set
from certkeeper.sandbox.calls import Call, Desk, Dropped, Fault
from certkeeper.sandbox.loopback import HttpHandler, Request, Response, Serving, TcpServer
from certkeeper.sandbox.tls import TestTls

Script = Callable[[AcmeRequest, Callable[[], AcmeResponse]], AcmeResponse]

# See Pebble's docstring; no other CA says this.
_OVERLOOKED = b"could not find order resulting in the given certificate serial number"

# Headers of one connection, not of the message (RFC 9110 section 7.6.1), and what is counted anew.
_HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade", "content-length")
)


class AcmeProxy:
    """In front of the CA whose directory is at `upstream_directory`, until close().

    `exact_set_limit` is Let's Encrypt's 5 per 168 h, or None for no limit; it can be changed at any time. Faults of
    the desk with service "acme" are answered as problems: `code` is the problem's type without its prefix.

    `overlooked` counts the predecessors that Pebble has not found for its own mistake, at all proxies of this process.
    """

    overlooked: ClassVar[int] = 0

    def __init__(
        self,
        upstream_directory: str,
        desk: Desk,
        tls: TestTls,
        *,
        exact_set_limit: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        upstream = urlsplit(upstream_directory)
        self._upstream = (upstream.hostname or "", upstream.port or 443)
        self._directory_path = upstream.path
        self._desk = desk
        self._trust = tls.client_context()
        self._clock = clock
        self._traffic = Traffic(self._directory_path)
        self._spent: dict[tuple[str, ...], list[float]] = {}
        self._scripts: list[tuple[str, Script]] = []
        self._lock = threading.Lock()
        self.exact_set_limit = exact_set_limit
        self._server = _Server(tls.server_context(), self)
        self._serving = Serving(self._server, "acme")

    @property
    def directory_url(self) -> str:
        return f"https://127.0.0.1:{self._server.port}{self._directory_path}"

    @property
    def orders(self) -> int:
        """How many orders the CA has opened (newOrder answered 201)."""
        return self._traffic.orders

    def issued(self) -> list[Issued]:
        """Every certificate the CA made, in order of their orders, downloaded or not."""
        return self._traffic.issued()

    def spend(self, *identifiers: str, times: int = 1) -> None:
        """Take tokens of this set's limit, as if certificates had been issued elsewhere just now."""
        names = identifier_set({"value": identifier} for identifier in identifiers)
        with self._lock:
            self._spent.setdefault(names, []).extend([self._clock()] * times)

    @contextmanager
    def script(self, operation: str, answer: Script) -> Iterator[None]:
        """While the block runs, `answer(request, forward)` answers requests of this operation ("": of any).

        `forward()` asks the CA (or the limit) and returns its answer, to be passed on as it is or changed.
        The newest script for an operation is asked.
        """
        entry = (operation, answer)
        with self._lock:
            self._scripts.append(entry)
        try:
            yield
        finally:
            with self._lock:
                self._scripts = [standing for standing in self._scripts if standing is not entry]

    def close(self) -> None:
        """Stop listening and close all connections; closing twice is no mistake."""
        self._serving.close()

    def answer(self, request: AcmeRequest, upstream: Upstream) -> AcmeResponse:
        """Answer one request of a client; raises Dropped where no answer must be sent."""
        self._know_the_directory(upstream)
        operation = self._traffic.operation(request.path)
        identifiers = self._traffic.identifiers(request.path)
        if operation == "newOrder":
            identifiers = identifier_set(request.payload.get("identifiers", []))
        call = Call(
            service="acme",
            operation=operation,
            resource=request.path,
            context=tuple(("identifier", identifier) for identifier in identifiers),
            principal=request.account_url,
        )
        forward = partial(self._forwarded, request, operation, upstream)
        return self._desk.attend(
            call,
            serve=lambda: self._scripted(request, operation, forward, upstream),
            refuse=lambda fault: self._with_nonce(request, _refusal(fault), upstream),
            status_of=lambda response: response.status,
            remark_on=lambda response: "badNonce" if response.problem == "badNonce" else "",
        )

    def upstream(self) -> Upstream:
        return Upstream(*self._upstream, self._trust)

    def _scripted(
        self, request: AcmeRequest, operation: str, forward: Callable[[], AcmeResponse], upstream: Upstream
    ) -> AcmeResponse:
        with self._lock:
            scripts = [answer for wanted, answer in self._scripts if wanted in ("", operation)]
        return self._with_nonce(request, scripts[-1](request, forward), upstream) if scripts else forward()

    def _forwarded(self, request: AcmeRequest, operation: str, upstream: Upstream) -> AcmeResponse:
        limited = self._limited(request, upstream) if operation == "newOrder" else None
        if limited:
            return self._with_nonce(request, limited, upstream)
        response = upstream.ask(request)
        self._traffic.learn(request, response, self._clock())
        if _OVERLOOKED in response.body:
            AcmeProxy.overlooked += 1
        return response

    def _limited(self, request: AcmeRequest, upstream: Upstream) -> AcmeResponse | None:
        if self.exact_set_limit is None:
            return None
        now = self._clock()
        identifiers = identifier_set(request.payload.get("identifiers", []))
        with self._lock:
            spent = self._spent.get(identifiers, []) + self._traffic.issued_at(identifiers)
        allowed = exact_set_limit.next_allowed(self.exact_set_limit, spent)
        if allowed <= now or self._exempt(request.payload.get("replaces"), now, upstream):
            return None
        return exact_set_limit.refusal(self.exact_set_limit, allowed, now)

    def _exempt(self, replaces: object, now: float, upstream: Upstream) -> bool:
        """Let's Encrypt lets a renewal pass that keeps to the suggested window, and no other (RFC 9773 section 5)."""
        renewal_info = self._traffic.path_of("renewalInfo")
        if not isinstance(replaces, str) or not renewal_info:
            return False
        window = upstream.get(f"{renewal_info}/{replaces}").json.get("suggestedWindow", {})
        try:
            start, end = (datetime.fromisoformat(window[name]).timestamp() for name in ("start", "end"))
        except (KeyError, TypeError, ValueError):
            return False
        return start <= now < end

    def _with_nonce(self, request: AcmeRequest, response: AcmeResponse, upstream: Upstream) -> AcmeResponse:
        """A nonce is due in every answer to a POST (RFC 8555 section 6.5), in those the CA never saw as well."""
        new_nonce = self._traffic.path_of("newNonce")
        if request.method != "POST" or response.header("Replay-Nonce") or not new_nonce:
            return response
        nonce = upstream.get(new_nonce, "HEAD").header("Replay-Nonce")
        if nonce:
            response.headers.append(("Replay-Nonce", nonce))
        return response

    def _know_the_directory(self, upstream: Upstream) -> None:
        """A client may keep the directory and begin with something else."""
        if not self._traffic.path_of("newOrder"):
            request = AcmeRequest("GET", self._directory_path, {})
            self._traffic.learn(request, upstream.get(self._directory_path), self._clock())


def _refusal(fault: Fault) -> AcmeResponse:
    # The desk's default is an AWS code; ACME's word for it is another.
    kind = "serverInternal" if fault.code == "InternalError" else fault.code
    return AcmeResponse.of_problem(fault.status, kind, fault.message, fault.headers)


class Upstream:
    """One kept connection to the CA, for one thread."""

    def __init__(self, host: str, port: int, trust: ssl.SSLContext) -> None:
        self._authority = f"{host}:{port}"
        self._connection = http.client.HTTPSConnection(host, port, timeout=60, context=trust)

    def get(self, path: str, method: str = "GET") -> AcmeResponse:
        """Ask for something on the proxy's own account."""
        return self.ask(AcmeRequest(method, path, {"Host": self._authority, "User-Agent": "certkeeper-sandbox"}))

    def ask(self, request: AcmeRequest) -> AcmeResponse:
        """The CA's answer, or 502 where it gives none."""
        kept = self._connection.sock is not None
        try:
            return self._asked(request)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            # The CA may have closed a kept connection, or was restarted: then it has not seen the request.
            if kept and not isinstance(error, TimeoutError):
                return self.ask(request)
            return AcmeResponse(502, [("Content-Type", "text/plain")], f"the CA does not answer: {error}\n".encode())

    def _asked(self, request: AcmeRequest) -> AcmeResponse:
        self._connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
        for name, value in request.headers.items():
            if name.lower() not in _HOP_BY_HOP:
                self._connection.putheader(name, value)
        if request.method == "POST":
            self._connection.putheader("Content-Length", str(len(request.body)))
        self._connection.endheaders(request.body)
        with self._connection.getresponse() as response:
            headers = [(name, value) for name, value in response.getheaders() if name.lower() not in _HOP_BY_HOP]
            return AcmeResponse(response.status, headers, response.read())

    def close(self) -> None:
        self._connection.close()


class _Server(TcpServer):
    """Speaks TLS; the handshake is made in the connection's own thread, where a slow client holds up nobody."""

    def __init__(self, context: ssl.SSLContext, proxy: AcmeProxy) -> None:
        self.proxy = proxy
        self._context = context
        super().__init__(_Handler)

    def get_request(self) -> tuple[ssl.SSLSocket, Any]:
        connection, address = super().get_request()
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.do_handshake()
        super().finish_request(request, client_address)


class _Handler(HttpHandler):
    """One connection of a client."""

    server: _Server

    def setup(self) -> None:
        super().setup()
        self._upstream = self.server.proxy.upstream()

    def finish(self) -> None:
        self._upstream.close()
        super().finish()

    def answered(self, request: Request) -> Response:
        asked = AcmeRequest(request.method, request.target, request.headers, request.body)
        try:
            return self.server.proxy.answer(asked, self._upstream)
        except Dropped:
            raise
        except Exception as error:  # noqa: BLE001 - a script's or watcher's mistake: shown to who can mend it
            return Response(500, [("Content-Type", "text/plain")], f"in the sandbox: {error!r}\n".encode())
