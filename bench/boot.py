"""What a pull costs, side by side with other ways to fetch a file from AWS: whole processes, over TLS, as ratios.

    python bench/boot.py                        15 rounds each on loopback and with round trips of 1 and 10 ms
    python bench/boot.py --rounds 31 --python /usr/bin/python3.11 --round-trip 0

S3, KMS, Secrets Manager and the instance metadata service are one nginx whose answers never change; it verifies no
signature, and is no bottleneck. In every round each client runs once, in an order of its own; a ratio is the median of
the rounds' ratios. Clients that are not installed are left out: `scripts/get-peers --aws` brings AWS's own.
A relay adds the round trips; those of TCP's own greeting are not in it. They are measured twice: to AWS alone, as on an
instance, whose metadata service is on its own host, and to the metadata service as well.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import multiprocessing
import os
import platform
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from certkeeper.core.document import encode, written
from certkeeper.deployment.one_file import shrunk
from certkeeper.sandbox import parts

CURL, PULL = "curl, one root", "certkeeper-pull"
REGION, OWNER = "eu-west-1", "123456789012"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
ROLE = {
    "AccessKeyId": "AKIDEXAMPLE",
    "SecretAccessKey": "secret",
    "Token": "token",
    "Expiration": "2099-01-01T00:00:00Z",
}

# Runs a command and says what it took. A process of its own since a child's peak memory counts its parent's as well.
METER = """\
import os, sys, time
for line in sys.stdin:
    command, *variables = line.rstrip("\\n").split("\\0\\0")
    words, environment = command.split("\\0"), dict(one.split("=", 1) for one in variables)
    silent = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
    begin = time.perf_counter()
    pid = os.posix_spawn(words[0], words, environment, file_actions=silent)
    _, status, used = os.wait4(pid, 0)
    wall = time.perf_counter() - begin
    print(status, wall * 1e3, (used.ru_utime + used.ru_stime) * 1e3, used.ru_maxrss / 1024, flush=True)
"""

NGINX = """\
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_requests 100000;
    default_type application/octet-stream;
    types {{ }}
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    map $http_x_amz_target $answer {{ default /secret; TrentService.Decrypt /opened; }}
    server {{
        listen 127.0.0.1:{tls_port} ssl;
        ssl_certificate {folder}/server.pem;
        ssl_certificate_key {folder}/server.key;
        ssl_protocols TLSv1.3;
        root {folder}/objects;
        error_page 403 405 =200 $answer;
    }}
    server {{
        listen 127.0.0.1:{imds_port};
        location = /latest/api/token {{ return 200 imds-token; }}
        location = /latest/meta-data/placement/region {{ return 200 eu-west-1; }}
        location = /latest/meta-data/placement/availability-zone {{ return 200 eu-west-1a; }}
        location = /latest/meta-data/iam/security-credentials/ {{ return 200 web; }}
        location / {{ root {folder}/imds; }}
    }}
}}
"""


@dataclass(frozen=True)
class Taken:
    """One run: wall and CPU in milliseconds, peak memory in MB."""

    wall: float
    cpu: float
    memory: float


@dataclass(frozen=True)
class Client:
    """A command, and the folder that has to be gone before it runs."""

    words: list[str]
    environment: dict[str, str]
    fresh: Path | None = None


class Meter:
    """A small process that runs commands."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["/usr/bin/python3", "-I", "-S", "-c", METER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def take(self, client: Client) -> Taken:
        if client.fresh:
            shutil.rmtree(client.fresh, ignore_errors=True)
        variables = [f"{name}={value}" for name, value in client.environment.items()]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\0\0".join(["\0".join(client.words), *variables]) + "\n")
        self._process.stdin.flush()
        status, *numbers = map(float, self._process.stdout.readline().split())
        if status:
            raise SystemExit(f"failed: {' '.join(client.words)}")
        return Taken(*numbers)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class Aws:
    """The servers' files, and where they listen."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tls_port, self.imds_port = free_port(), free_port()
        self.store = "s3://certs-123456789012/prod"
        root = trustme.CA(key_type=trustme.KeyType.RSA)
        child = root.create_child_ca(key_type=trustme.KeyType.RSA)
        server = child.issue_cert("localhost", "127.0.0.1", key_type=trustme.KeyType.RSA)
        site = child.issue_cert(
            "example.com", not_after=datetime.now(UTC) + timedelta(days=60), key_type=trustme.KeyType.ECDSA
        )
        chain = "".join(block.bytes().decode() for block in site.cert_chain_pems)
        private_key = pkcs8(site.private_key_pem.bytes())
        root.cert_pem.write_to_path(folder / "root.pem")
        (folder / "bundle.pem").write_bytes(Path(BUNDLE).read_bytes() + root.cert_pem.bytes())
        self._hashed(folder / "roots")
        (folder / "server.pem").write_bytes(b"".join(block.bytes() for block in server.cert_chain_pems))
        server.private_key_pem.write_to_path(folder / "server.key")
        document = encode(fields_of(chain))
        objects = folder / "objects"
        for name, data in {
            "certs-123456789012/prod/certificates/example.com": document,
            "certs-123456789012/fullchain.pem": chain.encode(),
            "certs-123456789012/privkey.pem": private_key,
            "opened": json.dumps({"Plaintext": base64.b64encode(private_key).decode()}).encode(),
            "secret": json.dumps({"SecretString": document.decode(), "VersionId": "1"}).encode(),
        }.items():
            (objects / name).parent.mkdir(parents=True, exist_ok=True)
            (objects / name).write_bytes(data)
        role = folder / "imds" / "latest" / "meta-data" / "iam" / "security-credentials"
        role.mkdir(parents=True)
        (role / "web").write_text(json.dumps({"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "x"} | ROLE))
        names = {"folder": folder, "tls_port": self.tls_port, "imds_port": self.imds_port}
        (folder / "nginx.conf").write_text(NGINX.format(**names))

    def _hashed(self, folder: Path) -> None:
        """What a distribution keeps beside its bundle: a folder in which OpenSSL finds a root by its hash."""
        shutil.copytree("/etc/ssl/certs", folder, symlinks=True)
        command = ["openssl", "x509", "-hash", "-noout", "-in", str(self.folder / "root.pem")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        (folder / f"{done.stdout.strip()}.0").symlink_to(self.folder / "root.pem")

    @contextmanager
    def serving(self) -> Iterator[None]:
        """nginx, until the end of the block."""
        program = parts.find("nginx")
        if program is None:
            raise SystemExit("this needs nginx")
        with subprocess.Popen([str(program), "-c", f"{self.folder}/nginx.conf", "-p", str(self.folder)]) as nginx:
            try:
                wait_for(self.tls_port)
                wait_for(self.imds_port)
                yield
            finally:
                nginx.terminate()


def pkcs8(pem: bytes) -> bytes:
    """A private key as the store has it."""
    command = ["openssl", "pkcs8", "-topk8", "-nocrypt"]
    return subprocess.run(command, input=pem, capture_output=True, check=True).stdout


def fields_of(chain: str) -> dict[str, object]:
    """A document of the usual size."""
    now = datetime.now(UTC).replace(microsecond=0)
    return {
        "format": 1,
        "name": "example.com",
        "revision": int(now.timestamp()),
        "write_id": "0123456789abcdef",
        "identifiers": ["example.com"],
        "serial_number": "0a",
        "not_before": written(now),
        "not_after": written(now + timedelta(days=60)),
        "spki_sha256": "00" * 32,
        "fullchain_pem": chain,
        "csr_pem": chain,
        "ca_directory": "https://ca.test/directory",
        "sealing": "kms",
        "kms_key_arn": f"arn:aws:kms:{REGION}:{OWNER}:key/00000000-0000-0000-0000-000000000001",
        "sealed_private_key": base64.b64encode(bytes(400)).decode(),
        "issued": [written(now)],
    }


def clients(aws: Aws, tls_port: int, imds_port: int, python: str) -> dict[str, Client]:
    """Everything that is installed here; the first one is the yardstick."""
    url, imds, into = f"https://localhost:{tls_port}", f"http://127.0.0.1:{imds_port}", aws.folder / "letsencrypt"
    bare = {"PATH": os.environ["PATH"], "HOME": str(aws.folder)}
    usual = {**bare, "AWS_ENDPOINT_URL": url, "AWS_EC2_METADATA_SERVICE_ENDPOINT": imds, "AWS_DEFAULT_REGION": REGION}
    usual["AWS_ENDPOINT_URL_KMS"] = f"https://127.0.0.1:{tls_port}"  # as on EC2: a host, and so a handshake, of its own
    hashed = {**usual, "SSL_CERT_DIR": str(aws.folder / "roots")}
    one_root = {**usual, "AWS_CA_BUNDLE": f"{aws.folder}/root.pem", "AWS_METADATA_SERVICE_TIMEOUT": "10"}

    def pull(into: str, source: str = aws.store) -> list[str]:
        """As user data installs it: made for one command line."""
        words = ["example.com", "--for", "example.com", "--region", REGION, "--from", source]
        program = aws.folder / f"certkeeper-pull-{len(list(aws.folder.glob('certkeeper-pull*')))}"
        program.write_text(shrunk([*words, "--bucket-owner", OWNER, "--into", f"{aws.folder}/{into}"]))
        return [python, "-I", "-S", str(program)]

    def curl(roots: str) -> Client:
        words = ["--aws-sigv4", f"aws:amz:{REGION}:s3", "--user", "AKIDEXAMPLE:secret"]
        words += ["-H", "x-amz-security-token: token", "-H", f"x-amz-content-sha256: {EMPTY}", "--cacert", roots]
        words += ["-o", f"{aws.folder}/got", f"{url}/certs-123456789012/prod/certificates/example.com"]
        return Client([which("curl"), "-sSf", *words], bare)

    def two_copies(program: Path) -> Client:
        copies = [f"{program} s3 cp s3://certs-123456789012/{name} {aws.folder}/" for name in FILES]
        return Client(["/bin/sh", "-ec", " && ".join(copies)], one_root)

    FILES = ("fullchain.pem", "privkey.pem")  # noqa: N806 - what the usual recipe copies
    found = {
        CURL: curl(f"{aws.folder}/root.pem"),
        "curl, the usual bundle": curl(f"{aws.folder}/bundle.pem"),
        "python -I -S -c pass": Client([python, "-I", "-S", "-c", "pass"], bare),
        PULL: Client(pull("letsencrypt"), hashed, into),
        f"{PULL}, roots in one file": Client(
            pull("letsencrypt"), {**usual, "SSL_CERT_FILE": f"{aws.folder}/bundle.pem"}, into
        ),
        f"{PULL}, unchanged": Client(pull("held"), hashed),
        f"{PULL}, Secrets Manager": Client(pull("letsencrypt", "secretsmanager:prod"), hashed, into),
    }
    for version in ("v1", "v2"):
        program_of_aws = parts.find(f"aws-{version}")
        if program_of_aws:
            found[f"2 x aws s3 cp, CLI {version}"] = two_copies(program_of_aws)
            secret = [str(program_of_aws), "secretsmanager", "get-secret-value", "--secret-id", "prod/example.com"]
            found[f"aws secretsmanager, CLI {version}"] = Client(secret, one_root)
    aws_python = ROOT_OF_PEERS / "bin" / "python"
    if aws_python.exists():
        call = "get_object(Bucket='certs-123456789012', Key='prod/certificates/example.com')['Body'].read()"
        found["boto3"] = Client([str(aws_python), "-c", f"import boto3; boto3.client('s3').{call}"], one_root)
        session = f"import botocore.session; botocore.session.get_session().create_client('s3').{call}"
        found["botocore"] = Client([str(aws_python), "-c", session], one_root)
    return found


ROOT_OF_PEERS = Path(__file__).parent.parent / ".parts" / "aws"


def which(program: str) -> str:
    """A program's path; this benchmark is nothing without it."""
    found = shutil.which(program)
    if found is None:
        raise SystemExit(f"this needs {program}")
    return found


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_for(port: int) -> None:
    """Until somebody listens there."""
    for _ in range(500):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.1):
            return
        time.sleep(0.02)
    raise SystemExit(f"nobody listens at port {port}")


@contextmanager
def relayed(port: int, round_trip: float) -> Iterator[int]:
    """A port that leads to another one, half a round trip (in milliseconds) away."""
    if not round_trip:
        yield port
        return
    here = free_port()
    relay = multiprocessing.get_context("spawn").Process(target=relay_forever, args=(here, port, round_trip / 2e3))
    relay.start()
    try:
        wait_for(here)
        yield here
    finally:
        relay.terminate()
        relay.join()


def relay_forever(here: int, there: int, delay: float) -> None:
    """Passes bytes on in both directions, each `delay` seconds late."""

    async def passing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(65536):
            loop.call_later(delay, writer.write, data)
        loop.call_later(delay, writer.close)

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", there)
        for one in (writer, onward_writer):
            one.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(ConnectionError):
            await asyncio.gather(passing(reader, onward_writer), passing(onward_reader, writer))

    async def serve() -> None:
        server = await asyncio.start_server(attend, "127.0.0.1", here)
        async with server:
            await server.serve_forever()

    asyncio.run(serve())


def measured(aws: Aws, round_trips: tuple[float, float], rounds: int, python: str, only: str) -> dict[str, list[Taken]]:
    """All clients, `rounds` times, each round in an order of its own; `round_trips` are those to AWS and to IMDS."""
    with ExitStack() as stack:
        ports = zip((aws.tls_port, aws.imds_port), round_trips, strict=True)
        found = clients(aws, *(stack.enter_context(relayed(*one)) for one in ports), python)
        found = {name: one for name, one in found.items() if only in name or name in (CURL, PULL)}
        meter = Meter()
        stack.callback(meter.close)
        for one in found.values():
            meter.take(one)  # warm, and the installation that is found unchanged
        taken: dict[str, list[Taken]] = {name: [] for name in found}
        dice = random.Random(rounds)  # noqa: S311 - an order, no secret
        for _ in range(rounds):
            for name in dice.sample(list(found), len(found)):
                taken[name].append(meter.take(found[name]))
    return taken


def rows(taken: dict[str, list[Taken]]) -> Iterator[str]:
    """A table in Markdown."""
    yield "| client | wall ms | CPU ms | peak MB | wall x curl | CPU x curl | wall x pull |"
    yield "|---|---|---|---|---|---|---|"
    for name, runs in taken.items():
        cells = [statistics.median(getattr(one, what) for one in runs) for what in ("wall", "cpu", "memory")]
        ratios = [
            statistics.median(getattr(one, what) / getattr(other, what) for one, other in zip(runs, base, strict=True))
            for what, base in (("wall", taken[CURL]), ("cpu", taken[CURL]), ("wall", taken[PULL]))
        ]
        yield (
            f"| {name} | "
            + " | ".join(f"{one:.1f}" for one in cells)
            + "".join(f" | {one:.2f}" for one in ratios)
            + " |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--round-trip", type=float, action="append", help="in milliseconds; may be repeated")
    parser.add_argument("--python", default="/usr/bin/python3", help="what runs certkeeper-pull")
    parser.add_argument("--only", default="", help="clients with this in their name, beside curl and our own")
    said = parser.parse_args()
    version = subprocess.run([said.python, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} CPUs, {platform.platform()}, {version}, n={said.rounds}")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: S103 - nginx's worker is another user; all private keys are throw-away
        aws = Aws(Path(folder))
        with aws.serving():
            for far in said.round_trip or [0, 1, 10]:
                for round_trips in dict.fromkeys([(far, 0.0), (far, far)]):
                    print("\nround trip to AWS {:g} ms, to the metadata service {:g} ms\n".format(*round_trips))
                    for row in rows(measured(aws, round_trips, said.rounds, said.python, said.only)):
                        print(row, flush=True)


if __name__ == "__main__":
    sys.exit(main())
