"""Law 5 on real parts: a clear private key is nowhere but in memory, and in the privkey.pem of who may open it."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from certkeeper.core.model import Sealed
from certkeeper.deployment.one_file import one_file
from certkeeper.sandbox.calls import Call, Fault, Phase
from certkeeper.sandbox.stack import Sandbox
from tests.live.canaries import seen
from tests.live.keepers import ROOT
from tests.live.operators import Operator, clean

pytestmark = pytest.mark.live


def certificate_key(operator: Operator) -> Sealed:
    certificate = operator.certificate()
    assert certificate is not None
    return certificate.request.private_key


def opened(operator: Operator) -> list[bytes]:
    """All clear private keys there are: of the certificate, of what is under way, of the account."""
    pending, context = operator.journal().pending, {"certkeeper-name": operator.name}
    sealed = [certificate_key(operator)] if operator.certificate() else []
    sealed += [pending.request.private_key] if pending else []
    return [operator.opened_account_key(), *(operator.opened(one, context) for one in sealed)]


def test_the_search_finds_a_key_in_any_shape(operator: Operator) -> None:
    operator.renew()
    (_, clear) = opened(operator)
    body = b"".join(clear.split(b"\n")[1:-2])

    for text in (clear, body, base64.b64decode(body), base64.b64decode(body).hex().encode(), base64.b64encode(clear)):
        assert seen([clear], b"before " + text + b" after")
    assert seen([clear], repr(clear).encode())
    assert not seen([clear], operator.opened_account_key())


def test_nothing_stored_said_or_written_by_renew_holds_a_clear_private_key(operator: Operator, tmp_path: Path) -> None:
    stored: list[bytes] = []
    left: list[Path] = []

    def watcher(phase: Phase, call: Call) -> None:
        if (phase, call.operation) == ("after", "PutObject"):
            stored.extend(operator.objects().values())
        left.extend(path for path in tmp_path.rglob("*") if path.is_file())

    with operator.watching(watcher):
        done = subprocess.run(
            [sys.executable, "-m", "certkeeper", "renew", "--verbose"],
            env={**operator.environment, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )

    assert done.returncode == 0
    assert b"finalizing" in done.stderr
    keys = opened(operator)
    assert len(keys) == 2
    assert len(stored) > 10
    assert [seen(keys, one) for one in (*stored, done.stdout, done.stderr)] == [[]] * (len(stored) + 2)
    assert left == []


@pytest.mark.parametrize(
    ("service", "operation", "contains"),
    [
        ("kms", "Decrypt", ""),
        ("acme", "newOrder", ""),
        ("acme", "finalize", ""),
        ("acme", "certificate", ""),
        ("route53", "ChangeResourceRecordSets", ""),
        ("s3", "PutObject", "/certificates/"),
    ],
)
def test_no_error_quotes_a_clear_private_key(operator: Operator, service: str, operation: str, contains: str) -> None:
    contains = f"{operator.prefix}{contains}" if contains else ""
    desk = operator.acme if service == "acme" else operator.sandbox.desk
    with desk.fault(Fault("refuse", service, operation, contains, status=403, code="AccessDenied")):
        said = operator.run("renew", "--verbose")

    assert said.status == 1
    assert "error: " in said.talk
    keys = opened(operator)
    assert keys
    everything = [said.data.encode(), said.talk.encode(), *operator.objects().values()]
    assert [seen(keys, one) for one in everything] == [[]] * len(everything)


def test_another_encryption_context_or_none_opens_nothing(operator: Operator) -> None:
    operator.renew()
    sealed, account = certificate_key(operator), operator.account()
    account_key = base64.b64decode(account["sealed_account_key"])
    good = {"certkeeper-name": operator.name}
    assert operator.opened(sealed, good).startswith(b"-----BEGIN PRIVATE KEY-----")

    for blob, context in (
        (sealed.blob, {}),
        (sealed.blob, {"certkeeper-name": "example.com"}),
        (sealed.blob, {"certkeeper-account": account["ca_directory"]}),
        (sealed.blob, {**good, "more": "more"}),
        (account_key, {}),
        (account_key, good),
        (account_key, {"certkeeper-account": "https://example.com/directory"}),
    ):
        with pytest.raises(ClientError) as caught:
            operator.kms().decrypt(CiphertextBlob=blob, EncryptionContext=context)

        assert caught.value.response["Error"]["Code"] == "InvalidCiphertextException"


# A hook of the client that notes everything a program started by it, or anybody on the machine, could see of it.
LOOK_AROUND = (
    "{ tr '\\0' '\\n' </proc/$PPID/cmdline; tr '\\0' '\\n' </proc/$PPID/environ; env; cat /proc/self/fd/[3-9];"
    " } >>SEEN 2>/dev/null; true"
)


def test_the_client_writes_the_private_key_to_privkey_pem_alone(
    sandbox: Sandbox, operator: Operator, tmp_path: Path
) -> None:
    operator.renew()
    client, disk, temporary, notes = (tmp_path / name for name in ("client", "disk", "temporary", "notes"))
    client.write_text(one_file())
    temporary.mkdir()
    hook = LOOK_AROUND.replace("SEEN", str(notes))
    command = [
        sys.executable, "-I", "-S", str(client), operator.name, "--from", operator.store, "--into", str(disk),
        "--for", operator.name, "--roots", str(sandbox.roots), "--check", hook, "--reload", hook,
    ]  # fmt: skip
    environment = clean({**sandbox.instance_environment, "TMPDIR": str(temporary)})

    done = subprocess.run(command, env=environment, capture_output=True, check=False)

    assert done.returncode == 0, done.stderr
    keys = opened(operator)
    assert operator.name.encode() in notes.read_bytes()
    assert b"TMPDIR" in notes.read_bytes()
    assert [seen(keys, one) for one in (done.stdout, done.stderr, notes.read_bytes())] == [[], [], []]
    assert list(temporary.iterdir()) == []
    files = [path for path in disk.rglob("*") if path.is_file() and not path.is_symlink()]
    holding = [path for path in files if seen(keys, path.read_bytes())]
    assert [path.name for path in holding] == ["privkey.pem"]
    assert [oct(path.stat().st_mode & 0o777) for path in holding] == ["0o600"]
    assert seen(keys[1:], holding[0].read_bytes())
