"""Which zone, which name, which change."""

from __future__ import annotations

import pytest

from certkeeper.core.errors import DnsError
from certkeeper.core.model import HostedZone, ZonePlace
from certkeeper.core.zones import (
    MOST_CHARACTERS,
    MOST_RECORDS,
    TTL,
    Change,
    RecordSet,
    batches,
    challenge_name,
    choose,
    delegated,
    follow,
    merged,
    place_of,
    swap,
)

COM = HostedZone("ZCOM", "example.com")
SUB = HostedZone("ZSUB", "sub.example.com")
NET = HostedZone("ZNET", "example.net")
INSIDE = HostedZone("ZIN", "example.com", private=True)


@pytest.mark.parametrize(
    ("identifier", "name"),
    [
        ("example.com", "_acme-challenge.example.com"),
        ("*.example.com", "_acme-challenge.example.com"),
        ("a.b.example.com", "_acme-challenge.a.b.example.com"),
    ],
)
def test_a_name_and_its_wildcard_are_proven_in_one_place(identifier: str, name: str) -> None:
    assert challenge_name(identifier) == name


@pytest.mark.parametrize(
    ("name", "zones", "zone"),
    [
        pytest.param("_acme-challenge.example.com", (NET, COM), COM, id="the one that fits"),
        pytest.param("_acme-challenge.a.sub.example.com", (COM, SUB), SUB, id="the longer one"),
        pytest.param("_acme-challenge.a.sub.example.com", (SUB, COM), SUB, id="the longer one, whatever the order"),
        pytest.param("_acme-challenge.bsub.example.com", (SUB, COM), COM, id="by labels and not by letters"),
        pytest.param("example.com", (COM,), COM, id="the apex itself"),
        pytest.param("_acme-challenge.example.com", (INSIDE, COM), COM, id="the public one of two"),
    ],
)
def test_the_zone_is_the_longest_suffix_by_labels(name: str, zones: tuple[HostedZone, ...], zone: HostedZone) -> None:
    assert choose(name, zones) == (zone,)


@pytest.mark.parametrize(
    ("name", "zones", "explicit", "told", "hint"),
    [
        pytest.param("_acme-challenge.evilexample.com", (COM,), None, "no hosted zone for", "create", id="evilexample"),
        pytest.param("_acme-challenge.com", (COM,), None, "no hosted zone for", "create", id="above the zone"),
        pytest.param("_acme-challenge.example.com", (), None, "no hosted zone for", "delegate", id="no zones at all"),
        pytest.param("_acme-challenge.example.com", (INSIDE,), None, "no public hosted zone", "public", id="private"),
        pytest.param("_acme-challenge.example.com", (COM,), "ZNONE", "no hosted zone ZNONE", "hosted_zone_id",
                     id="an explicit id that is not there"),
        pytest.param("_acme-challenge.example.com", (COM, NET), "ZNET", "does not lie in hosted zone ZNET", "",
                     id="an explicit id of another domain"),
    ],
)  # fmt: skip
def test_no_zone_is_told_with_what_to_do(
    name: str, zones: tuple[HostedZone, ...], explicit: str | None, told: str, hint: str
) -> None:
    with pytest.raises(DnsError) as caught:
        choose(name, zones, explicit)

    assert told in caught.value.message
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("explicit", ["ZCOM", "ZTWO", "ZIN"])
def test_an_explicit_id_wins(explicit: str) -> None:
    zones = (COM, HostedZone("ZTWO", "example.com"), SUB, INSIDE)

    assert choose("_acme-challenge.a.sub.example.com", zones, explicit)[0].zone == explicit


# Twins.

TWIN = HostedZone("ZTWO", "example.com")
SERVERS = {COM: frozenset({"ns-1.awsdns-00.com"}), TWIN: frozenset({"ns-2.awsdns-00.com", "ns-3.awsdns-00.net"})}


def test_twins_are_both_told() -> None:
    assert choose("_acme-challenge.example.com", (COM, TWIN, INSIDE, NET)) == (COM, TWIN)


@pytest.mark.parametrize(
    "live",
    [
        pytest.param({"ns-2.awsdns-00.com", "ns-3.awsdns-00.net"}, id="all its name servers"),
        pytest.param({"ns-3.awsdns-00.net", "ns.elsewhere.test"}, id="one of them beside a stranger"),
    ],
)
def test_of_twins_the_one_that_the_world_asks_is_taken(live: set[str]) -> None:
    assert delegated(SERVERS, frozenset(live)) == TWIN


@pytest.mark.parametrize(
    ("live", "told", "asks"),
    [
        pytest.param({"ns.elsewhere.test"}, "delegated to none of them", "ns.elsewhere.test", id="another provider"),
        pytest.param(set(), "delegated to none of them", "no name server", id="not delegated"),
        pytest.param(
            {"ns-1.awsdns-00.com", "ns-2.awsdns-00.com"},
            "delegated to several of them",
            "ns-1.awsdns-00.com, ns-2.awsdns-00.com",
            id="to both",
        ),
    ],
)
def test_twins_that_the_world_does_not_tell_apart_are_refused(live: set[str], told: str, asks: str) -> None:
    with pytest.raises(DnsError) as caught:
        delegated(SERVERS, frozenset(live))

    assert caught.value.message == f"2 public hosted zones are called example.com: ZCOM, ZTWO; the domain is {told}"
    assert caught.value.hint == f"say which with hosted_zone_id; the world asks {asks}"


# Places.

PLACES = (
    ZonePlace("example.com", "arn:aws:iam::210987654321:role/dns"),
    ZonePlace("sub.example.com", hosted_zone_id="ZSUB"),
)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        pytest.param("_acme-challenge.example.com", PLACES[0], id="the domain"),
        pytest.param("_acme-challenge.a.sub.example.com", PLACES[1], id="the longer domain"),
        pytest.param("_acme-challenge.bsub.example.com", PLACES[0], id="by labels and not by letters"),
        pytest.param("_acme-challenge.example.net", ZonePlace(""), id="our own account"),
    ],
)
def test_a_zone_is_looked_for_where_the_longest_domain_says(name: str, place: ZonePlace) -> None:
    assert place_of(name, PLACES) == place == place_of(name, PLACES[::-1])


# CNAMEs.

NAME = "_acme-challenge.example.com"


@pytest.mark.parametrize(
    ("cnames", "end"),
    [
        pytest.param({}, NAME, id="none"),
        pytest.param({NAME: "a.acme.test"}, "a.acme.test", id="one"),
        pytest.param({NAME: "a.acme.test", "a.acme.test": "b.acme.test"}, "b.acme.test", id="two"),
        pytest.param(
            {NAME: "parking.test", "_certkeeper-nobody.example.com": "parking.test"}, NAME, id="a wildcard is a trap"
        ),
        pytest.param(
            {NAME: "mine.acme.test", "_certkeeper-nobody.example.com": "parking.test"},
            "mine.acme.test",
            id="an explicit one beside a wildcard",
        ),
        pytest.param(
            {NAME: "a.acme.test", "a.acme.test": "parking.test", "_certkeeper-nobody.acme.test": "parking.test"},
            "a.acme.test",
            id="a wildcard at the end of an explicit one",
        ),
        pytest.param({NAME: "localhost", "x": "y"}, "localhost", id="a target of one label"),
    ],
)
def test_explicit_cnames_are_followed(cnames: dict[str, str], end: str) -> None:
    assert follow(NAME, cnames.get) == end


def test_eight_hops_are_followed_and_not_more() -> None:
    hops = {f"n{number}.test": f"n{number + 1}.test" for number in range(9)}

    eight = follow("n1.test", hops.get)

    assert eight == "n9.test"
    with pytest.raises(DnsError, match="circle"):
        follow("n0.test", hops.get)


@pytest.mark.parametrize(
    "cnames",
    [
        pytest.param({NAME: NAME}, id="to itself"),
        pytest.param({NAME: "a.test", "a.test": NAME}, id="in a circle"),
        pytest.param({NAME: "a.test", "a.test": "b.test", "b.test": "a.test"}, id="in a circle further on"),
    ],
)
def test_cnames_that_lead_nowhere_are_told(cnames: dict[str, str]) -> None:
    with pytest.raises(DnsError, match="lead in a circle: _acme-challenge") as caught:
        follow(NAME, cnames.get)

    assert caught.value.hint == "mend the CNAME"


# Changes.


def record_set(*values: str, ttl: int = TTL) -> RecordSet:
    return RecordSet(NAME, values, ttl)


@pytest.mark.parametrize(
    ("current", "add", "remove", "wanted"),
    [
        pytest.param(None, ["a"], [], record_set("a"), id="the first"),
        pytest.param(None, [], ["a"], None, id="nothing from nothing"),
        pytest.param(record_set("x", ttl=300), ["a"], [], record_set("x", "a", ttl=300), id="beside another's"),
        pytest.param(record_set("a"), ["a"], [], record_set("a"), id="one that stands there"),
        pytest.param(record_set("a", "x"), [], ["a"], record_set("x"), id="ours less"),
        pytest.param(record_set("a"), [], ["a"], None, id="the last"),
        pytest.param(record_set("old"), ["new"], ["old"], record_set("new"), id="new for old"),
        pytest.param(record_set("a"), ["a"], ["a"], record_set("a"), id="what is wanted is not removed"),
        pytest.param(None, ["b", "a"], [], record_set("a", "b"), id="two at once"),
    ],
)
def test_merging_keeps_what_others_put_there(
    current: RecordSet | None, add: list[str], remove: list[str], wanted: RecordSet | None
) -> None:
    assert merged(current, NAME, add, remove) == wanted


@pytest.mark.parametrize(
    ("current", "wanted", "changes"),
    [
        pytest.param(None, None, (), id="nothing to nothing"),
        pytest.param(record_set("a"), record_set("a"), (), id="the same"),
        pytest.param(None, record_set("a"), (Change("CREATE", record_set("a")),), id="create"),
        pytest.param(record_set("a"), None, (Change("DELETE", record_set("a")),), id="delete"),
        pytest.param(
            record_set("a"),
            record_set("b"),
            (Change("DELETE", record_set("a")), Change("CREATE", record_set("b"))),
            id="compare and swap",
        ),
    ],
)
def test_a_swap_deletes_exactly_what_was_read(
    current: RecordSet | None, wanted: RecordSet | None, changes: tuple[Change, ...]
) -> None:
    assert swap(current, wanted) == changes


def creation(number: int, length: int = 10, values: int = 1) -> tuple[Change, ...]:
    texts = tuple(f"{number}-{value}".ljust(length, "x") for value in range(values))
    return (Change("CREATE", RecordSet(f"n{number}.test", texts)),)


@pytest.mark.parametrize(
    ("swaps", "sizes"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([creation(n) for n in range(MOST_RECORDS)], [MOST_RECORDS], id="as many records as may be"),
        pytest.param([creation(n) for n in range(MOST_RECORDS + 1)], [MOST_RECORDS, 1], id="one record more"),
        pytest.param([creation(n, values=2) for n in range(501)], [500, 1], id="values count and not names"),
        pytest.param([creation(n, length=998) for n in range(32)], [32], id="as many characters as may be"),
        pytest.param([creation(n, length=998) for n in range(33)], [32, 1], id="too many characters"),
        pytest.param([creation(0, length=MOST_CHARACTERS), creation(1)], [1, 1], id="one that is too large by itself"),
    ],
)
def test_batches_keep_route_53s_limits(swaps: list[tuple[Change, ...]], sizes: list[int]) -> None:
    grouped = batches(swaps)

    assert [len(batch) for batch in grouped] == sizes
    assert [one for batch in grouped for one in batch] == swaps


def test_a_swap_is_never_torn_apart() -> None:
    large = tuple(str(value) for value in range(400))
    swaps = [
        (Change("DELETE", RecordSet(f"n{n}.test", large)), Change("CREATE", RecordSet(f"n{n}.test", (*large, "x"))))
        for n in range(3)
    ]

    assert [len(batch) for batch in batches(swaps)] == [1, 1, 1]
