"""What `doctor` finds before a renewal would."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from certkeeper.core.caa import CaaRecord
from certkeeper.core.decision import Ask
from certkeeper.core.errors import AuthorityError, NoticeError, RightsError, SealingError, StoreError
from certkeeper.core.model import CertificateSpec, FallbackCa, HostedZone
from certkeeper.jobs.diagnose import Finding, Surroundings, diagnose
from certkeeper.jobs.rollover import rolled_over
from certkeeper.jobs.tick import tick
from tests.fakes import API, CA, SECOND_CA, WWW, World

ROLE = "arn:aws:iam::123456789012:role/web"
ZONE = HostedZone("Z1", "example.com")
SERVERS = frozenset({"ns-1.test"})


@dataclass
class FakeRights:
    """Roles by what they may write: (role, zone id, name)."""

    allowed: set[tuple[str, str, str]] = field(default_factory=set)
    refuse: RightsError | None = None

    def may_write_txt(self, role_arn: str, zone: str, names: Sequence[str]) -> bool:
        if self.refuse:
            raise self.refuse
        return any((role_arn, zone, name) in self.allowed for name in names)


def well() -> World:
    world = World()
    world.zones.servers[ZONE] = world.lookup.delegations["example.com"] = SERVERS
    world.authority.issuers = ("ca.test",)
    return world


AROUND = Surroundings(skew=lambda: timedelta(seconds=2))


def found(world: World, around: Surroundings = AROUND, spec: CertificateSpec = WWW) -> dict[str, Finding]:
    return {one.check: one for one in diagnose(world.keeper(), [spec], around)}


def test_all_is_well() -> None:
    findings = diagnose(well().keeper(), [WWW, API], AROUND)

    assert {one.result for one in findings} == {"good"}
    assert [(one.check, one.about) for one in findings] == [
        ("clock", "this machine"), ("CA", WWW.ca), ("hosted zone", "www"), ("CAA", "www"), ("hosted zone", "api"),
        ("CAA", "api"), ("delegation", "example.com"),
    ]  # fmt: skip


def test_nothing_is_changed() -> None:
    world = well()

    diagnose(world.keeper(), [WWW], AROUND)

    assert world.records.objects == {}
    assert world.authority.accounts == {}
    assert world.dns.records == set()


def test_a_domain_without_a_hosted_zone_is_bad() -> None:
    world = well()
    world.zones.zones = ()

    finding = found(world)["hosted zone"]

    assert (finding.about, finding.result) == ("www", "bad")
    assert "no hosted zone" in finding.what and finding.hint


def test_a_zone_that_the_world_does_not_ask_is_bad() -> None:
    world = well()
    world.lookup.delegations["example.com"] = frozenset({"ns.elsewhere.test"})

    finding = found(world)["delegation"]

    assert finding.result == "bad"
    assert "the world asks ns.elsewhere.test" in finding.what
    assert finding.hint == "have the registrar name ns-1.test"


def test_a_caa_record_for_another_ca_is_bad() -> None:
    world = well()
    world.lookup.caas["example.com"] = (CaaRecord(0, "issue", "other.test"),)

    finding = found(world)["CAA"]

    assert finding.result == "bad"
    assert finding.hint is not None and 'CAA 0 issue "ca.test"' in finding.hint


FALLING_BACK = replace(WWW, fallbacks=(FallbackCa(SECOND_CA),))


def test_each_ca_is_looked_at_and_all_may_be_well() -> None:
    world = well()
    world.second.issuers = ("second.test",)

    findings = diagnose(world.keeper(), [FALLING_BACK], AROUND)

    assert {one.result for one in findings} == {"good"}
    assert [(one.about, one.what) for one in findings if one.check in ("CA", "CAA")] == [
        (CA, "answers, as ca.test"), (SECOND_CA, "answers, as second.test"),
        ("www", "lets ca.test issue"), ("www", "lets second.test issue"),
    ]  # fmt: skip


def test_a_caa_record_that_forbids_only_the_fallback_ca_is_a_warning_with_the_record_to_add() -> None:
    world = well()
    world.second.issuers = ("second.test",)
    world.lookup.caas["example.com"] = (CaaRecord(0, "issue", "ca.test"),)

    first, second = (one for one in diagnose(world.keeper(), [FALLING_BACK], AROUND) if one.check == "CAA")

    assert (first.result, second.result) == ("good", "warning")
    assert second.what == "example.com: the CAA records at example.com do not allow second.test"
    assert second.hint == 'add the record: example.com. CAA 0 issue "second.test"'


def test_a_fallback_ca_out_of_reach_is_a_warning() -> None:
    world = well()
    world.second.trouble = AuthorityError("the CA does not answer")

    findings = [one for one in diagnose(world.keeper(), [FALLING_BACK], AROUND) if one.check in ("CA", "CAA")]

    assert [one.result for one in findings] == ["good", "warning", "good", "unknown"]


def test_a_ca_out_of_reach_is_bad_and_its_caa_unknown() -> None:
    world = well()
    world.authority.trouble = AuthorityError("the CA does not answer")

    findings = found(world)

    assert (findings["CA"].result, findings["CAA"].result) == ("bad", "unknown")


@pytest.mark.parametrize(
    ("skew", "result", "said"),
    [
        (timedelta(seconds=-299), "good", "within 299 s"),
        (timedelta(minutes=6), "bad", "360 s ahead of"),
        (timedelta(minutes=-6), "bad", "360 s behind"),
    ],
)
def test_a_clock_that_is_off_is_bad(skew: timedelta, result: str, said: str) -> None:
    finding = found(well(), Surroundings(skew=lambda: skew))["clock"]

    assert finding.result == result
    assert said in finding.what


def test_a_bucket_that_is_not_there_is_bad() -> None:
    finding = found(well(), Surroundings(skew=lambda: None))["store"]

    assert (finding.result, finding.what) == ("bad", "is not there")


def raising(error: Exception) -> Callable[[], Any]:
    def call() -> Any:
        raise error

    return call


def test_what_cannot_be_told_is_unknown_and_stops_nothing() -> None:
    around = Surroundings(
        skew=raising(StoreError("no bucket", "make one")),  # it only raises
        kms_key=raising(SealingError("no such key", "make one")),
        unconfirmed=raising(NoticeError("no topic")),
        drifted=raising(StoreError("no settings")),
        rights=FakeRights(refuse=RightsError("not allowed to ask")),
    )

    findings = found(well(), around, replace(WWW, readers=(ROLE,)))

    unknown = {check for check, one in findings.items() if one.result == "unknown"}
    assert unknown == {"clock", "KMS key", "alarms", "settings", "reader"}
    assert findings["clock"].hint == "make one"
    assert findings["hosted zone"].result == "good"


@pytest.mark.parametrize(
    ("state", "result"), [("Enabled", "good"), ("Disabled", "bad"), ("PendingDeletion", "bad"), (None, "bad")]
)
def test_a_kms_key_that_does_not_work_is_bad(state: str | None, result: str) -> None:
    assert found(well(), replace(AROUND, kms_key=lambda: state))["KMS key"].result == result


OURS = "arn:aws:kms:eu-west-1:1:key/k"
NEW = replace(AROUND, kms_key=lambda: "Enabled", kms_key_arn=lambda: "arn:aws:kms:eu-west-1:1:key/new")


def of_key(world: World, around: Surroundings) -> list[tuple[str, str, str]]:
    findings = diagnose(world.keeper(), [WWW, API], around)
    return [(one.about, one.result, one.what) for one in findings if one.check == "sealing"]


def test_what_another_kms_key_has_sealed_is_named_until_it_is_replaced() -> None:
    world = well()
    tick(world.keeper(), [WWW, API])
    warned = of_key(world, NEW)
    changed = replace(world.keys.sealer, arn="arn:aws:kms:eu-west-1:1:key/new")
    world.keys.sealer = changed
    tick(world.keeper(), [WWW], Ask(by_name=True, force=True))
    rolled_over(world.keeper(), CA)

    (left,) = of_key(world, NEW)

    assert warned == [
        (OURS, "warning", "not that of the settings, has sealed the account at ca.test, www, api"),
    ]
    assert left == (OURS, "warning", "not that of the settings, has sealed api")
    tick(world.keeper(), [API], Ask(by_name=True, force=True))
    assert of_key(world, NEW) == [("what is stored", "good", "is sealed by it")]


def test_a_kms_key_that_cannot_be_found_out_says_nothing_of_what_it_has_sealed() -> None:
    world = well()
    tick(world.keeper(), [WWW])
    refused = replace(NEW, kms_key_arn=raising(SealingError("not allowed", "allow it")))

    assert of_key(world, refused) == [("what is stored", "unknown", "not allowed")]
    assert of_key(world, replace(NEW, kms_key_arn=lambda: None)) == []


def test_an_address_that_nobody_confirmed_is_bad() -> None:
    around = replace(AROUND, unconfirmed=lambda: ["ops@example.com"])

    finding = found(well(), around)["alarms"]

    assert (finding.result, finding.what) == ("bad", "not confirmed: ops@example.com")
    assert found(well(), replace(AROUND, unconfirmed=list))["alarms"].result == "good"


def test_deployed_settings_that_are_others_are_a_warning() -> None:
    assert found(well(), replace(AROUND, drifted=lambda: True))["settings"].result == "warning"
    assert found(well(), replace(AROUND, drifted=lambda: False))["settings"].result == "good"


def test_a_reader_that_can_write_challenge_records_is_a_warning() -> None:
    rights = FakeRights({(ROLE, "Z1", "_acme-challenge.example.com")})
    read = replace(WWW, readers=(ROLE, "arn:aws:iam::123456789012:root"))

    warned = found(well(), replace(AROUND, rights=rights), read)["reader"]
    good = found(well(), replace(AROUND, rights=FakeRights()), read)["reader"]

    assert (warned.about, warned.result) == (ROLE, "warning")
    assert "issued to itself" in warned.what
    assert good.result == "good"


def refused() -> Sequence[object]:
    raise StoreError("CloudFormation could not be asked: AccessDenied", "see to the rights")


@pytest.mark.parametrize(
    ("changed", "result", "said"),
    [
        (list, "good", "is as deployed"),
        (
            lambda: ["Renewer (Policies)", "Hourly (gone)"],
            "warning",
            "changed by hand: Renewer (Policies), Hourly (gone)",
        ),
        (refused, "unknown", "AccessDenied"),
    ],
)
def test_a_stack_that_was_changed_by_hand_is_a_warning(
    changed: Callable[[], Sequence[object]], result: str, said: str
) -> None:
    finding = found(well(), replace(AROUND, stacks={"keeper": changed}))["stack"]

    assert (finding.about, finding.result) == ("keeper", result)
    assert said in finding.what
