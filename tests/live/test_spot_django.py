"""examples/spot-django, for real: a Django site on instances that are replaced, its name moved once HTTPS answers."""

from __future__ import annotations

import difflib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from certkeeper.sandbox.calls import Call, Phase
from certkeeper.sandbox.iam import Policy, Question, decide
from certkeeper.sandbox.processes import Program
from certkeeper.sandbox.stack import Sandbox
from tests.live.keepers import Keeper, Said
from tests.live.machine import ROOT, WHEELS, Machine, Region
from tests.live.operators import clean

pytestmark = [pytest.mark.live, pytest.mark.boot]

EXAMPLE = ROOT / "examples" / "spot-django"
NAME, WWW = "example.com", "www.example.com"
BUCKET = "example-com-releases"
ZONE = "Z0123456789ABCDEFGHIJ"
WEB = "arn:aws:iam::123456789012:role/web"
EC2_LIMIT = 16_384
NAME_SERVER = "127.0.0.53"
# Asks for the page again and again, by name, and resolves the name anew each time.
_VISITOR = r"""
mount --bind "$1" /etc/resolv.conf
while :; do
    curl -sS --noproxy '*' --max-time 10 --cacert "$2" -w '\nvisit: %{http_code} %{remote_ip}\n' https://example.com/
    sleep 0.3
done
"""
_VISIT = re.compile(r"Release (\w+) at (\S+), (by HTTPS|in the clear)\..*?visit: (\d+) (\S+)", re.DOTALL)


@dataclass(frozen=True)
class Visit:
    """What a visitor saw: which release, and which instance answered."""

    release: str
    host: str
    how: str
    status: str
    address: str


class Visitor:
    """Somebody out there with a resolver and curl, who trusts the CA."""

    def __init__(self, region: Region) -> None:
        self._program = Program("visitor")
        resolv = self._program.folder / "resolv.conf"
        resolv.write_text(f"nameserver {NAME_SERVER}\noptions use-vc\n")
        roots = region.sandbox.roots  # asked of the CA, which is not in there
        with region.network.entered():
            self._program.start(
                ["unshare", "--mount", "--propagation", "private", "sh", "-c", _VISITOR, "visitor", resolv, roots]
            )  # fmt: skip

    def visits(self) -> list[Visit]:
        return [Visit(*found) for found in _VISIT.findall(self._program.log())]

    def log(self) -> str:
        return self._program.log()

    def close(self) -> None:
        self._program.close()


class Shop:
    """The site: its stored certificate, its releases, and the instances that serve it."""

    def __init__(self, sandbox: Sandbox, folder: Path, running: ExitStack) -> None:
        self.sandbox = sandbox
        self._folder = folder
        self._running = running
        settings = sandbox.settings({NAME: [NAME, WWW]}, more=f"readers = {json.dumps([WEB])}")
        self._environment = clean({**sandbox.environment, "CERTKEEPER_CONFIG": str(settings)})
        self.region = Region(sandbox)
        running.callback(self.region.close)
        self.region.network.relay(NAME_SERVER, 53, lambda _: sandbox.dns.port)
        sandbox.aws.create_bucket(BUCKET)

    def keeper(self, *arguments: str) -> Said:
        said = Keeper(list(arguments), self._environment).end()
        assert said.status == 0, said.talk
        return said

    def release(self, name: str) -> None:
        """As the developer does, with wheels that are here already."""
        environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(WHEELS)}
        environment["PATH"] = f"{ROOT}/.venv/bin:{os.environ['PATH']}"
        subprocess.run([EXAMPLE / "release", name], cwd=self._folder, env=environment, check=True, timeout=60)
        package = (self._folder / f"{name}.tar.gz").read_bytes()
        self.sandbox.aws.put_object(BUCKET, f"{name}.tar.gz", package)

    def user_data(self) -> bytes:
        """The example's user data, with this zone's id, and with our block between its marks."""
        script = self._folder / "user-data.sh"
        script.write_text((EXAMPLE / "user-data.sh").read_text().replace(ZONE, self.sandbox.zone_ids[NAME]))
        self.keeper("user-data", NAME, "--for", NAME, "--for", WWW, "--gzip", "--into", str(script))
        return script.with_name("user-data.sh.gz").read_bytes()

    def instance(self, address: str, user_data: bytes) -> Machine:
        """One that boots, with the example's policy and `certkeeper policy`'s as its rights, and nothing else."""
        machine = Machine(self.region, address)
        self._running.callback(machine.close)
        reads = json.loads(self.keeper("policy", NAME).data)
        self.sandbox.aws.rights.act_as(machine.access_key_id, WEB, reads, self.policy())
        machine.boot(user_data)
        return machine

    def policy(self) -> Policy:
        policy: Policy = json.loads((EXAMPLE / "instance-policy.json").read_text().replace(ZONE, self.zone))
        return policy

    @property
    def zone(self) -> str:
        return self.sandbox.zone_ids[NAME]

    def address(self) -> list[str]:
        """What the A record holds."""
        records = [one for one in self.sandbox.zones.records(self.zone) if (one.name, one.type) == (f"{NAME}.", "A")]
        return [value for one in records for value in one.values]


@pytest.fixture(name="shop")
def _shop(sandbox: Sandbox, tmp_path: Path) -> Iterator[Shop]:
    with ExitStack() as running:
        yield Shop(sandbox, tmp_path, running)


@pytest.mark.timeout(480)
def test_a_new_release_goes_out_beside_the_old_one_and_no_visitor_notices(shop: Shop) -> None:
    sandbox = shop.sandbox
    shop.keeper("renew")
    shop.release("one")
    user_data = shop.user_data()
    assert len(user_data) <= EC2_LIMIT

    answered: list[str] = []

    def at_the_switch(phase: Phase, call: Call) -> None:
        if phase == "before" and call.operation == "ChangeResourceRecordSets":
            answered.extend(one.serves(NAME) for one in machines if one.access_key_id == call.principal)

    machines: list[Machine] = []
    with sandbox.desk.watching(at_the_switch), ExitStack() as visiting:
        machines.append(shop.instance("203.0.113.21", user_data))
        machines[0].wait_until(lambda: shop.address() == ["203.0.113.21"], "in DNS", 200)
        visitor = Visitor(shop.region)
        visiting.callback(visitor.close)
        machines[0].wait_until(lambda: bool(visitor.visits()), "visited")
        written = "%{http_code} %{redirect_url}"
        sent = machines[0].run(
            "curl", "-sS", "-o", "/dev/null", "-w", written, "-H", f"Host: {WWW}", "http://127.0.0.1/x?y"
        )

        shop.release("two")
        mark = sandbox.desk.mark()
        machines.append(shop.instance("203.0.113.22", user_data))
        machines[1].wait_until(lambda: visitor.visits()[-1].release == "two", "visited by name", 200)
        both = {
            call.principal for call in sandbox.desk.calls("s3", since=mark) if f"certificates/{NAME}" in call.resource
        }
        shop.keeper("renew", "--force", NAME)
        renewed = sandbox.proxy.issued()[-1].serial
        for machine in machines:
            machine.wait_until(lambda: machine.serves(NAME) == renewed, "serving what was renewed")  # noqa: B023 - called within the loop

        machines[0].power_off()
        so_far = len(visitor.visits())
        machines[1].wait_until(lambda: len(visitor.visits()) > so_far + 3, "visited alone")
        visits, log = visitor.visits(), visitor.log()

    # The name was moved last, when HTTPS had answered by name.
    first, second = sandbox.proxy.issued()
    assert answered == [first.serial, first.serial]
    assert renewed == second.serial
    # The two pulled side by side, and neither cost a certificate.
    assert both == {machine.access_key_id for machine in machines}
    # Who comes to port 80 is sent on, as by certbot's configuration.
    assert sent == f"301 https://{WWW}/x?y"
    # Nobody met anything but the site, by HTTPS, verified.
    assert "curl:" not in log
    assert log.count("visit:") == len(visits)
    assert {(visit.host, visit.how, visit.status) for visit in visits} == {(NAME, "by HTTPS", "200")}
    assert [visit.release for visit in visits] == sorted(visit.release for visit in visits)
    assert {(visit.release, visit.address) for visit in visits} == {("one", "203.0.113.21"), ("two", "203.0.113.22")}


def test_the_policy_lets_an_instance_move_this_a_record_and_nothing_else() -> None:
    policy: Policy = json.loads((EXAMPLE / "instance-policy.json").read_text())

    def may(name: str = NAME, kind: str = "A", action: str = "UPSERT", zone: str = ZONE) -> bool:
        change = "route53:ChangeResourceRecordSets"
        context = {
            f"{change}NormalizedRecordNames": (name,),
            f"{change}RecordTypes": (kind,),
            f"{change}Actions": (action,),
        }
        said = {key: values for key, values in context.items() if values != ("",)}
        resource = f"arn:aws:route53:::hostedzone/{zone}"
        return decide(Question(WEB, change, resource, "123456789012", said), [policy]).allowed

    assert may()
    refused = [
        may(name="www.example.com"), may(name="_acme-challenge.example.com", kind="TXT"), may(kind="TXT"),
        may(kind="NS"), may(action="DELETE"), may(action="CREATE"), may(zone="Z999"),
        may(name=""), may(kind=""), may(action=""),
    ]  # fmt: skip
    assert not any(refused)


def test_before_and_after_differ_in_the_three_parts_that_the_example_names() -> None:
    before, after = ((EXAMPLE / name).read_text().splitlines() for name in ("user-data.before.sh", "user-data.sh"))

    gone = [line[2:] for line in difflib.ndiff(before, after) if line.startswith("- ") and not line.startswith("- #")]

    commands = [line for line in gone if line and line not in after]
    assert commands == [
        "systemctl restart nginx",
        'certbot --nginx --non-interactive --agree-tos -m "ops@$DOMAIN" -d "$DOMAIN" -d "www.$DOMAIN"',
    ]
