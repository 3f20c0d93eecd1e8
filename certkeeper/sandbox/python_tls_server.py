"""A small HTTPS server as a script of its own: the stand-in for nginx where there is none. Standard library only.

    python -I -S python_tls_server.py --serve SETTINGS.json    serves until killed; SIGHUP loads the certificates anew
    python -I -S python_tls_server.py --check SETTINGS.json    fails if the certificates cannot be loaded
    python -I -S python_tls_server.py --reload SETTINGS.json   checks, then sends the running server its SIGHUP

It keeps serving what it has when something newer cannot be loaded, as nginx does.
"""

from __future__ import annotations

import json
import os
import signal
import socketserver
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

BODY = b"certkeeper sandbox\n"


def contexts(settings: dict[str, Any]) -> dict[str, ssl.SSLContext]:
    """A context for each DNS name; raises OSError (ssl.SSLError is one) if a pair cannot be loaded."""
    loaded = {}
    for server in settings["servers"]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(server["fullchain"], server["private_key"])
        loaded.update(dict.fromkeys(server["names"], context))
    return loaded


class Handler(BaseHTTPRequestHandler):
    """The same page for everything."""

    timeout = 10

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_: Any) -> None:
        """Nobody asks."""


class Server(socketserver.ThreadingTCPServer):
    """Picks the certificate by the name the client asks for, the first where none fits."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._contexts = contexts(settings)
        self._loads = 0
        super().__init__(("127.0.0.1", 0), Handler)
        signal.signal(signal.SIGHUP, self._load)
        self._tell()

    def _load(self, *_: Any) -> None:
        try:
            self._contexts = contexts(self._settings)
        except OSError as error:
            print(f"{error}; the old certificates are kept", file=sys.stderr, flush=True)  # noqa: T201 - its log
        self._tell()

    def _tell(self) -> None:
        """Where we are, and how often we have loaded, for who started us."""
        self._loads += 1
        ready = Path(self._settings["ready"])
        facts = {"pid": os.getpid(), "port": self.server_address[1], "loads": self._loads}
        ready.with_suffix(".new").write_text(json.dumps(facts))
        ready.with_suffix(".new").rename(ready)

    def finish_request(self, request: Any, client_address: Any) -> None:
        current = self._contexts
        # One context makes the handshake; its certificate is the chosen context's.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        first = next(iter(current.values()))

        def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            wildcard = "*." + name.partition(".")[2] if name else ""
            connection.context = current.get(name or "") or current.get(wildcard) or first

        context.sni_callback = choose
        request.settimeout(Handler.timeout)
        with context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away."""


def serve(settings: dict[str, Any]) -> None:
    server = Server(settings)
    # The signal's handler runs in the main thread, so the accepting is done in another.
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while True:
        signal.pause()


def main(verb: str, path: str) -> int:
    settings = json.loads(Path(path).read_text())
    try:
        if verb == "--serve":
            serve(settings)
        contexts(settings)
        if verb == "--reload":
            os.kill(json.loads(Path(settings["ready"]).read_text())["pid"], signal.SIGHUP)
    except OSError as error:
        print(f"{verb[2:]}: {error}", file=sys.stderr)  # noqa: T201 - its log
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
