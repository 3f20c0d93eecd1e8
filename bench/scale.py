"""What an idle tick of the function costs with many names: AWS calls and CPU seconds, by its parts.

    python bench/scale.py [--names 10000] [--runs 5]
    python bench/scale.py --names 10 --memory      as root on Linux: under the share of a CPU that each size of a
                                                   function's memory gets, 1,769 MB being one vCPU

The store is moto's, filled beforehand; no name is due. Each run is a process of its own, as a cold start is. "start"
is what every run pays: the interpreter, the imports, the first client; "beyond start" is the sum of all else. CPU is
user and system time of the process, which others' work on the same cores lengthens: the least is the truest.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3

from certkeeper.adapters.s3_records import S3Records
from certkeeper.core import certificates, index, journal
from certkeeper.core.ari import USUAL_PAUSE, Window
from certkeeper.core.budget import by_certificate
from certkeeper.core.model import Certificate, CertificateRequest, Chain, Sealed, Validity
from certkeeper.sandbox.aws import ACCOUNT, AwsServer
from certkeeper.sandbox.calls import Desk
from certkeeper.sandbox.route53 import HostedZones
from certkeeper.sandbox.story import clean

BUCKET, STORE = "bucket", "s3://bucket/prod"
CA = "https://acme-v02.api.letsencrypt.org/directory"
ROOT = Path(__file__).resolve().parent.parent
RUN = """
import json, os, resource, sys, time
sys.path.insert(0, "lambda")
import handler
from certkeeper import wiring
from certkeeper.core.decision import Ask
wiring.new_aws().client("s3")
marks = [time.process_time()]
real_settings, real_tick, real_watch = wiring.stored_settings, handler.tick, handler.watch
def marked(what):
    def call(*arguments, **named):
        answer = what(*arguments, **named)
        marks.append(time.process_time())
        return answer
    return call
wiring.stored_settings, handler.tick, handler.watch = marked(real_settings), marked(real_tick), marked(real_watch)
class Context:
    def get_remaining_time_in_millis(self):
        return 900_000
out, sys.stdout = sys.stdout, open(os.devnull, "w")
handler.handler({}, Context())
sys.stdout = out
marks.append(time.process_time())
acme = sorted({"acme", "josepy", "cryptography", "dns", "requests"} & set(sys.modules))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"marks": marks, "acme": acme, "peak": peak}))
"""
PERIOD = 100_000  # microseconds, of the scheduler's
ONE_CPU = 1769  # megabytes of a function that has one vCPU (Lambda, "Configure memory")
SIZES = (128, 256, 512, 1024, 1769)
GIGABYTE_SECOND = 0.0000133334  # dollars, arm64


@contextmanager
def share(megabytes: int) -> Iterator[list[str]]:
    """What to put before a command so that it has as much of a CPU as a function of that size has."""
    group = Path("/sys/fs/cgroup/cpu") / f"certkeeper-bench-{os.getpid()}"
    group.mkdir()
    try:
        (group / "cpu.cfs_period_us").write_text(str(PERIOD))
        (group / "cpu.cfs_quota_us").write_text(str(PERIOD * megabytes // ONE_CPU))
        yield ["sh", "-c", f'echo $$ > {group}/tasks && exec "$@"', "sh"]
    finally:
        group.rmdir()


def by_memory(environment: dict[str, str], runs: int) -> None:
    """Start included, since an hourly function is nearly always cold."""
    print(f"{'MB':>5} {'seconds':>8} {'GB-seconds':>11} {'$ a month':>10}")
    for megabytes in SIZES:
        walls, peak = [], 0.0
        with share(megabytes) as prefix:
            for _ in range(runs):
                began = time.monotonic()
                done = subprocess.run(
                    [*prefix, sys.executable, "-c", RUN],
                    cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
                )  # fmt: skip
                walls.append(time.monotonic() - began)
                peak = max(peak, json.loads(done.stdout.splitlines()[-1])["peak"])
        seconds = statistics.median(walls)
        spent = seconds * megabytes / 1024
        print(f"{megabytes:5} {seconds:8.2f} {spent:11.2f} {730 * spent * GIGABYTE_SECOND:10.4f}")
    print(f"peak memory {peak:.0f} MB")


def settings(names: list[str]) -> str:
    head = f'store = "{STORE}"\nbucket_owner = "{ACCOUNT}"\nsealing = "store"\n[ca]\ndirectory = "{CA}"\n'
    return head + "".join(f'[certificates."{name}"]\nidentifiers = ["{name}", "www.{name}"]\n' for name in names)


def issued(names: list[str], now: datetime) -> Iterator[tuple[Certificate, journal.Entry, Window]]:
    """Certificates of 90 days, issued one after another in the last 55: no two are alike in their instants, and what
    those of the last week have spent of the CA's limits is still remembered."""
    for number, name in enumerate(names):
        began = now - timedelta(days=55) * number / len(names)
        began = began.replace(microsecond=0)
        validity = Validity(began, began + timedelta(days=90))
        window = Window(began + timedelta(days=58, hours=18), began + timedelta(days=60, hours=18), now + USUAL_PAUSE)
        pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
        order, identifiers = f"{CA}/order/{number}", (name, f"www.{name}")
        chain = Chain(pem, identifiers, f"{number:032x}", "0" * 64, validity, "YE1", f"aYhb.{number}")
        request = CertificateRequest("-----BEGIN CERTIFICATE REQUEST-----\n", "0" * 64, Sealed("store", b"x" * 240))
        lately = (began,) if now - began < timedelta(days=7) else ()
        spent = by_certificate(CA, identifiers, ("example.com",), order, began) if lately else ()
        certificate = Certificate(
            name, 1, chain, request, CA, f"{CA}/account/1", None, "ecdsa-p256", order, issued=lately
        )
        yield certificate, journal.Entry(revision=1, spent=spent), window


def fill(aws: AwsServer, names: list[str]) -> None:
    """A store in which nothing is due, and an index that knows it."""
    now = datetime.now(UTC).replace(microsecond=0)
    stored = list(issued(names, now))
    for certificate, entry, _ in stored:
        name = certificate.name
        aws.put_object(BUCKET, f"prod/certificates/{name}", certificates.encode(certificate))
        aws.put_object(BUCKET, f"prod/journal/{name}", journal.encode(entry, name))
    os.environ.update(aws.environment)
    records = S3Records(boto3.client("s3"), BUCKET, "prod", ACCOUNT)
    held_at, journaled_at = records.list("certificates/"), records.list("journal/")
    facts = {}
    for certificate, entry, window in stored:
        name, held = certificate.name, certificates.held(certificate)
        assert held is not None
        facts[name] = index.Facts(
            held_at[f"certificates/{name}"],
            journaled_at[f"journal/{name}"],
            replace(held, information=window),
            account_url=certificate.account_url,
            issued=certificate.issued,
            spent=entry.spent,
        )
    index.write(records, index.Index(now, facts), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--memory", action="store_true")
    said = parser.parse_args()
    names = [f"n{number}.example.com" for number in range(said.names)]
    desk = Desk()
    with AwsServer(desk, HostedZones()) as aws:
        aws.create_bucket(BUCKET)
        aws.put_object(BUCKET, "prod/settings.toml", settings(names).encode())
        fill(aws, names)
        environment = {
            **clean(aws.environment), "CERTKEEPER_STORE": STORE, "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        if said.memory:
            by_memory(environment, said.runs)
            desk.stop()
            return
        runs = []
        for _ in range(said.runs):
            before, began = desk.mark(), time.monotonic()
            done = subprocess.run(
                [sys.executable, "-c", RUN], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
            )
            seen = json.loads(done.stdout.splitlines()[-1])
            runs.append((seen["marks"], time.monotonic() - began))
            calls = desk.calls(since=before)
        counts: dict[str, int] = {}
        for call in calls:
            counts[f"{call.service} {call.operation}"] = counts.get(f"{call.service} {call.operation}", 0) + 1
        print(f"{said.names} names, none due; {said.runs} runs; Python {sys.version.split()[0]}")
        listed = ", ".join(f"{name} {n}" for name, n in sorted(counts.items()))
        print(f"AWS calls of one run: {len(calls)} ({listed})")
        print(f"loaded of the ACME stack: {', '.join(seen['acme']) or 'nothing'}")
        for number, part in enumerate(("start", "settings", "tick", "gauges", "log and answer")):
            spent = [marks[number] - (marks[number - 1] if number else 0.0) for marks, _ in runs]
            print(f"{part:15} {statistics.median(spent):.2f} s of CPU (from {min(spent):.2f} to {max(spent):.2f})")
        beyond = [marks[-1] - marks[0] for marks, _ in runs]
        print(f"beyond start    {statistics.median(beyond):.2f} s of CPU (from {min(beyond):.2f} to {max(beyond):.2f})")
        print(f"load            {os.getloadavg()[0]:.1f}")
        print(f"wall            {statistics.median(wall for _, wall in runs):.2f} s")
    desk.stop()


if __name__ == "__main__":
    main()
