"""A Debian machine that boots for real: systemd, cloud-init and nginx, by systemd-nspawn, in a network of its own.

Its disk is scripts/get-machine's with a layer above it; all that is mounted is mounted in a namespace of the machine's.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from certkeeper.sandbox.imds import InstanceMetadata, RoleCredentials
from certkeeper.sandbox.processes import Program
from certkeeper.sandbox.stack import Sandbox
from certkeeper.sandbox.web_server import served_serial
from tests.live.network import Network

ROOT = Path(__file__).resolve().parents[2]
DISK = ROOT / ".parts" / "machine"
WHEELS = ROOT / ".parts" / "wheels"
GATEWAY, METADATA = "198.51.100.1", "169.254.169.254"
# nspawn says nothing of a layered disk, so the layers are put together first, where nobody else sees it.
_BOOT = """
set -eu
disk=$1 layer=$2 name=$3
shift 3
for cgroup; do echo $$ >"$cgroup/cgroup.procs"; done
mkdir -p work merged
mount -t overlay overlay -o "lowerdir=$disk,upperdir=$layer,workdir=$PWD/work" merged
chroot merged update-ca-certificates >/dev/null
exec systemd-nspawn --quiet --directory="$PWD/merged" --machine="$name" --boot --register=no --keep-unit \\
    --console=pipe --resolv-conf=off --timezone=off --link-journal=no
"""
# The hourly timer, in a hurry.
_HURRY = "[Timer]\nOnCalendar=\nOnCalendar=*:*:0/3\nRandomizedDelaySec=0\nAccuracySec=100ms\n"


class Region:
    """What instances are joined to: the sandbox's AWS at `aws_url`, and each one's own metadata at 169.254.169.254."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.network = Network()
        for address in (GATEWAY, METADATA):
            self.network.ip("address", "add", f"{address}/32", "dev", "lo")
        self.aws_url = f"http://{GATEWAY}:{sandbox.aws.port}"
        self.network.relay(GATEWAY, sandbox.aws.port, lambda _: sandbox.aws.port)
        self.metadata_ports: dict[str, int] = {}
        self.network.relay(METADATA, 80, lambda caller: self.metadata_ports.get(caller, 0))

    def close(self) -> None:
        self.network.close()


class Machine:
    """One instance with `address` as its public one. Its disk stays until close(); with `image` it begins as a copy."""

    def __init__(self, region: Region, address: str = "203.0.113.10", image: Path | None = None) -> None:
        missing = [str(part) for part in (DISK, WHEELS) if not part.exists()]
        missing += [program for program in ("systemd-nspawn", "ip", "nsenter") if not shutil.which(program)]
        assert not missing, f"a machine cannot boot without {', '.join(missing)}: scripts/test gets them, as root"
        number = int(address.rpartition(".")[2])
        self.address = address
        self.instance_id = f"i-{number:017x}"
        self.access_key_id = f"ASIAINSTANCE{number:08}"
        self._name = f"certkeeper-{os.getpid()}-{number}"
        self._roots = region.sandbox.roots.read_text()
        with ExitStack() as starting:
            self.network = Network()
            starting.callback(self.network.close)
            self.network.joined_to(region.network, address)
            imds = InstanceMetadata(
                region.sandbox.desk,
                RoleCredentials(self.access_key_id),
                instance_id=self.instance_id,
                public_ipv4=address,
            )
            starting.callback(imds.close)
            region.metadata_ports[address] = int(imds.url.rpartition(":")[2])
            self._program = Program("machine")
            starting.callback(self._program.close)
            self._cgroups = [own / self._name for own in _own_cgroups()]
            starting.callback(self._bury)
            self.disk = self._program.folder / "disk"
            if image is not None:
                shutil.copytree(image, self.disk, symlinks=True)
            self._furnish(region.aws_url)
            self._running = starting.pop_all()

    def _furnish(self, aws_url: str) -> None:
        self.write("usr/local/share/ca-certificates/sandbox.crt", self._roots)
        self.write(
            "etc/systemd/system.conf.d/aws.conf", f'[Manager]\nDefaultEnvironment="AWS_ENDPOINT_URL={aws_url}"\n'
        )
        self.write("etc/systemd/system/certkeeper-pull.timer.d/hurry.conf", _HURRY)
        self.write("etc/cloud/cloud.cfg.d/99-machine.cfg", "datasource_list: [NoCloud]\nnetwork: {config: disabled}\n")

    def write(self, path: str, content: str | bytes) -> None:
        """Put a file on the disk, before it boots: into the layer, which has no links that lead out of it."""
        target = self.disk / path
        assert not target.is_symlink()
        assert self.disk.resolve() in target.resolve().parents
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())

    def boot(self, user_data: str | bytes = "") -> None:
        """Begin to boot, with this user data."""
        seed = "var/lib/cloud/seed/nocloud/"
        self.write(seed + "meta-data", json.dumps({"instance-id": self.instance_id}))
        self.write(seed + "user-data", user_data)
        for cgroup in self._cgroups:
            cgroup.mkdir(exist_ok=True)
        with self.network.entered():
            self._program.start(
                ["unshare", "--mount", "--propagation", "private",
                 "sh", "-c", _BOOT, "boot", DISK, self.disk, self._name, *self._cgroups]
            )  # fmt: skip

    def power_off(self) -> None:
        """End it, as EC2 ends a spot instance that does not listen: within two seconds."""
        self._program.stop()
        self._bury()

    def _bury(self) -> None:
        """Remove its cgroups, which the kernel allows once they are empty: a moment after what was in them has died."""
        deadline = time.monotonic() + 10
        while any(cgroup.exists() for cgroup in self._cgroups) and time.monotonic() < deadline:
            for folder in [below for cgroup in self._cgroups for below, _, _ in os.walk(cgroup, topdown=False)]:
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
        # nspawn's own, which it leaves behind if it has to be killed.
        with contextlib.suppress(OSError):
            (Path("/run/systemd/nspawn/propagate") / self._name).rmdir()

    def close(self) -> None:
        self.power_off()
        self._running.close()

    # What it does.

    def run(self, *command: str) -> str:
        """What a command says that is run inside as root; "" before there is an inside."""
        init = self._init()
        if not init:
            return ""
        done = subprocess.run(
            ["nsenter", f"--target={init}", "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd", "--",
             *command],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.stdout

    def _init(self) -> str:
        """The process id of the machine's own first process: the guard's child is nspawn, whose child that is."""
        guard = self._program._guard
        below = [str(guard.pid)] if guard is not None else []
        for _ in range(2):
            below = [child for one in below for child in _children(one)]
        return below[0] if below else ""

    def show(self, unit: str) -> Mapping[str, str]:
        """What systemd says of a unit."""
        lines = self.run("systemctl", "show", "--timestamp=us+utc", unit).splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def journal(self, *units: str) -> str:
        return self.run("journalctl", "--no-pager", "-o", "short-monotonic", *(f"--unit={unit}" for unit in units))

    def serves(self, name: str) -> str:
        """The serial number of what is served at port 443, verified; "" while nothing is."""
        with self.network.entered():
            try:
                return served_serial(443, name, self._roots)
            except OSError:
                return ""

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self._program.running, f"the machine has gone off:\n{self._program.log()}"
            assert time.monotonic() < deadline, f"not {what} after {seconds:.0f} s:\n{self._last_words()}"
            time.sleep(0.1)

    def _last_words(self) -> str:
        said = self.run("tail", "-n", "30", "/var/log/cloud-init-output.log")
        return (self.journal() or self._program.log())[-6000:] + said


def _own_cgroups() -> list[Path]:
    """Where this process is in the hierarchies that systemd uses: one, or with version 1 of cgroups its own and a copy.

    Machines must not share a cgroup, for each one's systemd believes that all in it is its own.
    """
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    path_in = {controllers: path.lstrip("/") for _, controllers, path in (line.split(":", 2) for line in lines)}
    top = Path("/sys/fs/cgroup")
    mounts = {top: "", top / "unified": "", top / "systemd": "name=systemd"}
    return [mount / path_in[which] for mount, which in mounts.items() if (mount / "cgroup.procs").exists()]


def _children(process: str) -> list[str]:
    try:
        return Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
