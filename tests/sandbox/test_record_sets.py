from __future__ import annotations

import pytest

from certkeeper.sandbox.record_sets import (
    Change,
    RecordSet,
    Route53Error,
    batch_faults,
    canonical,
    sort_order,
    txt_strings,
    within,
)

ZONE = "z0.test."


def txt(name: str, *values: str, ttl: int = 60, identifier: str = "") -> RecordSet:
    return RecordSet(canonical(name), "TXT", ttl, values, identifier)


def faults(*changes: tuple[str, RecordSet], present: tuple[RecordSet, ...] = ()) -> list[str]:
    records = {record_set.key: record_set for record_set in present}
    return batch_faults(ZONE, records, [Change(action, record_set) for action, record_set in changes])


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("WWW.Z0.Test", "www.z0.test."),
        ("www.z0.test.", "www.z0.test."),
        ("*.z0.test", r"\052.z0.test."),
        (r"\052.z0.test.", r"\052.z0.test."),
        ("_acme-challenge.z0.test", "_acme-challenge.z0.test."),
        (r"a\056b.z0.test", r"a\056b.z0.test."),
        ("@.z0.test", r"\100.z0.test."),
    ],
)
def test_names_are_kept_as_route53_shows_them(name: str, kept: str) -> None:
    assert canonical(name) == kept


@pytest.mark.parametrize("name", ["", ".", "a..z0.test", "a" * 64 + ".test", ".".join(["a" * 60] * 5), "ü.test"])
def test_names_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(Route53Error, match="FATAL problem"):
        canonical(name)


def test_a_name_is_in_a_zone_by_its_labels_not_by_its_letters() -> None:
    assert within("z0.test.", ZONE) and within("a.b.z0.test.", ZONE)
    assert not within("evilz0.test.", ZONE)
    assert not within("test.", ZONE)


def test_names_sort_by_reversed_labels_with_the_final_dot() -> None:
    names = ["b.a.test.", "a.test.", "z.test.", "a-b.test.", "test."]

    assert sorted(names, key=sort_order) == ["test.", "a-b.test.", "a.test.", "b.a.test.", "z.test."]


@pytest.mark.parametrize(
    ("value", "strings"),
    [
        ('"abc"', [b"abc"]),
        ('"abc" "def"', [b"abc", b"def"]),
        ('"abc""def"', [b"abc", b"def"]),
        (r'"a\"b\\c"', [b'a"b\\c']),
        (r'"a\303\244"', [b"a\xc3\xa4"]),
        ('""', [b""]),
    ],
)
def test_a_txt_value_is_quoted_strings(value: str, strings: list[bytes]) -> None:
    assert txt_strings(value) == strings


@pytest.mark.parametrize("value", ["abc", '"abc', 'abc"', '"abc" def', '"a"b"', "", r'"a\9"'])
def test_what_is_not_quoted_is_no_txt_value(value: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        txt_strings(value)


A_RECORD = RecordSet("www.z0.test.", "A", 60, ("192.0.2.1",))
CNAME = RecordSet("www.z0.test.", "CNAME", 60, ("other.test.",))
STANDING = txt("_acme-challenge.z0.test", '"old"')


@pytest.mark.parametrize(
    ("action", "record_set", "fault"),
    [
        (
            "CREATE",
            STANDING,
            "Tried to create resource record set [name='_acme-challenge.z0.test.', type='TXT'] but it already exists",
        ),
        (
            "DELETE",
            txt("gone.z0.test", '"x"'),
            "Tried to delete resource record set [name='gone.z0.test.', type='TXT'] but it was not found",
        ),
        (
            "DELETE",
            txt("_acme-challenge.z0.test", '"new"'),
            "Tried to delete resource record set [name='_acme-challenge.z0.test.', type='TXT'] "
            "but the values provided do not match the current values",
        ),
        (
            "DELETE",
            txt("_acme-challenge.z0.test", '"old"', ttl=61),
            "Tried to delete resource record set [name='_acme-challenge.z0.test.', type='TXT'] "
            "but the values provided do not match the current values",
        ),
        (
            "UPSERT",
            txt("evilz0.test", '"x"'),
            "RRSet with DNS name evilz0.test. is not permitted in zone z0.test.",
        ),
        (
            "UPSERT",
            txt("a.z0.test", "bare"),
            "Invalid Resource Record: FATAL problem: InvalidCharacterString "
            "(Value should be enclosed in quotation marks) encountered with 'bare'",
        ),
        ("CREATE", txt("a.z0.test", '"x"', '"x"'), "Duplicate Resource Record: '\"x\"'"),
        (
            "CREATE",
            RecordSet("www.z0.test.", "TXT", 60, ('"x"',)),
            "RRSet of type TXT with DNS name www.z0.test. is not permitted because a conflicting RRSet of type CNAME "
            "with the same DNS name already exists in zone z0.test.",
        ),
        (
            "CREATE",
            RecordSet("_acme-challenge.z0.test.", "CNAME", 60, ("other.test.",)),
            "RRSet of type CNAME with DNS name _acme-challenge.z0.test. is not permitted as it conflicts with other "
            "records with the same DNS name in zone z0.test.",
        ),
        (
            "CREATE",
            RecordSet("z0.test.", "CNAME", 60, ("other.test.",)),
            "RRSet of type CNAME with DNS name z0.test. is not permitted at apex in zone z0.test.",
        ),
        (
            "CREATE",
            RecordSet("a.z0.test.", "A", 60, ("192.0.2.256",)),
            "Invalid Resource Record: FATAL problem: ARRDATAIllegalIPv4Address "
            "(Value is not a valid IPv4 address) encountered with '192.0.2.256'",
        ),
        (
            "CREATE",
            txt("_acme-challenge.z0.test", '"x"', identifier="second"),
            "RRSet with DNS name _acme-challenge.z0.test., type TXT, SetIdentifier second cannot be created as other "
            "RRSets exist with the same name and type but another routing policy",
        ),
    ],
)
def test_a_faulty_change_is_told_in_route53s_words(action: str, record_set: RecordSet, fault: str) -> None:
    assert faults((action, record_set), present=(STANDING, CNAME)) == [fault]


def test_strings_may_be_255_octets_long_and_no_longer() -> None:
    assert faults(("CREATE", txt("a.z0.test", f'"{"x" * 255}"'))) == []
    assert faults(("CREATE", txt("a.z0.test", f'"{"x" * 255}" "{"y" * 255}"'))) == []
    (fault,) = faults(("CREATE", txt("a.z0.test", f'"{"x" * 256}"')))
    assert "CharacterStringTooLong (Value is too long)" in fault


def test_every_faulty_change_is_listed_and_no_good_one() -> None:
    listed = faults(
        ("CREATE", STANDING),
        ("CREATE", txt("good.z0.test", '"x"')),
        ("DELETE", txt("gone.z0.test", '"x"')),
        ("CREATE", txt("evilz0.test", '"x"')),
        present=(STANDING,),
    )

    assert [fault.partition("DNS name")[2][:7] or fault[:15] for fault in listed] == [
        "Tried to create",
        "Tried to delete",
        " evilz0",
    ]


def test_an_exact_delete_and_a_create_in_one_batch_replace_a_record_set() -> None:
    merged = txt("_acme-challenge.z0.test", '"old"', '"new"')

    assert faults(("DELETE", STANDING), ("CREATE", merged), present=(STANDING,)) == []
    assert faults(("CREATE", merged), ("DELETE", STANDING), present=(STANDING,)) != []


def test_a_delete_matches_whatever_the_order_of_its_values() -> None:
    present = txt("a.z0.test", '"1"', '"2"')

    assert faults(("DELETE", txt("a.z0.test", '"2"', '"1"')), present=(present,)) == []


def test_a_type_can_be_exchanged_for_cname_only_in_the_order_of_the_batch() -> None:
    assert faults(("DELETE", A_RECORD), ("CREATE", CNAME), present=(A_RECORD,)) == []
    assert "conflicts with other records" in faults(("CREATE", CNAME), ("DELETE", A_RECORD), present=(A_RECORD,))[0]


def test_a_record_set_twice_in_a_batch_is_an_invalid_set_of_changes() -> None:
    twice = faults(("UPSERT", STANDING), ("UPSERT", txt("_acme-challenge.z0.test", '"new"')))

    assert twice == [
        "The request contains an invalid set of changes for a resource record set 'TXT _acme-challenge.z0.test.'"
    ]


def test_upserts_count_twice_against_the_limit_of_records() -> None:
    changes = [txt(f"a{number}.z0.test", '"x"') for number in range(1000)]

    assert faults(*(("CREATE", change) for change in changes)) == []
    assert faults(*(("UPSERT", change) for change in changes[:500])) == []
    assert faults(*(("UPSERT", change) for change in changes[:501])) == ["Number of records limit of 1000 exceeded."]


def test_a_batch_has_at_most_32000_characters_of_values() -> None:
    changes = [txt(f"a{number}.z0.test", f'"{number:03}{"x" * 195}"') for number in range(161)]  # 200 characters each

    assert faults(*(("CREATE", change) for change in changes[:160])) == []
    assert faults(*(("CREATE", change) for change in changes)) == ["RDATA character limit of 32000 exceeded."]
    assert faults(*(("UPSERT", change) for change in changes[:81])) == ["RDATA character limit of 32000 exceeded."]
