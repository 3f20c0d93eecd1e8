"""Wrong settings and surroundings: one clear error with a hint, and nothing is changed that need not be."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from certkeeper.sandbox.processes import free_port
from tests.live.keepers import Said
from tests.live.operators import Operator

pytestmark = pytest.mark.live

UNQUOTED = """
[certificates.www.example.org]
identifiers = ["www.example.org"]
"""
BAD_NAME = """
[certificates."Not A Name"]
identifiers = ["www.example.net"]
"""
DUPLICATE = """
[certificates.more]
identifiers = ["more.example.net", "more.example.net"]
"""
COVERED = """
[certificates.more]
identifiers = ["*.example.net", "www.example.net"]
"""
UNKNOWN_KEY = """
[certificates.more]
identifiers = ["www.example.net"]
key_typ = "ecdsa-p256"
"""
NO_ZONE = """
[certificates.more]
identifiers = ["www.example.org"]
"""


def one_error(said: Said) -> tuple[str, str]:
    """The one error and its hint; there must be no other, and no traceback."""
    assert "Traceback" not in said.talk
    error, hint = said.talk.splitlines()
    assert error.startswith("certkeeper: error: ")
    assert hint.startswith("certkeeper: hint: ")
    return error.removeprefix("certkeeper: error: "), hint.removeprefix("certkeeper: hint: ")


@pytest.mark.parametrize(
    ("more", "what", "todo"),
    [
        (UNKNOWN_KEY, r'certificates\."more"\.key_typ: unknown key', "did you mean key_type"),
        (BAD_NAME, r'certificates\."Not A Name": not a name', "lower-case letters"),
        (UNQUOTED, r"certificates\.www\.example\.org: .*quotes", r'\[certificates\."www\.example\.org"\]'),
        (DUPLICATE, r"'more\.example\.net' stands there twice", "remove one"),
        (COVERED, r"www\.example\.net is covered by \*\.example\.net", "remove it"),
    ],
    ids=["unknown key", "bad name", "unquoted name with dots", "duplicate identifier", "wildcard and what it covers"],
)
def test_faults_of_the_settings_are_told_before_anything_is_touched(
    operator: Operator, more: str, what: str, todo: str
) -> None:
    operator.settings(more=more)

    said = operator.renew()

    error, hint = one_error(said)
    assert said.status == 2
    assert said.data == ""
    assert error.startswith(str(operator.config))
    assert re.search(what, error)
    assert re.search(todo, hint)
    assert operator.calls() == []
    assert operator.objects() == {}


def test_a_missing_bucket_is_told_before_anything_is_changed(operator: Operator) -> None:
    operator.settings(store="s3://certkeeper-nobody-made-this/prod")

    said = operator.renew()

    error, hint = one_error(said)
    assert said.status == 2
    assert "NoSuchBucket" in error
    assert "create the bucket" in hint
    assert operator.calls("acme") == []
    assert operator.calls("route53") == []


def missing_kms_key(operator: Operator) -> None:
    operator.settings(kms_key="alias/nobody-made-this")


def unreachable_ca(operator: Operator) -> None:
    operator.settings(directory=f"https://127.0.0.1:{free_port()}/dir")


def untrusted_ca(operator: Operator) -> None:
    operator.settings(ca_bundle="")


@pytest.mark.parametrize(
    ("surroundings", "what", "todo"),
    [
        (missing_kms_key, "alias/nobody-made-this: NotFoundException", "create the key, or correct kms_key"),
        (unreachable_ca, r"the CA at 127\.0\.0\.1:\d+ cannot be reached \(Connection refused\)", "directory URL"),
        (untrusted_ca, r"the TLS certificate of the CA at 127\.0\.0\.1:\d+ is not trusted", "set ca_bundle"),
    ],
)
def test_wrong_surroundings_fail_the_name_with_one_error_and_issue_nothing(
    operator: Operator, surroundings: Callable[[Operator], None], what: str, todo: str
) -> None:
    surroundings(operator)

    said = operator.renew()

    error, hint = one_error(said)
    assert said.status == 1
    assert error.startswith(f"{operator.name}: ")
    assert re.search(what, error)
    assert re.search(todo, hint)
    assert operator.issued() == []
    assert operator.journal().claim is None
    # Mended, it works by name at once.
    operator.settings()
    assert operator.renew(operator.name).status == 0
    operator.assert_one_good_certificate()


def test_a_name_without_a_zone_fails_alone(operator: Operator) -> None:
    operator.settings(more=NO_ZONE)

    said = operator.renew()

    error, hint = one_error(said)
    assert said.status == 1
    assert error.startswith("more: ")
    assert "example.org" in error
    assert "zone" in hint
    assert said.outcomes["more"]["outcome"] == "failed"
    assert said.outcomes[operator.name]["outcome"] == "renewed"
    operator.assert_one_good_certificate()
