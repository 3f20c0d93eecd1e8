"""How long a renewal takes and what it asks of Route 53, side by side with certbot and lego on the same stack.

    python bench/renewal.py            propagation of 5 s, Route 53 at 5 requests a second
    python bench/renewal.py --fast     no delay, no throttle

Every client is run as its users run it, as a process of its own; the sandbox counts. Peers that are not installed are
left out (scripts/get-peers --lego brings them). Ratios are to certkeeper in the same run. Each client issues one
certificate before it is measured, so that its modules are compiled and on hand.

A peer that fails is run again, as its users would: its failed runs are counted, their time and calls with them. One
that has failed three times in a row gives up; its row then tells how far it came.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from certkeeper.sandbox import parts
from certkeeper.sandbox.stack import Sandbox
from certkeeper.sandbox.story import clean

# Pebble refuses one nonce in twenty, and certbot gives up at the second refusal in a row.
PEERS_TRIES = 3

Names = Sequence[Sequence[str]]
CASES: dict[str, Names] = {
    "1 name": [["www.example.com"]],
    "apex + wildcard": [["example.com", "*.example.com"]],
    "20 certificates": [[f"host{n}.example.com"] for n in range(20)],
    "50 names": [[f"host{n}.example.com" for n in range(50)]],
}


@dataclass(frozen=True)
class Row:
    """What one client took for one case."""

    client: str
    case: str
    seconds: float
    route53: int
    throttled: int
    acme: int
    issued: int
    failed: int
    gave_up: bool


class GivenUpError(Exception):
    """A client that does not get through, with the number of its failed runs."""

    def __init__(self, failed: int) -> None:
        super().__init__(failed)
        self.failed = failed


def certkeeper(sandbox: Sandbox, names: Names, folder: Path) -> int:
    """One run for all."""
    sandbox.settings({f"certificate-{n}": one for n, one in enumerate(names)})
    return _run([sys.executable, "-m", "certkeeper", "renew"], sandbox.environment)


def certbot(sandbox: Sandbox, names: Names, folder: Path) -> int:
    """One run for each certificate, as certbot has it."""
    program, failed = parts.find("certbot"), 0
    for one in names:
        domains = [word for name in one for word in ("-d", name)]
        failed += _run(
            [str(program), "certonly", "-n", "--agree-tos", "--register-unsafely-without-email", "--dns-route53",
             "--preferred-profile", "tlsserver", "--server", sandbox.proxy.directory_url, *domains,
             "--config-dir", f"{folder}/etc", "--work-dir", f"{folder}/work", "--logs-dir", f"{folder}/logs"],
            {**sandbox.environment, "REQUESTS_CA_BUNDLE": str(sandbox.tls.bundle)},
            PEERS_TRIES,
            failed,
        )  # fmt: skip
    return failed


def lego(sandbox: Sandbox, names: Names, folder: Path) -> int:
    """One run for each certificate."""
    program, failed = parts.find("lego"), 0
    for one in names:
        domains = [word for name in one for word in ("--domains", name)]
        failed += _run(
            [str(program), "--accept-tos", "--email", "ops@example.com", "--dns", "route53", "--path", str(folder),
             "--server", sandbox.proxy.directory_url, "--dns.resolvers", sandbox.dns.address,
             "--dns.propagation-disable-ans", *domains, "run", "--profile", "tlsserver"],
            {**sandbox.environment, "LEGO_CA_CERTIFICATES": str(sandbox.tls.bundle), "AWS_POLLING_INTERVAL": "1"},
            PEERS_TRIES,
            failed,
        )  # fmt: skip
    return failed


CLIENTS: dict[str, Callable[[Sandbox, Names, Path], int]] = {
    "certkeeper": certkeeper,
    "certbot": certbot,
    "lego": lego,
}


def measured(client: str, case: str, fast: bool) -> Row:
    """One client, one case, on a stack of its own."""
    with Sandbox() as sandbox, tempfile.TemporaryDirectory() as folder:
        if not fast:
            sandbox.zones.propagation, sandbox.zones.requests_per_second, sandbox.zones.burst = 5, 5, 5
        begin, gave_up = time.perf_counter(), False
        try:
            failed = CLIENTS[client](sandbox, CASES[case], Path(folder))
        except GivenUpError as error:
            failed, gave_up = error.failed, True
        seconds = time.perf_counter() - begin
        calls = sandbox.desk.calls("route53")
        return Row(
            client=client,
            case=case,
            seconds=seconds,
            route53=len(calls),
            throttled=sum(call.fault == "Throttling" for call in calls),
            acme=len(sandbox.desk.calls("acme")),
            issued=len(sandbox.proxy.issued()),
            failed=failed,
            gave_up=gave_up,
        )


def _run(command: list[str], environment: dict[str, str], tries: int = 1, before: int = 0) -> int:
    """How many runs failed before one did not. `before` is how many others have, for whoever gives up here."""
    compiling = {key: value for key, value in clean(environment).items() if key != "PYTHONDONTWRITEBYTECODE"}
    for failed in range(tries):
        done = subprocess.run(command, env=compiling, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return failed
        print(f"  {Path(command[0]).name} failed: {done.stderr.strip()[-300:]}", file=sys.stderr)
    raise GivenUpError(before + tries)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="no propagation delay, no throttle")
    parser.add_argument("--case", choices=CASES, action="append", help="only these")
    said = parser.parse_args()
    clients = [one for one in CLIENTS if one == "certkeeper" or parts.find(one)]
    for client in clients:
        measured(client, "1 name", fast=True)
    head = (
        ("wall s", 8),
        ("ratio", 6),
        ("Route 53", 9),
        ("throttled", 9),
        ("ACME", 5),
        ("issued", 6),
        ("failed runs", 11),
    )
    print(f"{'case':16} {'client':11} " + " ".join(f"{word:>{width}}" for word, width in head))
    for case in said.case or CASES:
        ours = 0.0
        for client in clients:
            row = measured(client, case, said.fast)
            ours = ours or row.seconds
            print(
                f"{case:16} {client:11} {row.seconds:8.1f} {row.seconds / ours:6.1f} {row.route53:9} "
                f"{row.throttled:9} {row.acme:5} {row.issued:6} {row.failed:11}{' gave up' if row.gave_up else ''}",
                flush=True,
            )


if __name__ == "__main__":
    main()
