"""Whether CAA records let a CA issue: RFC 8659 and RFC 8657, section by section."""

from __future__ import annotations

import pytest

from certkeeper.core.caa import CaaRecord, require
from certkeeper.core.errors import AuthorityError

ISSUERS = ("pki.test", "second.test")
ACCOUNT = "https://pki.test/account/1"
Records = dict[str, tuple[CaaRecord, ...]]


def issue(value: str, tag: str = "issue", flags: int = 0) -> CaaRecord:
    return CaaRecord(flags, tag, value)


def required(records: Records, identifier: str = "www.example.com") -> None:
    require(identifier, lambda name: records.get(name, ()), ISSUERS, ACCOUNT)


@pytest.mark.parametrize(
    ("records", "identifier"),
    [
        pytest.param({}, "www.example.com", id="none at all"),
        pytest.param({"example.com": (issue("pki.test"),)}, "www.example.com", id="at an ancestor"),
        pytest.param({"com": (issue("pki.test"),)}, "www.example.com", id="at the top"),
        pytest.param({"example.com": (issue("Second.Test"),)}, "www.example.com", id="another name of the CA, loud"),
        pytest.param({"example.com": (issue("other.test"), issue("pki.test"))}, "www.example.com", id="one of two"),
        pytest.param(
            {"www.example.com": (issue("pki.test"),), "example.com": (issue(";"),)},
            "www.example.com",
            id="the nearest counts",
        ),
        pytest.param(
            {"www.example.com": (issue("mailto:a@example.com", "iodef"),), "example.com": (issue(";"),)},
            "www.example.com",
            id="the nearest counts, though it says nothing about issuing",
        ),
        pytest.param({"example.com": (issue(";", "issuewild"),)}, "www.example.com", id="issuewild is for wildcards"),
        pytest.param(
            {"example.com": (issue(";"), issue("pki.test", "issuewild"))}, "*.example.com", id="issuewild wins"
        ),
        pytest.param({"example.com": (issue("pki.test"),)}, "*.example.com", id="issue is for wildcards too"),
        pytest.param(
            {"example.com": (issue(f"pki.test; accounturi={ACCOUNT}; validationmethods=http-01,dns-01"),)},
            "www.example.com",
            id="our account and our challenge",
        ),
        pytest.param({"example.com": (issue("x", "unknown"),)}, "www.example.com", id="an unknown tag"),
    ],
)
def test_it_is_allowed(records: Records, identifier: str) -> None:
    required(records, identifier)


@pytest.mark.parametrize(
    ("records", "identifier", "hint"),
    [
        pytest.param(
            {"example.com": (issue("other.test"),)},
            "www.example.com",
            'add the record: example.com. CAA 0 issue "pki.test"',
            id="another CA",
        ),
        pytest.param(
            {"www.example.com": (issue(";"),)},
            "www.example.com",
            'add the record: www.example.com. CAA 0 issue "pki.test"',
            id="nobody",
        ),
        pytest.param(
            {"example.com": (issue("pki.test"), issue("other.test", "issuewild"))},
            "*.example.com",
            'add the record: example.com. CAA 0 issuewild "pki.test"',
            id="a wildcard",
        ),
        pytest.param(
            {"example.com": (issue(f"pki.test; accounturi={ACCOUNT}2"),)},
            "www.example.com",
            f'add the record: example.com. CAA 0 issue "pki.test; accounturi={ACCOUNT}; validationmethods=dns-01"',
            id="another account",
        ),
        pytest.param(
            {"example.com": (issue("pki.test; validationmethods=http-01"),)},
            "www.example.com",
            f'add the record: example.com. CAA 0 issue "pki.test; accounturi={ACCOUNT}; validationmethods=dns-01"',
            id="another challenge",
        ),
        pytest.param(
            {"example.com": (issue(f"pki.test; accounturi={ACCOUNT}; accounturi={ACCOUNT}"),)},
            "www.example.com",
            f'add the record: example.com. CAA 0 issue "pki.test; accounturi={ACCOUNT}; validationmethods=dns-01"',
            id="a parameter twice",
        ),
        pytest.param(
            {"example.com": (issue("pki.test"), issue("x", "unknown", 128))},
            "www.example.com",
            "remove it, or its critical flag",
            id="an unknown critical tag",
        ),
    ],
)
def test_it_is_refused_with_the_record_to_add(records: Records, identifier: str, hint: str) -> None:
    with pytest.raises(AuthorityError) as caught:
        required(records, identifier)

    assert caught.value.kind == "caa"
    assert caught.value.message.startswith(f"{identifier}: ")
    assert caught.value.hint == hint


def test_a_ca_that_does_not_say_what_it_is_called_is_held_to_nothing() -> None:
    def never(name: str) -> tuple[CaaRecord, ...]:
        raise AssertionError

    require("example.com", never, (), ACCOUNT)
