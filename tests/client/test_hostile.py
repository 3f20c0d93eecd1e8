"""Whatever AWS, the metadata service or the store may say, seeded: one clean error for it, nothing outside INTO, and
nothing that would stop a later pull."""

from __future__ import annotations

import json
import os
import random
import shutil
import ssl
from functools import partial

import pytest

from certkeeper.client.wire import Connection
from tests.client.certificates import document, issue
from tests.client.conftest import OBJECT, Instance
from tests.client.loopback_aws import Reply, Seen

SEEDS = int(os.environ.get("CERTKEEPER_FUZZ", "40"))  # a longer run is by hand
ODD: list[object] = [
    None, True, 0, -1, 10**400, 1.5, "", "\x00", "../../../etc/passwd", "\ud800", "x" * 70000, [], [[]], {}, ["*"],
    "kms", [5], ["\ud800"], "store",
    "-----BEGIN PRIVATE KEY-----", "-----BEGIN CERTIFICATE-----\n", "AAAA", "arn:aws:kms:::", "\u202e", "é",
]  # fmt: skip


_PATIENT = Connection.__init__


def quick(self: Connection, url: str, seconds: float, context: ssl.SSLContext | None) -> None:
    """A connection that waits for nobody longer than a moment."""
    _PATIENT(self, url, 0.2, context)


class Deaf(list[str]):
    """The loopback AWS rightly complains about regions that we make up."""

    def append(self, _: str) -> None:
        pass


def bent(dice: random.Random, data: bytes) -> bytes:
    """A document with a flaw: torn, flipped, or with fields of any kind."""
    kind = dice.randrange(4)
    if kind == 0:
        return data[: dice.randrange(len(data))]
    if kind == 1:
        place = dice.randrange(len(data))
        return data[:place] + dice.randbytes(dice.randrange(1, 5)) + data[place + 1 :]
    fields = json.loads(data)
    for _ in range(dice.randrange(1, 3)):
        fields[dice.choice(sorted(fields))] = dice.choice(ODD)
    return json.dumps(fields).encode()


def reply(dice: random.Random, seen: Seen, where: str, good: bytes) -> Reply | None:
    """An answer nobody expects, to any request or those to one service; None for the ordinary one."""
    if where not in seen.path + seen.headers.get("x-amz-target", "") or dice.random() < 0.4:
        return None
    bodies = [b"", b"{}", b"[]", b'{"__type": 5}', b"<Code>" + dice.randbytes(40), dice.randbytes(300), b"[" * 5000]
    bodies += [
        *[good] * 5,
        b'{"AccessKeyId": "a\\r\\nx: y", "SecretAccessKey": [], "Token": {}}',
        b'{"Plaintext": "====="}',
        b"\xff" * 9,
    ]
    headers = {
        "ETag": dice.choice(["", '"x"', "\x7f", "é", "a\nb", "x" * 9000]),
        "x-amz-bucket-region": dice.choice(["", "us-east-1", "evil.example/", "é", "--"]),
        "Date": dice.choice(["", "yesterday", "Mon, 00 Foo 0000 99:99:99 GMT", "Mon, 01 Jan 0001 00:00:00 GMT"]),
        "Content-Length": dice.choice(["", "-1", "99999999999", "x", "5"]),
        "Transfer-Encoding": dice.choice(["", "", "", "chunked"]),
        "Connection": "close",
    }
    if dice.random() < 0.8:
        del headers["Content-Length"], headers["Transfer-Encoding"]
    return dice.choice([200, 200, 200, 301, 304, 400, 403, 404]), headers, dice.choice(bodies)


@pytest.mark.parametrize(
    "what", ["documents", "documents for the shrunk form", "answers", "answers while a good pair is installed"]
)
def test_anything_at_all_is_one_clean_error(instance: Instance, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certkeeper.client.aws._PAUSES", ())
    instance.environment = instance.aws.environment(role=True)
    monkeypatch.setattr(instance.aws, "problems", Deaf())
    good = document(issue("example.com"))
    instance.aws.objects[OBJECT + "example.com"] = good
    held = what.endswith("installed")
    instance.as_user_data = what.endswith("shrunk form")
    if held:
        assert instance.pull("--region", "eu-west-1").code == 0
    outside = sorted(os.listdir(instance.folder))
    for seed in range(SEEDS):
        dice = random.Random(seed)
        if what.startswith("documents"):
            instance.aws.objects[OBJECT + "example.com"] = bent(dice, good)
        else:
            where = dice.choice(["", "/latest/", "/certificates/", "Decrypt"])
            instance.aws.interfere = partial(reply, dice, where=where, good=good)

        with monkeypatch.context() as hurry:
            hurry.setattr(Connection, "__init__", quick)
            run = instance.pull()

        told = f"seed {seed}: {run}"
        assert run.code in ((0, 2) if held else (0, 1, 2, 3)), told
        assert "Traceback" not in run.err and "unexpected" not in run.err, told
        assert run.code == 0 or run.err.count("certkeeper-pull: error: ") == 1, told
        assert sorted({*os.listdir(instance.folder), "letsencrypt"}) == sorted({*outside, "letsencrypt"}), told

        # Whatever it was, it is over with the next good answer.
        instance.aws.interfere = lambda seen: None
        instance.aws.objects[OBJECT + "example.com"] = good
        afterwards = instance.pull()
        assert afterwards.code == 0, f"{told}, and then {afterwards}"
        if not held:
            os.rename(instance.into, f"{instance.folder}/taken-away")
            shutil.rmtree(f"{instance.folder}/taken-away")
