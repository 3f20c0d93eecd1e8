"""Servers that verify signatures themselves take ours, and refuse them when anything about them is wrong."""

from __future__ import annotations

import base64
import json
import os
import random
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from certkeeper.client.__main__ import main
from certkeeper.client.aws import Aws
from certkeeper.client.sigv4 import Credentials, encoded_path, signed
from certkeeper.client.wire import Connection
from certkeeper.core.errors import StoreError
from certkeeper.sandbox import parts
from certkeeper.sandbox.processes import Program, free_port, on_free_port
from tests.client.certificates import authority, document, issue

pytestmark = pytest.mark.live
BUCKET, PREFIX, REGION = "certs-123456789012", "prod", "eu-west-1"
ACCESS_KEY_ID, SECRET_ACCESS_KEY = "AKIDEXAMPLE", "secret/access+key"
# All that can be in a file's name, and that signers get wrong.
ODD = "abzAZ019 +~-_.!*'()&$@=;:,?#%<>[]{}|^`\"\\äß漢€😀"


@dataclass
class Server:
    """Where a server is, and with what to sign for it."""

    url: str
    folder: Path
    access_key_id: str = ACCESS_KEY_ID
    secret_access_key: str = SECRET_ACCESS_KEY

    def environment(self, **changes: str) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_REGION": REGION,
            **changes,
        }


@contextmanager
def serving(name: str, *command: str) -> Iterator[str]:
    """The URL of a server with `PORT` in its command line, until the end of the block."""
    program, port = Program(name), 0

    def start() -> None:
        nonlocal port
        port = free_port()
        program.start([word.replace("PORT", str(port)) for word in command])
        program.wait_until(lambda: is_open(port), "listening", 60)

    try:
        on_free_port(start)
        yield f"http://127.0.0.1:{port}"
    finally:
        program.close()


def is_open(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """rclone's S3 server over a folder."""
    program, folder = parts.find("rclone"), tmp_path_factory.mktemp("rclone")
    assert program is not None, "scripts/get-peers brings rclone"
    (folder / BUCKET).mkdir()
    credentials = f"{ACCESS_KEY_ID},{SECRET_ACCESS_KEY}"
    command = ["serve", "s3", "--addr", "127.0.0.1:PORT", "--auth-key", credentials, "--vfs-cache-mode", "off"]
    command += ["--dir-cache-time", "0s", "--config", "/dev/null", str(folder)]
    with serving("rclone", str(program), *command) as url:
        yield Server(url, folder / BUCKET)


def client_of(session: boto3.Session, service: Any, url: str) -> Any:
    return session.client(service, endpoint_url=url)


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """moto's server with a user who may do what an instance may; from then on it verifies every request."""
    folder = tmp_path_factory.mktemp("moto")
    with serving("moto", sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "PORT") as url:
        session = boto3.Session("anybody", "anything", region_name=REGION)
        iam, s3, kms = (client_of(session, service, url) for service in ("iam", "s3", "kms"))
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        kms_key_arn = kms.create_key()["KeyMetadata"]["Arn"]
        pair = issue("example.com")
        context = {"certkeeper-name": "example.com"}
        sealed = kms.encrypt(KeyId=kms_key_arn, Plaintext=pair.private_key_pem.encode(), EncryptionContext=context)
        changes = {
            "kms_key_arn": kms_key_arn,
            "sealed_private_key": base64.b64encode(sealed["CiphertextBlob"]).decode(),
        }
        s3.put_object(Bucket=BUCKET, Key=f"{PREFIX}/certificates/example.com", Body=document(pair, **changes))
        iam.create_user(UserName="web")
        allowed = [{"Effect": "Allow", "Action": ["s3:GetObject", "kms:Decrypt"], "Resource": "*"}]
        policy = json.dumps({"Version": "2012-10-17", "Statement": allowed})
        iam.put_user_policy(UserName="web", PolicyName="read", PolicyDocument=policy)
        made = iam.create_access_key(UserName="web")["AccessKey"]
        switch = Connection(url, 10.0, None)
        switch.request("POST", "/moto-api/reset-auth", {"content-type": "text/plain"}, b"0", 1000)
        switch.close()
        yield Server(url, folder, made["AccessKeyId"], made["SecretAccessKey"])


@pytest.fixture(params=["rclone", "moto"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    if request.param == "rclone":
        path = found.folder / PREFIX / "certificates" / "example.com"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(document(issue("example.com"), sealing="store"))
    return found


def pull(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: str) -> int:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in server.environment(**changes).items():
        monkeypatch.setenv(name, value)
    (folder / "roots.pem").write_text(authority().root_pem)
    arguments = ["--from", f"s3://{BUCKET}/{PREFIX}", "--into", f"{folder}/into", "--roots", f"{folder}/roots.pem"]
    return main(["example.com", "--for", "example.com", *arguments])


def test_a_pull_is_let_in(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = pull(server, tmp_path, monkeypatch)

    assert code == 0
    assert (tmp_path / "into" / "live" / "example.com" / "privkey.pem").exists()


@pytest.mark.parametrize(
    "changes",
    [{"AWS_SECRET_ACCESS_KEY": "another"}, {"AWS_ACCESS_KEY_ID": "AKIDOTHER"}],
    ids=lambda changes: str(next(iter(changes))),
)
def test_wrong_credentials_are_refused(
    server: Server, changes: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    code = pull(server, tmp_path, monkeypatch, **changes)

    assert code == 1
    assert (
        f"certkeeper-pull: error: example.com: s3://{BUCKET}/{PREFIX}/certificates/example.com: "
        in capfd.readouterr().err
    )


@pytest.mark.parametrize("tampered", ["", "path", "date", "signed header"])
def test_a_request_that_was_changed_after_signing_is_refused(server: Server, tampered: str) -> None:
    connection = Connection(server.url, 10.0, None)
    path = f"/{BUCKET}/{PREFIX}/certificates/example.com"
    who = Credentials(server.access_key_id, server.secret_access_key, "")
    named = {"host": connection.host_header, "x-amz-expected-bucket-owner": "123456789012"}
    ready = signed("GET", path, named, b"", who, (REGION, "s3"), time.time())
    if tampered == "path":
        path = path.replace("example", "example2")
    elif tampered == "date":
        ready["x-amz-date"] = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() - 5))
    elif tampered:
        ready["x-amz-expected-bucket-owner"] = "210987654321"

    answer = connection.request("GET", path, ready, b"", 1 << 20)

    connection.close()
    assert answer.status == (403 if tampered else 200)


def test_odd_names_are_found_as_they_are(rclone: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in rclone.environment().items():
        monkeypatch.setenv(name, value)
    dice = random.Random(1)
    aws = Aws(REGION, "", print)
    for _ in range(40):
        name = "x" + "".join(dice.choice(ODD) for _ in range(dice.randint(1, 20))) + "x"
        (rclone.folder / name).write_text(name)

        found = aws.document(BUCKET, name, "")

        assert found is not None
        assert found[0].decode() == name
    with pytest.raises(StoreError):
        aws.document(BUCKET, "not there", "")
    aws.close()
    assert encoded_path("/" + ODD).isascii()
