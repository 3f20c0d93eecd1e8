"""What people are told of, and that it is told once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from certkeeper.core import index as indexes
from certkeeper.core.budget import Limit, Limits
from certkeeper.core.errors import AuthorityError, Conflict, NoticeError
from certkeeper.core.gauges import Gauges
from certkeeper.core.model import CertificateSpec
from certkeeper.core.ports import Notices, Records
from certkeeper.jobs.tick import tick
from certkeeper.jobs.watch import Watched, tried, watch
from tests.fakes import API, CA, START, WWW, Altered, FakeNotices, World

HOUR = timedelta(hours=1)
STORE = "s3://bucket/prod"
REFUSED = AuthorityError("the CA will not", kind="rejectedIdentifier", status=403)
STUMBLED = AuthorityError("the CA stumbles", status=500)


def ticked(world: World, notices: Notices | None, *specs: CertificateSpec, records: Records | None = None) -> Watched:
    report = tick(world.keeper(), specs)
    return watch(records or world.records, report.index, specs, world.clock.now(), STORE, notices)


def hourly(world: World, notices: Notices, hours: int) -> list[Watched]:
    watched = []
    for _ in range(hours):
        world.clock.later(HOUR)
        world.authority.refuse = [STUMBLED] * 20
        watched.append(ticked(world, notices, WWW))
    return watched


def test_all_is_well_and_nobody_is_told() -> None:
    world, notices = World(), FakeNotices()

    watched = ticked(world, notices, WWW, API)

    assert (watched.gauges.failing, watched.gauges.urgent) == (0, 0)
    assert notices.sent == []


def test_a_name_that_only_waits_for_its_first_certificate_is_counted_as_long_as_there_is_none() -> None:
    world = World()
    keeper = replace(world.keeper(), limits={CA: Limits(orders=Limit(1, timedelta(days=7)))})

    report = tick(keeper, [WWW, API])
    watched = watch(world.records, report.index, [WWW, API], world.clock.now(), STORE, None)

    assert sorted(one.outcome for one in report.outcomes) == ["renewed", "waiting"]
    assert watched.gauges.failing == 1


def test_what_only_a_person_can_mend_is_told_at_once_and_once() -> None:
    world, notices = World(), FakeNotices()
    world.authority.refuse = [REFUSED] * 20

    first = ticked(world, notices, WWW)
    world.clock.later(HOUR)
    second = ticked(world, notices, WWW)

    assert (first.gauges.failing, second.gauges.failing) == (1, 1)
    (told,) = notices.sent
    assert "the CA will not" in told.text
    assert f"certkeeper --from {STORE} renew www" in told.text


def test_what_may_pass_is_told_after_a_day_and_once() -> None:
    world, notices = World(), FakeNotices()

    watched = hourly(world, notices, 60)

    assert [one.gauges.failing for one in watched] == [1] * 60
    assert len(notices.sent) == 1
    assert [number for number, one in enumerate(watched) if one.sent] == [24]


def test_what_passed_and_comes_again_is_told_again() -> None:
    world, notices = World(), FakeNotices()
    world.authority.refuse = [REFUSED]
    ticked(world, notices, WWW)
    world.authority.refuse = []
    for _ in range(30):  # until the pause after the failure is over
        world.clock.later(HOUR)
        ticked(world, notices, WWW)
    other = CertificateSpec("www", ("www.example.com",), WWW.ca)
    world.authority.refuse = [REFUSED] * 20
    ticked(world, notices, other)

    assert len(notices.sent) == 2


def test_a_certificate_that_runs_out_is_told_once_more() -> None:
    world, notices = World(), FakeNotices()
    ticked(world, notices, WWW)
    lifetime = world.authority.lifetime
    urgent = []
    while world.clock.now() < START + lifetime + timedelta(days=2):
        world.clock.later(timedelta(hours=6))
        world.authority.refuse = [STUMBLED] * 20
        urgent.append(ticked(world, notices, WWW).gauges.urgent)

    assert urgent[0] == 0 and urgent[-1] == 1
    assert urgent.count(1) >= 0.15 * lifetime / timedelta(hours=6)
    assert [one.subject for one in notices.sent] == [
        "certkeeper: www cannot be renewed",
        "certkeeper: www runs out and is not renewed",
    ]


def test_a_name_that_has_left_the_settings_is_watched_until_it_is_forgotten() -> None:
    world, notices = World(), FakeNotices()
    ticked(world, notices, WWW)
    world.clock.later(world.authority.lifetime * 0.9)

    watched = ticked(world, notices, API)

    assert watched.gauges.urgent == 1
    assert "www" in notices.sent[-1].subject


def test_a_notice_that_fails_stops_nothing_and_is_sent_by_the_next_tick() -> None:
    world, notices = World(), FakeNotices()
    world.authority.refuse = [REFUSED] * 20
    notices.refuse = NoticeError("no topic", "make one")

    watched = ticked(world, notices, WWW)
    notices.refuse = None
    world.clock.later(HOUR)
    ticked(world, notices, WWW)

    assert watched.gauges == Gauges(failing=1, urgent=0)
    assert watched.trouble is not None and watched.trouble.message == "no topic"
    assert len(notices.sent) == 1


def test_what_could_not_be_remembered_is_rather_told_twice_than_never() -> None:
    world, notices = World(), FakeNotices()
    world.authority.refuse = [REFUSED] * 20

    def refuse(path: str, data: bytes, version: str | None) -> str:
        raise Conflict("index has changed")

    forgetful: Records = Altered(world.records, write=refuse)
    watched = ticked(world, notices, WWW, records=forgetful)
    world.clock.later(HOUR)
    ticked(world, notices, WWW)

    assert watched.trouble is not None
    assert len(notices.sent) == 2


def test_without_a_topic_the_gauges_are_counted_and_nothing_is_written() -> None:
    world = World()
    world.authority.refuse = [REFUSED] * 20
    report = tick(world.keeper(), [WWW])
    writes = world.records.writes

    watched = watch(world.records, report.index, [WWW], world.clock.now(), STORE, None)

    assert watched.gauges.failing == 1
    assert world.records.writes == writes


def test_the_index_remembers_what_was_told_and_who_noted_it() -> None:
    world, notices = World(), FakeNotices()
    world.authority.refuse = [REFUSED] * 20
    ticked(world, notices, WWW)

    index, _ = indexes.read(world.records)

    assert list(index.versions) == ["cli"]
    (told,) = index.noticed
    assert told.startswith("www failing 2026-")


def test_a_trial_goes_the_same_way() -> None:
    notices = FakeNotices()

    sent = tried(notices, STORE, START)

    assert notices.sent == [sent]
