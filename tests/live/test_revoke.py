"""`certkeeper revoke` on real parts, and what happens when a CA revokes by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from certkeeper import config, wiring
from certkeeper.core.model import Certificate
from certkeeper.jobs.account import established
from certkeeper.sandbox.acme_traffic import AcmeRequest, AcmeResponse
from certkeeper.sandbox.calls import Call, Dropped, Phase
from certkeeper.sandbox.stack import Sandbox
from tests.live.keepers import ROOT, Keeper
from tests.live.operators import BOTH_CAS, Operator, is_revoked

pytestmark = [pytest.mark.live, BOTH_CAS]


def pulled(operator: Operator, into: Path) -> str:
    """What an instance says that pulls now."""
    command = [sys.executable, "-m", "certkeeper.client", operator.name, "--from", operator.store, "--into", str(into)]
    done = subprocess.run(
        command, env=operator.environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode in (0, 3), done.stderr
    return done.stdout


def held_by(operator: Operator) -> Certificate:
    certificate = operator.certificate()
    assert certificate is not None
    return certificate


def test_a_certificate_is_replaced_then_revoked_at_the_ca_and_instances_take_the_new_one(
    operator: Operator, tmp_path: Path
) -> None:
    operator.settings(more="[defaults]\nreuse_private_key = true")
    assert operator.renew().status == 0
    old = held_by(operator)
    assert f"installed {old.chain.serial_number}" in pulled(operator, tmp_path)

    said = operator.run("revoke", operator.name, "--reason", "keyCompromise", "--yes")

    assert said.status == 0, said.talk
    new = held_by(operator)
    assert new.request.spki_sha256 != old.request.spki_sha256
    assert f"{old.chain.serial_number} is revoked (keyCompromise)" in said.talk
    stored, revoked = operator.calls("acme", "certificate")[-1], operator.calls("acme", "revokeCert")
    assert len(revoked) == 1 and revoked[0].at > stored.at
    assert (is_revoked(operator, old), is_revoked(operator, new)) == (True, False)
    assert f"installed {new.chain.serial_number}" in pulled(operator, tmp_path)
    assert not [path for path in operator.objects() if path.startswith("history/")]
    operator.assert_one_good_certificate(issued=2)


def test_a_name_that_nothing_renews_is_revoked_by_whoever_may_open_the_account_key_and_no_later_run_is_promised(
    sandbox: Sandbox,
) -> None:
    with Operator(sandbox, count=2) as operator:
        assert operator.renew().status == 0
        name = operator.names.pop()
        del operator.identifiers[name]
        operator.settings()

        def down(request: AcmeRequest, forward: Callable[[], AcmeResponse]) -> AcmeResponse:
            return AcmeResponse.of_problem(400, "badRevocationReason", "not for that")

        with operator.proxy.script("revokeCert", down):
            refused = operator.run("revoke", name, "--reason", "superseded", "--yes")
        said = operator.run("revoke", name, "--reason", "unspecified", "--yes")

        assert (refused.status, said.status) == (1, 0), refused.talk + said.talk
        assert "not for that" in refused.talk and "give another one" in refused.talk
        assert f"no run goes on by itself: certkeeper revoke {name} --reason superseded" in refused.talk
        certificate = operator.certificate(name)
        assert certificate is not None
        assert is_revoked(operator, certificate)


def test_without_a_yes_nothing_is_revoked(operator: Operator) -> None:
    operator.renew()
    before = operator.objects()

    said = operator.run("revoke", operator.name, "--reason", "superseded")

    assert said.status == 2
    assert "confirm it with --yes" in said.talk
    assert operator.objects() == before


def test_what_could_not_be_replaced_yet_is_not_revoked_after_all_when_a_person_takes_it_back(
    operator: Operator,
) -> None:
    assert operator.renew().status == 0
    old = held_by(operator)

    def down(request: AcmeRequest, forward: Callable[[], AcmeResponse]) -> AcmeResponse:
        return AcmeResponse.of_problem(500, "serverInternal", "try later")

    with operator.proxy.script("newOrder", down):
        begun = operator.run("revoke", operator.name, "--reason", "superseded", "--yes")
    cancelled = operator.run("revoke", operator.name, "--cancel")
    again = operator.run("revoke", operator.name, "--cancel")

    assert (begun.status, cancelled.status, again.status) == (1, 0, 2), begun.talk + cancelled.talk + again.talk
    assert f"{operator.name}: {old.chain.serial_number} will not be revoked" in cancelled.talk
    assert operator.renew().status == 0
    assert held_by(operator) == old
    assert not is_revoked(operator, old)
    operator.assert_one_good_certificate(issued=1)


@pytest.mark.parametrize(
    ("phase", "operation"),
    [("after", "finalize"), ("after", "certificate"), ("before", "revokeCert"), ("after", "revokeCert")],
)
def test_killed_on_the_way_the_schedule_replaces_and_revokes_exactly_once(
    operator: Operator, operation: str, phase: Phase
) -> None:
    assert operator.renew().status == 0
    old = held_by(operator)
    keeper: list[Keeper] = []

    def watch(now: Phase, call: Call) -> None:
        if (now, call.operation) == (phase, operation):
            keeper[0].kill()
            raise Dropped

    with operator.watching(watch):
        keeper.append(operator.start("revoke", operator.name, "--reason", "superseded", "--yes"))
        assert keeper[0].end().status < 0
    operator.age(operator.name, 3600)

    assert operator.renew().status == 0

    assert (is_revoked(operator, old), is_revoked(operator, held_by(operator))) == (True, False)
    operator.assert_one_good_certificate(issued=2)


@pytest.mark.pebble("Caddy gives no renewal information, by which a CA says that a certificate is to be replaced")
def test_what_the_ca_has_revoked_by_itself_is_replaced_in_one_run_and_instances_take_the_new_one(
    operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert operator.renew().status == 0
    old = held_by(operator)
    pulled(operator, tmp_path)
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in operator.environment.items():
        monkeypatch.setenv(name, value)
    settings = config.read(operator.config)
    with wiring.wired(settings, timedelta(minutes=1)) as wired:
        account = established(wired.keeper, settings.ca.directory)
        leaf = old.chain.pem.partition("-----END CERTIFICATE-----")
        wired.keeper.authorities[settings.ca.directory].revoke(account, leaf[0] + leaf[1] + "\n", 0)
        # As if the CA's pause between two questions (six hours) had passed.
        wired.keeper.records.delete("index")

    said = operator.renew()

    outcome = said.outcomes[operator.name]
    assert (outcome["outcome"], outcome["reason"]) == ("renewed", "the CA wants it replaced")
    assert is_revoked(operator, old)
    assert f"installed {held_by(operator).chain.serial_number}" in pulled(operator, tmp_path)
    operator.assert_one_good_certificate(issued=2)
