"""What a tick does when all goes well, and what it shares among its names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from certkeeper.core.ari import Window
from certkeeper.core.decision import Ask
from certkeeper.core.document import decode
from certkeeper.core.errors import AuthorityError
from certkeeper.core.journal import Claim, Entry
from certkeeper.core.model import (
    Account,
    Certificate,
    CertificateRequest,
    CertificateSpec,
    HostedZone,
    Outcome,
    TxtRecord,
)
from certkeeper.core.order import Authorization, Challenge, Order
from certkeeper.core.ports import Stored
from certkeeper.jobs import survey
from certkeeper.jobs.keeper import Keeper
from certkeeper.jobs.tick import tick
from tests.fakes import API, CA, SECOND_CA, START, WWW, Altered, FakeChallengeRecords, FakeClock, Untouchable, World

TWENTY = tuple(CertificateSpec(f"n{number:02}", (f"n{number:02}.example.com",), CA) for number in range(20))


def idle(world: World) -> Keeper:
    """A keeper that may use the store and nothing else."""
    nobody: Any = Untouchable()
    return replace(
        world.keeper(),
        authorities={CA: nobody},
        keys=nobody,
        chains=nobody,
        challenge_records=nobody,
        zones=nobody,
        lookup=nobody,
    )


def with_authority(world: World, **methods: Any) -> Keeper:
    altered: Any = Altered(world.authority, **methods)
    return replace(world.keeper(), authorities={CA: altered, SECOND_CA: world.second})


def held(world: World, name: str = "www") -> Certificate:
    certificate, _ = world.keeper().certificates.read(name)
    assert certificate is not None
    return certificate


def test_a_name_without_a_certificate_gets_one() -> None:
    world = World()

    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    assert (outcome.name, outcome.outcome, outcome.reason) == ("www", "renewed", "not issued yet")
    assert outcome.serial_number == held(world).chain.serial_number
    assert outcome.not_after == held(world).chain.validity.not_after
    assert outcome.next_attempt == held(world).chain.validity.not_before + timedelta(days=60)
    assert (outcome.error, outcome.hint) == (None, None)


def test_a_ca_has_a_moment_before_it_is_asked_for_its_verdict() -> None:
    world = World()
    answered: list[datetime] = []
    looked: list[datetime] = []

    def answer(account: Account, challenge: Challenge) -> None:
        answered.append(world.clock.now())
        world.authority.answer(account, challenge)

    def authorization(account: Account, url: str) -> Authorization:
        if answered:
            looked.append(world.clock.now())
        return world.authority.authorization(account, url)

    tick(with_authority(world, answer=answer, authorization=authorization), [WWW])

    assert len(looked) == len(answered) == 2
    assert min(looked) > max(answered)


def test_names_that_ended_well_are_noted_as_they_are_stored_without_being_read_again() -> None:
    world = World()
    tick(world.keeper(), TWENTY)
    world.clock.later(timedelta(days=61))
    reads: list[str] = []

    def read(path: str) -> Stored | None:
        reads.append(path)
        return world.records.read(path)

    counted: Any = Altered(world.records, read=read)

    report = tick(replace(world.keeper(), records=counted, certificate_records=counted), TWENTY)

    assert [one.outcome for one in report.outcomes] == ["renewed"] * 20
    assert reads.count("journal/n07") == reads.count("certificates/n07") == 1
    assert report.index.facts == survey.read_facts(world.keeper(), [one.name for one in TWENTY])


@pytest.mark.parametrize(("renewals", "listed"), [(1, []), (2, ["history/www/"])])
def test_only_who_had_a_certificate_before_has_a_history_to_look_through(renewals: int, listed: list[str]) -> None:
    world = World()
    for _ in range(renewals - 1):
        tick(world.keeper(), [WWW])
        world.clock.later(timedelta(days=61))
    prefixes: list[str] = []

    def names(prefix: str) -> dict[str, str]:
        prefixes.append(prefix)
        return world.records.list(prefix)

    counted: Any = Altered(world.records, list=names)

    tick(replace(world.keeper(), records=counted), [WWW])

    assert [prefix for prefix in prefixes if prefix.startswith("history/")] == listed


def test_what_is_stored_is_a_document_that_instances_can_read() -> None:
    world = World()
    tick(world.keeper(), [WWW])

    fields = decode(world.records.objects["certificates/www"][0], "www")

    assert fields["identifiers"] == ["*.example.com", "example.com"]
    assert fields["account_url"] == "https://ca.test/account/1"
    assert fields["order_url"] == "https://ca.test/order/1"


def test_what_is_good_is_kept_twice_without_a_word_to_anybody_but_the_store() -> None:
    world = World()
    tick(world.keeper(), [WWW, API])
    stored = {path: version for path, (_, version, _) in world.records.objects.items() if path != "index"}

    for _ in range(2):
        world.clock.later(timedelta(hours=1))
        outcomes = tick(idle(world), [WWW, API]).outcomes

        assert [one.outcome for one in outcomes] == ["kept", "kept"]
    assert {path: v for path, (_, v, _) in world.records.objects.items() if path != "index"} == stored


def test_a_renewal_comes_at_its_time_and_not_before() -> None:
    world = World()
    tick(world.keeper(), [WWW])
    due = held(world).chain.validity.not_before + timedelta(days=60)
    world.clock.later(due - world.clock.now() - timedelta(seconds=1))
    (early,) = tick(idle(world), [WWW]).outcomes
    world.clock.later(timedelta(seconds=1))

    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    assert early.outcome == "kept"
    assert (outcome.outcome, outcome.reason) == ("renewed", f"due since {due:%Y-%m-%d %H:%M}Z")


def test_a_renewal_has_a_higher_revision_and_a_private_key_of_its_own() -> None:
    world = World()
    tick(world.keeper(), [WWW])
    before = held(world)
    world.clock.later(timedelta(days=61))

    tick(world.keeper(), [WWW])

    assert held(world).revision > before.revision
    assert held(world).chain.spki_sha256 != before.chain.spki_sha256


def test_outcomes_come_in_the_order_of_the_settings() -> None:
    world = World()
    tick(world.keeper(), [TWENTY[3], TWENTY[7]])

    report = tick(world.keeper(seed=5), TWENTY)

    assert [one.name for one in report.outcomes] == [spec.name for spec in TWENTY]


def test_twenty_names_share_one_wait_for_dns_one_list_of_zones_and_one_account() -> None:
    world = World()

    report = tick(world.keeper(), TWENTY)

    assert {one.outcome for one in report.outcomes} == {"renewed"}
    assert (world.dns.batches, world.zones.asked, len(world.authority.accounts)) == (1, 1, 1)


def test_a_refused_record_among_twenty_does_not_stop_the_other_nineteen() -> None:
    world = World()
    world.dns.refuse = {"_acme-challenge.n07.example.com"}

    report = tick(world.keeper(), TWENTY)

    outcomes = {one.name: one for one in report.outcomes}
    culprit = outcomes.pop("n07")
    assert {one.outcome for one in outcomes.values()} == {"renewed"}
    assert (culprit.outcome, culprit.error) == ("failed", "_acme-challenge.n07.example.com is refused")
    assert world.dns.records == set()
    assert len(world.authority.issued) == 19


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        pytest.param(replace(WWW, identifiers=("example.com",)), "identifiers changed", id="one identifier less"),
        pytest.param(replace(WWW, key_type="rsa-2048"), "key type changed from ecdsa-p256 to rsa-2048", id="key type"),
        pytest.param(replace(WWW, profile="tlsserver"), "profile changed from none to tlsserver", id="profile"),
    ],
)
def test_what_is_wanted_otherwise_is_ordered_anew(changed: CertificateSpec, reason: str) -> None:
    world = World()
    tick(world.keeper(), [WWW])

    (outcome,) = tick(world.keeper(), [changed]).outcomes

    assert (outcome.outcome, outcome.reason) == ("renewed", reason)
    assert set(held(world).chain.identifiers) == set(changed.identifiers)


def test_identifiers_in_another_order_are_the_same() -> None:
    world = World()
    tick(world.keeper(), [WWW])

    (outcome,) = tick(idle(world), [replace(WWW, identifiers=WWW.identifiers[::-1])]).outcomes

    assert outcome.outcome == "kept"


def test_two_names_with_one_set_of_identifiers_go_one_after_another() -> None:
    world, issued_before = World(reuse_orders=True), []

    def new_order(account: Account, identifiers: Sequence[str], profile: str | None) -> Order:
        issued_before.append(len(world.authority.issued))
        return world.authority.new_order(account, identifiers, profile)

    twin = replace(WWW, name="twin", identifiers=WWW.identifiers[::-1])
    report = tick(with_authority(world, new_order=new_order), [WWW, twin])

    assert [one.outcome for one in report.outcomes] == ["renewed", "renewed"]
    assert issued_before == [0, 1]
    assert held(world).chain.serial_number != held(world, "twin").chain.serial_number


@pytest.mark.parametrize(
    ("spec", "same"),
    [
        pytest.param(replace(WWW, reuse_private_key=True), True, id="asked for"),
        pytest.param(WWW, False, id="not asked for"),
        pytest.param(replace(WWW, reuse_private_key=True, key_type="rsa-2048"), False, id="another key type"),
        pytest.param(replace(WWW, reuse_private_key=True, identifiers=("example.com",)), False, id="other identifiers"),
    ],
)
def test_a_renewal_sends_the_stored_csr_again_where_that_is_asked_for(spec: CertificateSpec, same: bool) -> None:
    world = World()
    tick(world.keeper(), [WWW])
    before: CertificateRequest = held(world).request
    world.clock.later(timedelta(days=61))

    tick(world.keeper(), [spec])

    assert (held(world).request == before) is same
    assert len(world.authority.issued) == 2


def test_an_explicit_cname_moves_the_record_to_its_target() -> None:
    world = World()
    world.lookup.cnames = {"_acme-challenge.api.example.com": "api.acme.example.net"}
    seen: set[TxtRecord] = set()

    def answer(account: Account, challenge: Any) -> None:
        seen.update(world.dns.records)
        world.authority.proven.add("api.example.com")

    tick(with_authority(world, answer=answer), [API])

    assert {(one.zone, one.name) for one in seen} == {("Z2", "api.acme.example.net")}


def test_a_hosted_zone_named_in_the_settings_wins() -> None:
    world = World()
    world.zones.zones = (HostedZone("Z1", "example.com"), HostedZone("Z9", "example.com"))
    keeper = world.keeper()

    outcomes = tick(keeper, [replace(API, hosted_zone_id="Z9"), WWW]).outcomes

    assert [one.outcome for one in outcomes] == ["renewed", "failed"]
    assert "2 public hosted zones" in (outcomes[1].error or "")


# Asking.


def test_force_renews_what_is_not_due_and_says_why() -> None:
    world = World()
    tick(world.keeper(), [WWW])

    (outcome,) = tick(world.keeper(), [WWW], Ask(force=True)).outcomes

    assert (outcome.outcome, outcome.reason) == ("renewed", "asked for by --force")
    assert len(world.authority.issued) == 2


def test_naming_what_is_not_due_does_nothing() -> None:
    world = World()
    tick(world.keeper(), [WWW])

    (outcome,) = tick(idle(world), [WWW], Ask(by_name=True)).outcomes

    assert outcome.outcome == "kept"


def test_progress_is_told_by_name() -> None:
    world, told = World(), []

    tick(replace(world.keeper(), tell=lambda name, doing: told.append((name, doing))), [API])

    assert told == [
        ("api", "ordering: not issued yet"),
        ("", "presenting 1 challenge record"),
        ("api", "proving"),
        ("api", "finalizing"),
        ("api", "stored"),
    ]


# Somebody else at work.


def test_a_name_that_another_run_works_on_is_waited_for_and_told_as_waiting() -> None:
    world = World()
    world.keeper().journal.write("www", Entry(claim=Claim("somebody else", timedelta(minutes=15))), None)

    (outcome,) = tick(idle(world), [WWW]).outcomes

    assert (outcome.outcome, outcome.reason) == ("waiting", "another run is at work on it")
    assert outcome.error is None
    assert world.clock.now() >= START + timedelta(minutes=13)


def test_what_the_other_run_has_done_meanwhile_is_reported() -> None:
    world = World()
    journal = world.keeper().journal
    version = journal.write("www", Entry(claim=Claim("somebody else", timedelta(minutes=15))), None)
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        world.clock.wait(seconds)
        if len(waits) == 3:
            journal.write("www", Entry(), version)
            tick(world.keeper(), [WWW])

    clock: Any = Altered(world.clock, wait=wait)
    (outcome,) = tick(replace(idle(world), clock=clock), [WWW], Ask(force=True)).outcomes

    assert (outcome.outcome, outcome.serial_number) == ("kept", "0001")
    assert len(waits) == 3


def test_a_person_takes_over_at_once_what_the_schedule_waits_for() -> None:
    world = World()
    world.keeper().journal.write("www", Entry(claim=Claim("somebody else", timedelta(minutes=15))), None)

    (outcome,) = tick(world.keeper(), [WWW], Ask(by_name=True)).outcomes

    assert outcome.outcome == "renewed"
    assert world.clock.now() < START + timedelta(minutes=1)


def test_a_claim_that_has_run_out_holds_nobody_up() -> None:
    world = World()
    world.keeper().journal.write("www", Entry(claim=Claim("somebody else", timedelta(minutes=15))), None)
    world.clock.later(timedelta(minutes=15))

    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    assert outcome.outcome == "renewed"


def test_a_run_that_was_overtaken_finalizes_nothing_though_its_order_is_ready() -> None:
    world = World()
    overtaken: list[str] = []

    def forgotten(account: Account, url: str) -> Order:
        if url.endswith("/1"):
            raise AuthorityError("no such order", status=404)
        return world.authority.fetch_order(account, url)

    def fetch_order(account: Account, url: str) -> Order:
        order = world.authority.fetch_order(account, url)
        if order.status == "ready" and not overtaken:
            overtaken.append(url)
            tick(with_authority(world, fetch_order=forgotten), [WWW], Ask(by_name=True))
        return order

    (outcome,) = tick(with_authority(world, fetch_order=fetch_order), [WWW]).outcomes

    assert overtaken == ["https://ca.test/order/1"]
    assert outcome.outcome == "kept"
    assert len(world.authority.issued) == 1
    assert held(world).order_url == "https://ca.test/order/2"


@pytest.mark.parametrize("status", [400, 404])
@pytest.mark.parametrize("finalized", [False, True])
def test_an_order_that_the_ca_does_not_know_any_more_is_placed_anew_if_it_was_not_finalized(
    status: int, finalized: bool
) -> None:
    world = World(FakeClock(patience=timedelta(minutes=4)))
    world.authority.processing = 1000

    def unwell(account: Account, url: str) -> Authorization:
        raise AuthorityError("busy", status=500)

    tick(world.keeper() if finalized else with_authority(world, authorization=unwell), [WWW])
    pending = world.keeper().journal.read("www").entry.pending
    assert pending is not None and pending.finalized is finalized
    world.authority.processing = 0
    world.clock.later(timedelta(hours=1))

    def unknown(account: Account, url: str) -> Order:
        if url == pending.url:
            raise AuthorityError("order not found", kind="malformed", status=status)
        return world.authority.fetch_order(account, url)

    (outcome,) = tick(with_authority(world, fetch_order=unknown), [WWW], Ask(by_name=True)).outcomes

    assert outcome.outcome == ("failed" if finalized else "renewed")
    assert world.authority.new_orders == (1 if finalized else 2)


# Out of time.


def test_what_there_is_no_time_for_waits_and_the_next_run_goes_on() -> None:
    world = World(FakeClock(patience=timedelta(minutes=4)))
    world.authority.processing = 1000
    (first,) = tick(world.keeper(), [WWW]).outcomes
    entry = world.keeper().journal.read("www").entry
    world.authority.orders["https://ca.test/order/1"]["left"] = 0
    world.clock.later(timedelta(minutes=1))

    (second,) = tick(world.keeper(), [WWW]).outcomes

    assert (first.outcome, first.reason, first.error) == ("waiting", "no time left; the next run goes on", None)
    assert entry.claim is None and entry.failure is None
    assert entry.pending is not None and entry.records == ()
    assert second.outcome == "renewed"
    assert (world.authority.new_orders, len(world.authority.issued)) == (1, 1)


def test_no_record_stays_when_time_runs_out_while_proving() -> None:
    world = World()

    def answer(account: Account, challenge: Challenge) -> None:
        world.clock.time = world.clock.deadline

    (outcome,) = tick(with_authority(world, answer=answer), [WWW]).outcomes
    entry = world.keeper().journal.read("www").entry
    world.clock.later(timedelta(hours=1))

    (again,) = tick(world.keeper(), [WWW]).outcomes

    assert outcome.outcome == "waiting"
    assert entry.claim is None and entry.records == () and entry.pending is not None
    assert world.dns.records == set()
    assert again.outcome == "renewed"
    assert world.authority.new_orders == 1


@pytest.mark.parametrize("asked_to_wait", [None, 30.0, 3600.0])
def test_a_ca_that_never_decides_on_one_name_holds_up_no_other_and_is_told(asked_to_wait: float | None) -> None:
    world = World()
    stuck = API.identifiers[0]

    def authorization(account: Account, url: str) -> Authorization:
        one = world.authority.authorization(account, url)
        return replace(one, status="pending", retry_after=asked_to_wait) if one.identifier == stuck else one

    def answer(account: Account, challenge: Challenge) -> None:
        if stuck not in challenge.url:
            world.authority.answer(account, challenge)

    outcomes = tick(with_authority(world, authorization=authorization, answer=answer), [API, *TWENTY]).outcomes
    entry = world.keeper().journal.read("api").entry

    assert [one.outcome for one in outcomes] == ["failed", *["renewed"] * 20]
    assert outcomes[0].error == f"the CA has not decided on {stuck} yet"
    assert entry.failure is not None and entry.claim is None and entry.pending is not None
    assert world.dns.records == set()


def with_a_busy_ca(world: World, every: int, retry_after: float) -> Keeper:
    """A keeper whose CA answers 503 to every so many requests."""
    calls = iter(range(10_000))

    def busy(method: Any) -> Any:
        def call(*arguments: Any) -> Any:
            if next(calls) % every == every - 1:
                raise AuthorityError("busy", kind="serverInternal", status=503, retry_after=retry_after)
            return method(*arguments)

        return call

    methods = ("new_order", "authorization", "answer", "fetch_order", "finalize", "download")
    return with_authority(world, **{one: busy(getattr(world.authority, one)) for one in methods})


def test_a_ca_that_is_busy_for_a_moment_is_asked_again_in_the_same_run_by_all_others() -> None:
    outcomes = tick(with_a_busy_ca(World(), 25, 5.0), TWENTY).outcomes

    assert Counter(one.outcome for one in outcomes)["renewed"] >= 15  # all but those who met it themselves


def test_a_ca_that_sheds_load_for_hours_issues_for_a_few_names_in_each_run_and_not_for_none() -> None:
    world = World()
    hundred = [CertificateSpec(f"n{n:03}", (f"n{n:03}.example.com",), CA) for n in range(100)]
    renewed = []
    for _ in range(6):
        outcomes = tick(with_a_busy_ca(world, 20, 120.0), hundred).outcomes
        renewed.append(Counter(one.outcome for one in outcomes)["renewed"])
        world.clock.later(timedelta(hours=1))
    batches = world.dns.batches

    tick(world.keeper(), hundred)

    assert min(renewed[1:]) >= 5
    assert len(world.authority.issued) == world.authority.new_orders == 100
    assert world.dns.batches <= batches + 20


def test_a_ca_that_does_not_answer_is_not_waited_for_by_one_name_after_the_other() -> None:
    world, asked = World(), []
    elsewhere = CertificateSpec("elsewhere", ("elsewhere.example.com",), SECOND_CA)

    def new_order(*arguments: Any) -> Order:
        asked.append(arguments)
        world.clock.time += timedelta(seconds=35)
        raise AuthorityError("the CA at ca.test cannot be reached (timed out)")

    outcomes = tick(with_authority(world, new_order=new_order), [*TWENTY, elsewhere]).outcomes

    assert [one.outcome for one in outcomes] == ["failed"] * 20 + ["renewed"]
    assert len(asked) == 3


@pytest.mark.parametrize("lost", ["finalize", "answer"])
def test_an_order_that_the_ca_hands_out_again_for_another_name_is_not_waited_for(lost: str) -> None:
    world, twin = World(reuse_orders=True), replace(WWW, name="twin")

    def lost_on_its_way(*arguments: Any) -> Any:
        raise AuthorityError("the CA at ca.test cannot be reached (timed out)")

    tick(with_authority(world, **{lost: lost_on_its_way}), [WWW])
    tick(world.keeper(), [twin], Ask(by_name=True))
    world.clock.later(timedelta(hours=1))
    (outcome,) = tick(world.keeper(), [WWW], Ask(by_name=True)).outcomes

    assert held(world, "twin").order_url == "https://ca.test/order/1"
    assert (outcome.outcome, held(world).order_url) == ("renewed", "https://ca.test/order/2")
    assert len(world.authority.issued) == 2


@pytest.mark.parametrize("past", [True, False], ids=["a window that has passed", "a window that is open now"])
def test_a_ca_that_wants_whatever_it_issues_replaced_at_once_does_not_get_an_order_at_every_tick(past: bool) -> None:
    world, hour = World(), timedelta(hours=1)

    def ask(directory: str, certificate_id: str, now: datetime) -> Window:
        start = now - timedelta(days=3)
        return Window(start, now - hour if past else now + hour, now + hour / 2, None)

    keeper = replace(world.keeper(), renewal_information=cast("Any", SimpleNamespace(ask=ask)))
    outcomes: list[Outcome] = []
    for _ in range(72):
        outcomes += tick(keeper, [WWW]).outcomes
        world.clock.later(hour)
    told, issued = outcomes[-1], len(world.authority.issued)
    (forced,) = tick(keeper, [WWW], Ask(by_name=True, force=True)).outcomes

    assert [one.outcome for one in outcomes[:5]] == ["renewed"] * 5  # it is believed, but not for ever
    assert issued == 5
    assert told.outcome == "waiting" and told.error is not None and "5 certificates for exactly these" in told.error
    assert told.next_attempt == START + timedelta(days=7, seconds=1)  # the first one took a second
    assert forced.outcome == "renewed"


# Leftovers.


def test_records_of_a_dead_order_go_though_the_certificate_is_kept() -> None:
    world = World()
    tick(world.keeper(), [WWW])
    leftover = TxtRecord("Z1", "_acme-challenge.example.com", "left by a killed run")
    world.dns.records.add(leftover)
    keeper = world.keeper()
    keeper.journal.write("www", Entry(records=(leftover,)), keeper.journal.read("www").version)

    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    assert outcome.outcome == "kept"
    assert world.dns.records == set()
    assert world.keeper().journal.read("www").entry.tidy


def test_records_that_could_not_be_taken_away_are_remembered_and_taken_away_by_the_next_run() -> None:
    world = World()
    world.dns.stuck = True
    (outcome,) = tick(world.keeper(), [WWW]).outcomes
    remembered = world.keeper().journal.read("www").entry.records
    world.dns.stuck = False

    (again,) = tick(world.keeper(), [WWW]).outcomes

    assert (outcome.outcome, again.outcome) == ("renewed", "kept")
    assert len(remembered) == 2
    assert world.dns.records == set()
    assert world.keeper().journal.read("www").entry.tidy


# Defects.


def test_a_defect_met_by_one_name_stays_with_that_name_and_quotes_nothing() -> None:
    world = World()

    def new_request(spec: CertificateSpec) -> CertificateRequest:
        if spec.name == "www":
            raise ValueError("-----BEGIN PRIVATE KEY----- very secret")
        return world.keys.new_request(spec)

    keys: Any = Altered(world.keys, new_request=new_request)
    outcomes = tick(replace(world.keeper(), keys=keys), [WWW, API]).outcomes

    assert [one.outcome for one in outcomes] == ["failed", "renewed"]
    assert "ValueError" in (outcomes[0].error or "") and "test_tick" in (outcomes[0].error or "")
    assert "secret" not in str(outcomes[0]) and "PRIVATE" not in str(outcomes[0])
    assert outcomes[0].hint == "this is a defect; please report it"
    assert world.keeper().journal.read("www").entry.claim is None


def test_a_defect_while_proving_leaves_no_record() -> None:
    world = World()

    def answer(account: Account, challenge: Any) -> None:
        raise RuntimeError

    (outcome,) = tick(with_authority(world, answer=answer), [WWW]).outcomes

    assert outcome.outcome == "failed"
    assert world.dns.records == set()
    assert world.keeper().journal.read("www").entry.records == ()


def test_challenge_records_stand_only_while_they_are_proven() -> None:
    world, standing = World(), []

    def finalize(account: Account, order: Order, csr_pem: str) -> Order:
        standing.append(len(world.dns.records))
        return world.authority.finalize(account, order, csr_pem)

    keeper = with_authority(world, finalize=finalize)
    tick(replace(keeper, challenge_records=FakeChallengeRecords(world.dns)), [WWW])

    assert standing == [0]


def test_what_has_expired_is_renewed_at_once_and_nothing_is_asked_about_it() -> None:
    world = World()
    tick(world.keeper(), [WWW])
    before = held(world)
    world.clock.later(timedelta(days=90, seconds=1))
    asked: list[str] = []

    def ask(directory: str, certificate_id: str, now: datetime) -> None:
        asked.append(certificate_id)

    information: Any = Altered(world.information, ask=ask)
    (outcome,) = tick(replace(world.keeper(), renewal_information=information), [WWW]).outcomes

    assert outcome.outcome == "renewed"
    assert before.chain.certificate_id not in asked


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_clock_that_is_two_hours_wrong_renews_nothing_that_is_not_due(hours: int) -> None:
    world = World()
    tick(world.keeper(), [WWW, API])
    world.clock.time += timedelta(days=30)
    world.clock.later(timedelta(hours=hours))

    outcomes = tick(world.keeper(), [WWW, API]).outcomes

    assert [one.outcome for one in outcomes] == ["kept", "kept"]
    assert world.authority.new_orders == 2


def test_fifty_ticks_on_healthy_certificates_order_nothing_and_write_nothing() -> None:
    world = World()
    tick(world.keeper(), [WWW, API])
    tick(world.keeper(), [WWW, API])
    writes, orders = world.records.writes, world.authority.new_orders

    for _ in range(50):
        world.clock.later(timedelta(hours=1))
        tick(replace(idle(world), renewal_information=world.information), [WWW, API])

    assert world.authority.new_orders == orders
    assert len(world.authority.issued) == 2
    assert world.records.writes <= writes + 50  # the index, which says as of when


def test_a_ca_that_is_at_work_for_hours_is_waited_for_by_every_run_told_as_a_failure_and_paid_once() -> None:
    world = World()
    world.authority.processing = 200
    finalized: list[str] = []

    def finalize(account: Account, order: Order, csr_pem: str) -> Order:
        finalized.append(order.url)
        return world.authority.finalize(account, order, csr_pem)

    outcomes: list[Outcome] = []
    for _ in range(6):
        outcomes += tick(with_authority(world, finalize=finalize), [WWW]).outcomes
        world.clock.later(timedelta(hours=1))
        if outcomes[-1].outcome == "renewed":
            break

    assert [one.outcome for one in outcomes[:-1]] == ["failed"] * (len(outcomes) - 1)
    assert len(outcomes) > 3
    assert outcomes[-1].outcome == "renewed"
    assert len(finalized) == len(world.authority.issued) == 1
    assert world.dns.records == set()
