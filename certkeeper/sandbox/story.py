"""`certkeeper demo`: the whole story, for real, on this machine.

One certificate is obtained by ACME dns-01, sealed and stored; spot instances are replaced, each pulls it at boot with
nothing but Python and serves it with a web server; a TLS client verifies what it is served. Then the same with certbot
at every boot, where certbot is installed, against the CA's limit.
"""

from __future__ import annotations

import os
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from certkeeper.deployment.one_file import one_file
from certkeeper.sandbox import parts
from certkeeper.sandbox.processes import SandboxError
from certkeeper.sandbox.stack import STORE, Sandbox
from certkeeper.sandbox.web_server import served_serial, web_server

NAME = "example.com"
IDENTIFIERS = ("example.com", "*.example.com")
CERTBOT_NAME = "certbot.example.net"
LIMIT = 5
# What would lead a child of ours to another AWS, another CA bundle, or through a proxy.
STRANGE = ("AWS_", "CERTKEEPER_", "REQUESTS_CA_BUNDLE", "SSL_CERT_", "CURL_CA_BUNDLE", "http", "HTTP", "all_", "ALL_")


@dataclass(frozen=True)
class Boot:
    """One replaced instance: how long its pull took, and the serial number its web server served."""

    seconds: float
    serial_number: str


def demo(*, keep: bool = False, boots: int = 20) -> int:
    """Tell the story; 0 if every word of it came true. Ctrl-C ends it and leaves nothing behind."""
    try:
        with _terminating():
            return _told(keep, boots)
    except KeyboardInterrupt:
        _say("\ninterrupted; everything is taken down")
        return 130


def _told(keep: bool, boots: int) -> int:
    _say("Starting AWS, DNS, a CA and instance metadata on loopback ...")
    with Sandbox() as sandbox:
        _say(f"  AWS {sandbox.aws.url}   DNS {sandbox.dns.address}   CA {sandbox.proxy.directory_url}")
        if sandbox.ca.name != "Pebble":
            _say(f"  Pebble is not on this machine, so {sandbox.ca.name}'s ACME server is the CA")
        sandbox.settings({NAME: IDENTIFIERS}, profile="tlsserver")
        _say(f"\nThe schedule's tick: one certificate for {' and '.join(IDENTIFIERS)}")
        status = _certkeeper(sandbox, "renew", "--verbose")
        if status:
            return status
        booted = _boots(sandbox, boots)
        _say("\nThe next tick:")
        status = _certkeeper(sandbox, "renew")
        ours = _counted(sandbox, booted)
        certbot = _certbot(sandbox)
        _say("\nWhat happened")
        good = _summary(sandbox, ours, boots, certbot)
        _say("\n$ certkeeper status")
        status = _certkeeper(sandbox, "status") or status
        if keep:
            _wait(sandbox)
        return status if good else 1


# The instances.


def _boots(sandbox: Sandbox, boots: int) -> list[Boot]:
    client = sandbox.folder / "certkeeper-pull"
    client.write_text(one_file())
    _say(f"\n{boots} spot instances are replaced, one after another; each has Python, a web server and no certificate")
    booted = []
    for number in range(1, boots + 1):
        booted.append(_boot(sandbox, client, number))
        _say(f"  instance {number:2}: pulled in {booted[-1].seconds * 1000:4.0f} ms, serves {booted[-1].serial_number}")
    return booted


def _boot(sandbox: Sandbox, client: Path, number: int) -> Boot:
    disk = sandbox.folder / f"instance-{number}"
    disk.mkdir(mode=0o700)
    roots = sandbox.roots
    command = [
        _instance_python(), "-I", "-S", str(client), NAME, "--from", STORE, "--into", str(disk),
        "--for", NAME, "--for", f"www.{NAME}", "--roots", str(roots), "--quiet",
    ]  # fmt: skip
    began = time.perf_counter()
    done = subprocess.run(
        command, env=clean(sandbox.instance_environment), capture_output=True, text=True, timeout=60, check=False
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SandboxError(f"instance {number} could not pull: {done.stderr.strip()}")
    server = web_server(disk / "live", {NAME: IDENTIFIERS})
    try:
        server.start()
        return Boot(seconds, served_serial(server.port, f"www.{NAME}", roots.read_text()))
    finally:
        server.close()


def _instance_python() -> str:
    """The Python an instance has: the system's own, if it is new enough, as far from ours as can be."""
    system = Path("/usr/bin/python3")
    old = "import sys; sys.exit(sys.version_info < (3, 9))"
    if system.exists() and not subprocess.run([system, "-I", "-S", "-c", old], check=False, timeout=30).returncode:
        return str(system)
    return sys.executable


# certbot, for comparison.


@dataclass(frozen=True)
class Refused:
    """The replacement at which certbot was refused, and its words."""

    replacement: int
    words: str


def _certbot(sandbox: Sandbox) -> Refused | None:
    program = parts.find("certbot")
    if program is None:
        _say("\ncertbot is not installed, so what it meets at every boot is not shown")
        return None
    _say(f"\nThe same with certbot at every boot, where the CA allows {LIMIT} certificates a week for one set of names")
    sandbox.proxy.exact_set_limit = LIMIT
    for number in range(1, LIMIT + 2):
        try:
            said = _certbot_at_boot(sandbox, program, number)
        except SandboxError as error:
            # A certbot without its Route 53 plugin, say: nothing that this demo is about.
            _say(f"  {program} does not work here, so this is not shown: {error.message}")
            return None
        _say(f"  instance {number:2}: {'a new certificate' if said is None else 'REFUSED'}")
        if said is not None:
            _say(f"    {said}")
            return Refused(number, said)
    return None


def _certbot_at_boot(sandbox: Sandbox, program: Path, number: int) -> str | None:
    disk = sandbox.folder / f"certbot-{number}"
    environment = clean(
        {**sandbox.environment, "REQUESTS_CA_BUNDLE": str(sandbox.tls.bundle), "PATH": os.environ.get("PATH", "")}
    )
    profile = ["--preferred-profile", "tlsserver"] if sandbox.ca.has_profiles else []
    # A refused nonce is no matter for certbot's own second try, but two in a row are; that is not the point here.
    for _ in range(3):
        done = subprocess.run(
            [str(program), "certonly", "--non-interactive", "--agree-tos", "--register-unsafely-without-email",
             "--dns-route53", "-d", CERTBOT_NAME, "--server", sandbox.proxy.directory_url, *profile,
             "--config-dir", f"{disk}/etc", "--work-dir", f"{disk}/work", "--logs-dir", f"{disk}/logs"],
            env=environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        if done.returncode == 0:
            return None
        words = [line for line in (done.stderr + done.stdout).splitlines() if "too many certificates" in line]
        if words:
            return words[0].strip()
    raise SandboxError((done.stderr.strip().splitlines() or ["no reason given"])[-1][:300])


# The ending.


@dataclass(frozen=True)
class Counted:
    """What it took to serve all instances."""

    booted: list[Boot]
    certificates: list[str]
    orders: int
    acme_requests: int
    route53_calls: int


def _counted(sandbox: Sandbox, booted: list[Boot]) -> Counted:
    return Counted(
        booted=booted,
        certificates=[one.serial for one in sandbox.proxy.issued()],
        orders=sandbox.proxy.orders,
        acme_requests=len(sandbox.desk.calls("acme")),
        route53_calls=len(sandbox.desk.calls("route53")),
    )


def _summary(sandbox: Sandbox, ours: Counted, boots: int, certbot: Refused | None) -> bool:
    seconds = [boot.seconds for boot in ours.booted] or [0.0]
    rows = [
        ("replaced instances that served HTTPS", f"{len(ours.booted)} of {boots}"),
        ("certificates issued for them", str(len(ours.certificates))),
        ("orders at the CA", str(ours.orders)),
        ("requests to the CA", str(ours.acme_requests)),
        ("Route 53 calls", str(ours.route53_calls)),
        (
            "seconds to pull at boot",
            f"median {statistics.median(seconds):.3f}, {min(seconds):.3f} to {max(seconds):.3f}",
        ),
    ]
    if certbot is not None:
        theirs = len(sandbox.proxy.issued()) - len(ours.certificates)
        rows.append(("certbot at every boot", f"{theirs} certificates, refused at replacement {certbot.replacement}"))
    for what, figure in rows:
        _say(f"  {what:38} {figure}")
    served = {boot.serial_number for boot in ours.booted}
    good = ours.orders == len(ours.certificates) == 1 and len(ours.booted) == boots and served <= set(ours.certificates)
    if not good:
        _say("  This is not as it should be: exactly one certificate, served by every instance.")
    return good


def _wait(sandbox: Sandbox) -> None:
    _say("\nIt keeps running until Ctrl-C. In another terminal:\n")
    for variable, value in sandbox.environment.items():
        _say(f"export {variable}={shlex.quote(value)}")
    while True:
        signal.pause()


def _certkeeper(sandbox: Sandbox, *arguments: str) -> int:
    """The operator's own command, as a process of its own."""
    environment = clean({**sandbox.environment, "PATH": os.environ.get("PATH", "")})
    sys.stdout.flush()
    # In a session of its own, so that Ctrl-C does not meet it half started; it is told to end in order instead.
    command = [sys.executable, "-m", "certkeeper", *arguments]
    with subprocess.Popen(command, env=environment, start_new_session=True) as process:
        try:
            return process.wait(timeout=600)
        except BaseException:
            process.terminate()
            raise


def clean(more: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without what would lead a child to another AWS, CA or proxy, and with `more`."""
    return {**{key: value for key, value in os.environ.items() if not key.startswith(STRANGE)}, **more}


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextmanager
def _terminating() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the story as Ctrl-C does, so that nothing is left behind."""

    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
