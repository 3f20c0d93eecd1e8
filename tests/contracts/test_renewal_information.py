"""HttpRenewalInformation on a server of its own: how it asks. What it makes of answers: tests/live."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from certkeeper.adapters.renewal_information import HttpRenewalInformation
from certkeeper.adapters.threads import Threads
from certkeeper.core.ari import Window
from tests.fakes import START

WINDOW = {"start": (START + timedelta(days=60)).isoformat(), "end": (START + timedelta(days=61)).isoformat()}


class Ca(ThreadingHTTPServer):
    """Answers every request with a directory and a window, and counts connections."""

    daemon_threads = True
    connections = 0

    def process_request(self, request: object, client_address: object) -> None:
        self.connections += 1
        super().process_request(request, client_address)  # type: ignore[arg-type] # whatever a socket's are

    @property
    def directory(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/directory"


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Ca

    def do_GET(self) -> None:
        text = json.dumps({"renewalInfo": self.server.directory, "suggestedWindow": WINDOW}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(name="ca")
def _ca() -> Iterator[Ca]:
    with Ca(("127.0.0.1", 0), Answer) as ca:
        thread = Thread(target=ca.serve_forever, args=(0.05,))
        thread.start()
        yield ca
        ca.shutdown()
        thread.join()


def test_many_names_share_the_connections_of_a_few_threads(ca: Ca) -> None:
    adapter, threads = HttpRenewalInformation({}), Threads(4)
    ask = [partial(adapter.ask, ca.directory, f"keyid.{number}", START) for number in range(50)]

    answers = threads(ask)

    threads.close()
    assert all(isinstance(answer, Window) for answer in answers)
    assert 1 <= ca.connections <= 4
