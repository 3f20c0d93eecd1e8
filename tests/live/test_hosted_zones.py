"""Where challenge records go, end to end: many zones and accounts, twins, CNAMEs, and others who write there too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pytest

from certkeeper.sandbox.calls import Call, Fault, Phase
from certkeeper.sandbox.stack import Sandbox
from tests.live.keepers import Said
from tests.live.operators import BOTH_CAS, Operator, awaited

pytestmark = [pytest.mark.live, BOTH_CAS]

THEIRS = "210987654321"
ROLE = f"arn:aws:iam::{THEIRS}:role/certkeeper-dns"


@pytest.fixture(name="operator")
def _operator(sandbox: Sandbox) -> Iterator[Operator]:
    with Operator(sandbox) as operator:
        yield operator
        # Its zones are of no use to the next test.
        for zone_id in [one.zone_id for one in sandbox.zones.zones() if one.zone_id not in sandbox.zone_ids.values()]:
            sandbox.zones.forget(zone_id)


def wanted(operator: Operator, certificates: Mapping[str, Sequence[str]], more: str = "", dns: str = "") -> None:
    operator.identifiers = {name: list(identifiers) for name, identifiers in certificates.items()}
    operator.names = list(certificates)
    operator.settings(more=more, dns=dns)


def assert_renewed(operator: Operator, said: Said, *names: str) -> None:
    assert {name: said.outcomes[name]["outcome"] for name in names} == dict.fromkeys(names, "renewed"), said.talk
    for name in names:
        operator.assert_one_good_certificate(name)


def changed_zones(operator: Operator, sandbox: Sandbox) -> list[str]:
    """The zone of each change, in order, whoever signed it."""
    begun = operator.calls()[0].at
    calls = sandbox.desk.calls("route53", "ChangeResourceRecordSets")
    return [call.resource for call in calls if call.at >= begun]


def challenge_values(sandbox: Sandbox, *zone_ids: str) -> list[str]:
    return [one.name for zone in zone_ids for one in sandbox.zones.records(zone) if one.type == "TXT"]


def test_twelve_names_in_three_zones_are_one_batch_for_each_zone_and_stand_before_the_ca_is_told(
    sandbox: Sandbox, operator: Operator
) -> None:
    zone_ids = [sandbox.zones.add(f"{apex}.test") for apex in ("one", "two", "three")]
    hosts = [f"h{number}.{apex}.test" for apex in ("two", "three") for number in range(5)]
    wanted(operator, {"twelve": ["one.test", "*.one.test", *hosts]})
    values = {"_acme-challenge.one.test": 2, **{f"_acme-challenge.{host}": 1 for host in hosts}}
    seen: list[bool] = []

    def watcher(phase: Phase, call: Call) -> None:
        if (phase, call.operation) == ("before", "challenge"):
            seen.append(all(len(sandbox.zones.visible(name, "TXT")) == n for name, n in values.items()))

    with operator.watching(watcher):
        said = operator.renew()

    assert_renewed(operator, said, "twelve")
    assert len(seen) >= 12
    assert all(seen)
    assert sorted(changed_zones(operator, sandbox)) == sorted(zone_ids * 2)
    assert len(operator.calls("route53")) <= 10  # a list, and for each zone two changes and one look


def test_the_zone_is_found_among_250_twins_and_children(sandbox: Sandbox, operator: Operator) -> None:
    for number in range(250):
        sandbox.zones.add(f"other{number}.test")
    # Of three zones of one name one is private, one is not delegated, one is real.
    twins = [sandbox.zones.add("twin.test", private=True), sandbox.zones.add("twin.test", delegated=False)]
    real = sandbox.zones.add("twin.test", delegated=True)
    parent, child = sandbox.zones.add("parent.test"), sandbox.zones.add("_acme-challenge.www.parent.test")
    lower = sandbox.zones.add("lower.parent.test")
    wanted(operator, {"all": ["twin.test", "www.parent.test", "a.lower.parent.test", "b.parent.test"]})

    said = operator.renew()

    assert_renewed(operator, said, "all")
    assert set(changed_zones(operator, sandbox)) == {real, parent, child, lower}
    assert challenge_values(sandbox, *twins, real, parent, child, lower) == []
    assert len(operator.calls("route53", "ListHostedZones")) == 3
    assert len(operator.calls("route53", "GetHostedZone")) == 2  # only the twins were asked


def test_twins_that_are_not_delegated_fail_with_what_to_say_and_the_settings_say_it(
    sandbox: Sandbox, operator: Operator
) -> None:
    zone_ids = [sandbox.zones.add("nobody.test", delegated=False) for _ in range(2)]
    wanted(operator, {"lost": ["nobody.test"]})

    said = operator.renew()

    assert said.status == 1
    assert "2 public hosted zones are called nobody.test" in said.outcomes["lost"]["error"]
    assert "hosted_zone_id" in said.outcomes["lost"]["hint"]
    sandbox.zones.zone(zone_ids[1]).delegated = True
    wanted(operator, {"lost": ["nobody.test"]}, more=f'[dns.zones."nobody.test"]\nhosted_zone_id = "{zone_ids[1]}"\n')
    assert_renewed(operator, operator.renew("lost"), "lost")


def test_zones_of_another_account_are_written_to_under_its_role_in_the_same_tick(
    sandbox: Sandbox, operator: Operator
) -> None:
    sandbox.aws.trust(ROLE)
    ours, theirs = sandbox.zones.add("ours.test"), sandbox.zones.add("theirs.test", account=THEIRS)
    stranger = "arn:aws:iam::321098765432:role/certkeeper-dns"
    sandbox.zones.add("closed.test", account="321098765432")
    more = '[dns.zones."{}"]\nrole_arn = "{}"\n'
    wanted(
        operator,
        {"ours": ["ours.test"], "both": ["www.ours.test", "theirs.test", "*.theirs.test"], "closed": ["closed.test"]},
        more=more.format("theirs.test", ROLE) + more.format("closed.test", stranger),
    )

    said = operator.renew()

    assert said.status == 1
    assert_renewed(operator, said, "ours", "both")
    assert sorted(changed_zones(operator, sandbox)) == sorted([ours, theirs] * 2)
    assert challenge_values(sandbox, ours, theirs) == []
    assert sorted(call.resource for call in operator.calls("sts", "AssumeRole")) == [ROLE, stranger]
    assert f"the role {stranger} cannot be assumed" in said.outcomes["closed"]["error"]


def test_cnames_are_followed_to_our_zones_and_circles_and_strangers_refused_without_holding_up_others(
    sandbox: Sandbox, operator: Operator
) -> None:
    site, acme = sandbox.zones.add("site.test"), sandbox.zones.add("acme.test")

    def cname(name: str, target: str, zone: str = site) -> None:
        sandbox.zones.put(zone, name, "CNAME", target)

    cname("_acme-challenge.one.site.test", "one.acme.test")
    cname("_acme-challenge.two.site.test", "hop.acme.test")
    cname("hop.acme.test", "two.acme.test", acme)
    cname("*.trap.site.test", "balancer.elsewhere.invalid")
    cname("_acme-challenge.round.site.test", "round.acme.test")
    cname("round.acme.test", "_acme-challenge.round.site.test", acme)
    cname("_acme-challenge.away.site.test", "x.elsewhere.invalid")
    wanted(
        operator,
        {
            "good": ["one.site.test", "two.site.test", "trap.site.test", "site.test"],
            "round": ["round.site.test"],
            "away": ["away.site.test"],
        },
    )

    said = operator.renew()

    assert said.status == 1
    assert_renewed(operator, said, "good")
    assert set(changed_zones(operator, sandbox)) == {site, acme}
    assert challenge_values(sandbox, site, acme) == []
    assert "lead in a circle" in said.outcomes["round"]["error"]
    away = "x.elsewhere.invalid"
    told = f"the CNAME of _acme-challenge.away.site.test leads to {away}: no hosted zone for {away}"
    assert said.outcomes["away"]["error"] == told
    for name in ("round", "away"):
        assert said.outcomes[name]["outcome"] == "failed"
        assert said.outcomes[name]["hint"]


def test_two_keepers_of_different_stores_prove_one_name_at_once_beside_a_stranger(sandbox: Sandbox) -> None:
    zone = sandbox.zones.add("shared.test")
    sandbox.zones.put(zone, "_acme-challenge.shared.test", "TXT", "a stranger's")
    sandbox.zones.propagation = 1.0
    try:
        with Operator(sandbox) as one, Operator(sandbox) as other:
            for operator in (one, other):
                wanted(operator, {"shared": ["shared.test", "*.shared.test"]})

            keepers = [operator.start("renew", "--json") for operator in (one, other)]
            said = [keeper.end() for keeper in keepers]

            assert [each.status for each in said] == [0, 0], [each.talk for each in said]
            for operator in (one, other):
                operator.assert_one_good_certificate("shared")
    finally:
        sandbox.zones.propagation = 0.0
    # A CA may be done before the last change has come to the name servers.
    assert awaited(lambda: sandbox.zones.visible("_acme-challenge.shared.test", "TXT") == ('"a stranger\'s"',))
    sandbox.zones.forget(zone)


def test_a_change_that_never_is_in_sync_costs_no_answer_to_the_ca_and_leaves_nothing(
    sandbox: Sandbox, operator: Operator
) -> None:
    zone = sandbox.zones.add("slow.test")
    wanted(operator, {"slow": ["slow.test"]}, dns="propagation_timeout = 2")
    sandbox.zones.propagation = 3600.0
    try:
        said = operator.renew()
    finally:
        sandbox.zones.propagation = 0.0

    assert said.status == 1
    assert "has not brought the change to its name servers in 2 s" in said.outcomes["slow"]["error"]
    assert operator.calls("acme", "challenge") == []
    assert challenge_values(sandbox, zone) == []


@pytest.mark.parametrize("code", ["Throttling", "PriorRequestNotComplete"])
def test_a_route_53_that_is_busy_three_times_in_a_row_costs_nothing_but_time(
    sandbox: Sandbox, operator: Operator, code: str
) -> None:
    busy = Fault("refuse", "route53", "ChangeResourceRecordSets", times=3, status=400, code=code)

    with sandbox.desk.fault(busy):
        said = operator.renew()

    assert_renewed(operator, said, operator.name)
    changes = operator.calls("route53", "ChangeResourceRecordSets")
    assert [call.status for call in changes] == [400, 400, 400, 200, 200]
