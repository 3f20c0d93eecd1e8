"""One instance: a folder to install into, the loopback AWS, and the client run in this process."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest

from certkeeper.client.__main__ import main
from certkeeper.deployment.one_file import shrunk
from tests.client.certificates import Pair, authority, document
from tests.client.loopback_aws import LoopbackAws

BUCKET = "certs-123456789012"
OBJECT = f"/{BUCKET}/prod/certificates/"


@dataclass
class Run:
    """What came of one run."""

    code: int
    out: str
    err: str


_MADE: dict[tuple[tuple[str, ...], bool], tuple[Path, str]] = {}


def made_for(folder: Path, arguments: Sequence[str], *, is_hasty: bool = False) -> str:
    """The client as user data carries it, made for these arguments; once for all tests, of which each has a folder of
    its own."""
    anywhere = tuple(word.replace(str(folder), "") for word in arguments), is_hasty
    if anywhere not in _MADE:
        known = {"_PAUSES": (0.01, 0.02), "_FIRST_PAUSE": 0.1} if is_hasty else None
        _MADE[anywhere] = folder, shrunk(arguments, known)
    first, text = _MADE[anywhere]
    return text.replace(str(first), str(folder))


@cache
def _main_of(text: str) -> Callable[[], int]:
    namespace: dict[str, Any] = {"__name__": "program"}
    exec(text, namespace)  # noqa: S102 - our own
    return cast(Callable[[], int], namespace["main"])


@dataclass
class Instance:
    """The machine under test."""

    aws: LoopbackAws
    folder: Path
    monkeypatch: pytest.MonkeyPatch
    capfd: pytest.CaptureFixture[str]
    as_user_data: bool = False

    @property
    def into(self) -> Path:
        return self.folder / "letsencrypt"

    @property
    def live(self) -> Path:
        return self.into / "live" / "example.com"

    @property
    def reloads(self) -> list[str]:
        """The serial numbers the web server has loaded, in order."""
        log = self.folder / "reloads"
        return [line.split("/")[-1].split("-")[0] for line in log.read_text().split()] if log.exists() else []

    def store(self, pair: Pair, name: str = "example.com", **changes: object) -> bytes:
        data = self.aws.objects[OBJECT + name] = document(pair, name, **changes)
        return data

    def lay(self, pair: Pair, revision: int = 1) -> None:
        """What a pull of long ago has left."""
        archive = self.into / "archive" / "example.com"
        folder = archive / f"{pair.serial_number}-0123456789ab"
        folder.mkdir(parents=True)
        self.live.parent.mkdir()
        end = pair.fullchain_pem.index("-----BEGIN", 1)
        files = {
            "cert.pem": pair.fullchain_pem[:end],
            "chain.pem": pair.fullchain_pem[end:],
            "fullchain.pem": pair.fullchain_pem,
            "privkey.pem": pair.private_key_pem,
        }
        for name, text in files.items():
            (folder / name).write_text(text)
        self.live.symlink_to(f"../archive/example.com/{folder.name}")
        state = {"folder": folder.name, "etag": '"old"', "from": f"s3://{BUCKET}/prod", "revision": revision}
        (archive / "state.json").write_text(json.dumps(state))

    def pull(self, *more: str, roots: bool = True, name: str = "example.com") -> Run:
        """Run certkeeper-pull with what every instance gives, and more."""
        arguments = [name, "--from", f"s3://{BUCKET}/prod", "--into", str(self.into), *more]
        if roots:
            arguments += ["--roots", str(self.folder / "roots.pem")]
        return self.run(*arguments)

    def run(self, *arguments: str) -> Run:
        self.capfd.readouterr()
        with self.monkeypatch.context() as patch:
            for variable in [name for name in os.environ if name.startswith("AWS_")]:
                patch.delenv(variable)
            for variable, value in self.environment.items():
                patch.setenv(variable, value)
            if self.as_user_data:
                words = [one for one in arguments if one in ("--boot", "--install-timer")]
                patch.setattr(sys, "argv", [sys.argv[0], *words])
                code = _main_of(made_for(self.folder, arguments, is_hasty=True))()
            else:
                code = main(list(arguments))
        captured = self.capfd.readouterr()
        assert not self.aws.problems, self.aws.problems
        return Run(code, captured.out, captured.err)

    @property
    def reload(self) -> tuple[str, str]:
        return "--reload", f"readlink {self.live} >> {self.folder}/reloads"

    def installed(self) -> dict[str, str]:
        return {file.name: file.read_text() for file in self.live.iterdir()}

    def everything(self) -> dict[str, tuple[int, int]]:
        """Every path below, with its inode and time of change: nothing can be touched unseen."""
        found = [self.into, *self.into.rglob("*")]
        return {str(path): (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in found}

    def __post_init__(self) -> None:
        self.environment = self.aws.environment()
        (self.folder / "roots.pem").write_text(authority().root_pem)


@pytest.fixture
def aws() -> Iterator[LoopbackAws]:
    with LoopbackAws() as server:
        yield server


@pytest.fixture
def instance(
    aws: LoopbackAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Instance:
    monkeypatch.setattr("certkeeper.client.aws._PAUSES", (0.01, 0.02))
    monkeypatch.setattr("certkeeper.client.pull._FIRST_PAUSE", 0.1)
    everything = os.environ.get("CERTKEEPER_CLIENT") == "user-data"  # by hand: each shrinking takes a second or more
    return Instance(aws, tmp_path, monkeypatch, capfd, as_user_data=everything)
