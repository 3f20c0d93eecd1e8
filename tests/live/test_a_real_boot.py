"""A whole instance boots, for real: Debian, systemd, cloud-init with the printed user data, nginx, and our units."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from certkeeper.sandbox.calls import Fault
from certkeeper.sandbox.stack import Sandbox
from tests.live.machine import Machine, Region
from tests.live.operators import Operator

pytestmark = [pytest.mark.live, pytest.mark.boot, pytest.mark.timeout(300)]

AWAY_SECONDS = 20
SITE_PATH = "etc/nginx/conf.d/site.conf"
SITE = """\
server {{
    listen 443 ssl;
    server_name {name};
    ssl_certificate     /etc/letsencrypt/live/{name}/fullchain.pem;
    ssl_certificate_key /etc/letsencrypt/live/{name}/privkey.pem;
    return 200 "here\\n";
}}
"""


@pytest.fixture(scope="module", name="operator")
def _operator(sandbox: Sandbox) -> Iterator[Operator]:
    with Operator(sandbox) as operator:
        assert operator.renew().status == 0
        yield operator


@pytest.fixture(scope="module", name="region")
def _region(sandbox: Sandbox) -> Iterator[Region]:
    region = Region(sandbox)
    try:
        yield region
    finally:
        region.close()


@pytest.fixture(scope="module", name="user_data")
def _user_data(operator: Operator) -> str:
    said = operator.run("user-data", operator.name, "--for", operator.name)
    assert said.status == 0, said.talk
    return said.data


@pytest.fixture(scope="module", name="booted")
def _booted(region: Region, operator: Operator, user_data: str) -> Iterator[Machine]:
    """Debian as it comes, with a site that wants a certificate, after its first boot with the printed user data."""
    machine = Machine(region)
    try:
        machine.write(SITE_PATH, SITE.format(name=operator.name))
        machine.boot(user_data)
        machine.wait_until(lambda: bool(machine.serves(operator.name)), "serving")
        machine.wait_until(lambda: is_active(machine, "cloud-final"), "through with its user data")
        yield machine
    finally:
        machine.close()


@pytest.fixture(scope="module", name="image")
def _image(booted: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of that instance, taken when it is off: our units are baked in, its certificate is not."""
    booted.power_off()
    image = tmp_path_factory.mktemp("image") / "disk"
    shutil.copytree(booted.disk, image, symlinks=True)
    shutil.rmtree(image / "etc/letsencrypt")
    shutil.rmtree(image / "var/log/journal", ignore_errors=True)
    return image


def is_active(machine: Machine, unit: str) -> bool:
    return machine.run("systemctl", "is-active", unit).strip() == "active"


def assert_nginx_started_once_and_after_the_pull(machine: Machine) -> None:
    pull, nginx = machine.show("certkeeper-boot.service"), machine.show("nginx.service")

    assert pull["Result"] == "success"
    assert nginx["ActiveState"] in ("active", "reloading")  # the timer's pull makes up for the boot's reload
    assert int(nginx["InactiveExitTimestampMonotonic"]) >= int(pull["ExecMainExitTimestampMonotonic"]) > 0
    assert "ailed" not in machine.journal("nginx.service")


def test_the_printed_user_data_brings_nginx_up_with_the_stored_certificate(operator: Operator, booted: Machine) -> None:
    assert booted.serves(operator.name) == operator.issued()[-1]
    # Without it nginx had failed: it starts before user data.
    assert "Failed to start nginx" in booted.journal("nginx.service")
    assert is_active(booted, "nginx.service")
    enabled = booted.run("systemctl", "is-enabled", "certkeeper-boot.service", "certkeeper-pull.timer")
    assert enabled.split() == ["enabled", "enabled"]
    assert booted.run("systemctl", "--failed", "--quiet", "--plain").strip() == ""


def test_a_later_renewal_reaches_nginx_through_the_timer(operator: Operator, booted: Machine) -> None:
    before = booted.show("nginx.service")["MainPID"]
    assert operator.renew("--force", operator.name).status == 0
    renewed = operator.issued()[-1]

    booted.wait_until(lambda: booted.serves(operator.name) == renewed, "serving what was renewed")

    assert booted.show("certkeeper-pull.timer")["LastTriggerUSec"] != ""
    assert f"{operator.name} installed {renewed} until " in booted.journal("certkeeper-pull.service")
    assert booted.show("nginx.service")["MainPID"] == before  # reloaded: nobody's connection was cut


def test_from_an_image_with_the_boot_unit_nginx_starts_with_the_certificate_at_once(
    region: Region, operator: Operator, image: Path
) -> None:
    machine = Machine(region, "203.0.113.11", image)
    try:
        machine.boot()
        machine.wait_until(lambda: bool(machine.serves(operator.name)), "serving")

        assert machine.serves(operator.name) == operator.issued()[-1]
        assert_nginx_started_once_and_after_the_pull(machine)
    finally:
        machine.close()


def test_the_timer_making_up_for_a_missed_hour_does_not_hold_up_the_server(
    region: Region, operator: Operator, image: Path
) -> None:
    machine = Machine(region, "203.0.113.14", image)
    try:
        # So the timer's pull would be the first to have the lock, if it did not wait for the boot's.
        machine.write("etc/systemd/system/certkeeper-boot.service.d/late.conf", "[Service]\nExecStartPre=sleep 3\n")
        machine.boot()
        machine.wait_until(lambda: bool(machine.serves(operator.name)), "serving")

        assert_nginx_started_once_and_after_the_pull(machine)
        machine.wait_until(lambda: "unchanged" in machine.journal("certkeeper-pull.service"), "pulled by the timer")
    finally:
        machine.close()


def test_a_store_that_is_away_for_the_first_seconds_is_waited_for(
    region: Region, sandbox: Sandbox, operator: Operator, image: Path, user_data: str
) -> None:
    fresh, baked = Machine(region, "203.0.113.12"), Machine(region, "203.0.113.13", image)
    machines = (fresh, baked)
    try:
        fresh.write(SITE_PATH, SITE.format(name=operator.name))
        with sandbox.desk.fault(Fault("drop", service="s3")):
            back = time.monotonic() + AWAY_SECONDS
            fresh.boot(user_data)
            baked.boot()
            for machine in machines:
                machine.wait_until(lambda: len(asked(sandbox, machine)) > 1, "asking again")  # noqa: B023 - called within the loop
            fresh.wait_until(lambda: time.monotonic() >= back, "back")
            for machine in machines:
                assert machine.serves(operator.name) == ""

        for machine in machines:
            machine.wait_until(lambda: bool(machine.serves(operator.name)), "serving")  # noqa: B023 - called within the loop
            assert machine.serves(operator.name) == operator.issued()[-1]
        assert_nginx_started_once_and_after_the_pull(baked)
    finally:
        fresh.close()
        baked.close()


def asked(sandbox: Sandbox, machine: Machine) -> list[str]:
    """The faults that this instance met in S3."""
    return [call.fault for call in sandbox.desk.calls("s3") if call.principal == machine.access_key_id and call.fault]
