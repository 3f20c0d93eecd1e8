"""What an instance serves: the pulled certificate, by nginx, checked by openssl; renewed, reloaded, mended."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from certkeeper.deployment.one_file import one_file
from certkeeper.sandbox import parts
from certkeeper.sandbox.stack import Sandbox
from certkeeper.sandbox.web_server import Nginx, served_serial
from tests.live.operators import Operator, awaited, clean

pytestmark = pytest.mark.live


class Instance:
    """A disk, the boot client on it, and nginx: what the certificate is needed for."""

    def __init__(self, operator: Operator, folder: Path) -> None:
        self.operator = operator
        self.roots = operator.sandbox.roots
        self.disk = folder / "etc"
        self.reloads = folder / "reloads"
        self._client = folder / "certkeeper-pull"
        self._client.write_text(one_file())
        self.nginx = Nginx(self.disk / "live", operator.identifiers)

    def pull(self, reload: str | None = None) -> subprocess.CompletedProcess[str]:
        """Pull as the timer does. Each run of the reload command leaves a line in `reloads`."""
        noted = f"echo once >>{shlex.quote(str(self.reloads))}; {self.nginx.reload_command}"
        command = [
            sys.executable, "-I", "-S", str(self._client), self.operator.name, "--from", self.operator.store,
            "--into", str(self.disk), "--for", self.operator.name, "--roots", str(self.roots),
            "--check", self.nginx.test_command, "--reload", reload or noted,
        ]  # fmt: skip
        environment = clean(self.operator.sandbox.instance_environment)
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def start(self) -> None:
        # The first pull of a boot comes before the web server, so there is nothing to reload yet.
        first = self.pull("true")
        assert first.returncode == 0, first.stderr
        self.nginx.start()

    def verified(self) -> str:
        """The serial number of what is served, as openssl sees it, which verifies chain and name."""
        openssl = str(parts.find("openssl"))
        name = self.operator.name
        done = subprocess.run(
            [openssl, "s_client", "-connect", f"127.0.0.1:{self.nginx.port}", "-servername", name,
             "-verify_return_error", "-verify_hostname", name, "-CAfile", str(self.roots), "-no-CApath"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "Verify return code: 0 (ok)" in done.stdout
        shown = subprocess.run(
            [openssl, "x509", "-noout", "-serial"], input=done.stdout, capture_output=True, text=True, check=True
        )
        return f"{int(shown.stdout.strip().removeprefix('serial='), 16):x}"

    def serves(self, serial_number: str) -> bool:
        return served_serial(self.nginx.port, self.operator.name, self.roots.read_text()) == serial_number

    def has_reloaded(self) -> bool:
        # The old worker may still take a connection until it is gone.
        return self.nginx.log().count("exited with code 0") == 1

    def disk_as_it_is(self) -> dict[str, tuple[int, ...]]:
        paths = [self.disk, *self.disk.rglob("*")]
        found = {str(path): path.lstat() for path in paths}
        return {path: (at.st_ino, at.st_mtime_ns, at.st_ctime_ns, at.st_mode) for path, at in found.items()}


@pytest.fixture(name="instance")
def _instance(operator: Operator, tmp_path: Path) -> Iterator[Instance]:
    said = operator.renew()
    assert said.status == 0
    instance = Instance(operator, tmp_path)
    try:
        instance.start()
        yield instance
    finally:
        instance.nginx.close()


def test_nginx_serves_what_was_pulled_and_after_a_renewal_the_new_one(operator: Operator, instance: Instance) -> None:
    (first,) = operator.issued()
    assert instance.verified() == first

    assert operator.renew("--force", operator.name).status == 0
    second = operator.issued()[-1]
    pulled = instance.pull()

    assert pulled.returncode == 0, pulled.stderr
    assert pulled.stdout.startswith(f"{operator.name} installed {second} until ")
    assert second != first
    assert awaited(instance.has_reloaded)
    assert instance.verified() == second
    assert instance.reloads.read_text() == "once\n"
    operator.assert_one_good_certificate(issued=2)


def test_a_pull_of_what_is_installed_touches_nothing_opens_nothing_and_does_not_reload(
    sandbox: Sandbox, instance: Instance
) -> None:
    before, mark = instance.disk_as_it_is(), sandbox.desk.mark()

    pulled = instance.pull()

    assert pulled.returncode == 0
    assert " unchanged " in pulled.stdout
    assert instance.disk_as_it_is() == before
    assert not instance.reloads.exists()
    assert sandbox.desk.calls("kms", since=mark) == []
    assert [call.status for call in sandbox.desk.calls("s3", since=mark)] == [304]


def test_a_pull_killed_between_flip_and_reload_is_mended_by_the_next(operator: Operator, instance: Instance) -> None:
    (first,) = operator.issued()
    operator.renew("--force", operator.name)
    second = operator.issued()[-1]

    killed = instance.pull("kill -KILL $PPID")

    assert killed.returncode == -9
    assert instance.serves(first)
    assert (instance.disk / "live" / operator.name).readlink().name.startswith(second)

    mended = instance.pull()

    assert mended.returncode == 0, mended.stderr
    assert awaited(instance.has_reloaded)
    assert instance.verified() == second
    assert instance.pull().returncode == 0
    assert instance.reloads.read_text() == "once\n"
