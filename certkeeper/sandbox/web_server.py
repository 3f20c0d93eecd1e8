"""What an instance serves its certificates with: nginx, or a stand-in of ours where there is none; and who asks it.

Both read live/NAME/fullchain.pem and privkey.pem, as a certbot user's configuration does, and have a command to check
and one to reload, fit for the boot client's --check and --reload.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import shlex
import socket
import ssl
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from certkeeper.sandbox import parts
from certkeeper.sandbox.processes import PortTaken, Program, SandboxError, free_port, on_free_port

_PYTHON_SERVER = Path(__file__).with_name("python_tls_server.py")

# Certificate name, which is the folder's name under live/, to the DNS names served with it.
Servers = Mapping[str, Sequence[str]]


class WebServer(Protocol):
    """An HTTPS server on 127.0.0.1. Its certificates must be there before start(), as for any web server."""

    name: str

    @property
    def port(self) -> int:
        """Where it listens, once it was started."""

    @property
    def running(self) -> bool: ...

    @property
    def reload_command(self) -> str:
        """A shell command: load the certificates anew, keep the old ones if they cannot be loaded."""

    @property
    def test_command(self) -> str:
        """A shell command: fail if the certificates could not be loaded."""

    def start(self) -> None:
        """Start it and wait until it listens; raises SandboxError with its last words if it does not."""

    def reload(self) -> None:
        """Run the reload command and wait until every new connection gets the new certificates."""

    def close(self) -> None:
        """End it and remove its folder; closing twice is no mistake."""


class Nginx:
    """The machine's own nginx, with nothing from or in the system's folders; no root needed."""

    name = "nginx"

    def __init__(self, live: Path, servers: Servers) -> None:
        program = parts.find("nginx")
        if program is None:
            raise SandboxError("nginx is not on this machine", "the system's package manager has it")
        self._live = live
        self._servers = servers
        self._program = Program("nginx")
        self._config = self._program.folder / "nginx.conf"
        self._command = [str(program), "-p", str(self._program.folder), "-e", "stderr", "-c", str(self._config)]
        self.port = 0
        self.listen_at(free_port())

    @property
    def running(self) -> bool:
        return self._program.running

    @property
    def reload_command(self) -> str:
        return shlex.join([*self._command, "-s", "reload"])

    @property
    def test_command(self) -> str:
        return shlex.join([*self._command, "-t", "-q"])

    def start(self) -> None:
        on_free_port(self._start)

    def _start(self) -> None:
        self._program.start(self._command)
        try:
            self._program.wait_until(lambda: "start worker process " in self._program.log(), "listening")
        except PortTaken:
            self.listen_at(free_port())
            raise

    def listen_at(self, port: int) -> None:
        """At the next start; at another port should this one be taken then."""
        self.port = port
        self._write_config()

    def reload(self) -> None:
        before = self._workers_gone()
        _run(self.reload_command)
        self._program.wait_until(lambda: self._workers_gone() > before, "reloaded")

    def _workers_gone(self) -> int:
        return self._program.log().count("exited with code 0")

    def log(self) -> str:
        """What nginx has said since its start."""
        return self._program.log()

    def close(self) -> None:
        self._program.close()

    def _write_config(self) -> None:
        folder = self._program.folder
        # A master that runs as root gives its workers another user, who could not write in our folder.
        user = f"user {pwd.getpwuid(0).pw_name} {grp.getgrgid(0).gr_name};" if os.geteuid() == 0 else ""
        temporary = "\n".join(
            f"    {kind}_temp_path {_quoted(folder / kind)};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        servers = "\n".join(self._server(name, names) for name, names in self._servers.items())
        self._config.write_text(f"""\
daemon off;
{user}
pid {_quoted(folder / "nginx.pid")};
lock_file {_quoted(folder / "nginx.lock")};
error_log stderr notice;
worker_processes 1;
worker_shutdown_timeout 1s;
events {{ worker_connections 256; }}
http {{
    access_log off;
    server_names_hash_bucket_size 256;
    ssl_session_tickets off;
{temporary}
{servers}
}}
""")

    def _server(self, name: str, names: Sequence[str]) -> str:
        return f"""\
    server {{
        listen 127.0.0.1:{self.port} ssl;
        server_name {" ".join(names)};
        ssl_certificate {_quoted(self._live / name / "fullchain.pem")};
        ssl_certificate_key {_quoted(self._live / name / "privkey.pem")};
        default_type text/plain;
        location / {{ return 200 "certkeeper sandbox\\n"; }}
    }}"""


class PythonTlsServer:
    """The stand-in where there is no nginx: a process of its own, reloaded by SIGHUP."""

    name = "Python"

    def __init__(self, live: Path, servers: Servers) -> None:
        self._program = Program("web")
        self._settings = self._program.folder / "settings.json"
        self._ready = self._program.folder / "ready.json"
        settings = {
            "ready": str(self._ready),
            "servers": [
                {
                    "names": list(names),
                    "fullchain": str(live / name / "fullchain.pem"),
                    "private_key": str(live / name / "privkey.pem"),
                }
                for name, names in servers.items()
            ],
        }
        self._settings.write_text(json.dumps(settings))
        self._command = [sys.executable, "-I", "-S", str(_PYTHON_SERVER)]
        self.port = 0

    @property
    def running(self) -> bool:
        return self._program.running

    @property
    def reload_command(self) -> str:
        return shlex.join([*self._command, "--reload", str(self._settings)])

    @property
    def test_command(self) -> str:
        return shlex.join([*self._command, "--check", str(self._settings)])

    def start(self) -> None:
        self._program.start([*self._command, "--serve", self._settings])
        self._program.wait_until(self._ready.exists, "listening")
        self.port = int(json.loads(self._ready.read_text())["port"])

    def reload(self) -> None:
        before = self._ready.read_text()
        _run(self.reload_command)
        self._program.wait_until(lambda: self._ready.read_text() != before, "reloaded")

    def log(self) -> str:
        """What it has said since its start."""
        return self._program.log()

    def close(self) -> None:
        self._program.close()


def web_server(live: Path, servers: Servers) -> Nginx | PythonTlsServer:
    """The best web server this machine has; its `name` says which."""
    return Nginx(live, servers) if parts.find("nginx") else PythonTlsServer(live, servers)


def served_serial(port: int, server_name: str, roots_pem: str) -> str:
    """The serial number, in lower-case hexadecimal, of what 127.0.0.1:port serves for this name.

    The chain must lead to one of `roots_pem`, be in date and cover the name: else ssl.SSLCertVerificationError.
    """
    context = ssl.create_default_context(cadata=roots_pem)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
        context.wrap_socket(connection, server_hostname=server_name) as secured,
    ):
        certificate = secured.getpeercert() or {}
    return f"{int(str(certificate['serialNumber']), 16):x}"


def _run(command: str) -> None:
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise SandboxError(f"the web server refused: {command}", done.stderr.strip()[-2000:] or None)


def _quoted(path: Path) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", str(path)) + '"'
