"""Accounts in the store: one path for each directory, readable and safe."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from certkeeper.core.accounts import Accounts, decode, encode, path
from certkeeper.core.errors import Conflict, DocumentError
from certkeeper.core.model import Account, Sealed
from tests.fakes import CA, InMemoryRecords

ACCOUNT = Account(CA, Sealed("kms", b"sealed", "arn:aws:kms:eu-west-1:1:key/k"), "https://ca.test/account/1")


@pytest.mark.parametrize(
    ("directory", "readable"),
    [
        pytest.param("https://acme-v02.api.letsencrypt.org/directory", "acme-v02.api.letsencrypt.org", id="a host"),
        pytest.param("https://ca.test:14000/dir", "ca.test", id="a host and a port"),
        pytest.param("https://ca.test", "ca", id="no path"),
    ],
)
def test_the_path_of_an_account_names_its_ca(directory: str, readable: str) -> None:
    assert path(directory).rpartition("-")[0] == f"accounts/{readable}"


def test_the_path_of_today_is_found_for_ten_years() -> None:
    assert path("https://acme-v02.api.letsencrypt.org/directory") == (
        "accounts/acme-v02.api.letsencrypt.org-5e76d31517ec"
    )


def test_every_directory_has_a_path_of_its_own() -> None:
    directories = [
        "https://ca.test/a",
        "https://ca.test/b",
        "https://ca.test:1/a",
        "http://ca.test/a",
        "https://ca.test",
    ]

    assert len({path(one) for one in directories}) == len(directories)


def test_no_account_is_none() -> None:
    assert Accounts(InMemoryRecords()).read(CA) == (None, None)


def test_an_account_is_read_as_it_was_written() -> None:
    accounts = Accounts(InMemoryRecords())

    version = accounts.write(ACCOUNT, None)

    assert accounts.read(CA) == (ACCOUNT, version)


def test_an_account_whose_key_is_being_changed_is_read_with_both_keys() -> None:
    accounts, changing = Accounts(InMemoryRecords()), replace(ACCOUNT, next_key=Sealed("store", b"another"))

    version = accounts.write(changing, None)

    assert accounts.read(CA) == (changing, version)


def test_an_account_is_created_only_once() -> None:
    accounts = Accounts(InMemoryRecords())
    accounts.write(ACCOUNT, None)

    with pytest.raises(Conflict):
        accounts.write(ACCOUNT, None)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("format", 2, id="a format of the future"),
        pytest.param("ca_directory", "https://other.test/directory", id="another CA's"),
        pytest.param("sealing", "rot13", id="a sealing of no kind"),
        pytest.param("sealed_account_key", None, id="no key"),
        pytest.param("sealed_account_key", "secret secret", id="a key that is no base64"),
        pytest.param("kms_key_arn", 7, id="a key that is a number"),
        pytest.param("account_url", ["x"], id="a URL that is a list"),
        pytest.param("next", "secret", id="a next key that is no object"),
        pytest.param("next", {"sealing": "kms", "sealed_account_key": "secret secret"}, id="a next key of no base64"),
    ],
)
def test_a_hostile_account_is_refused_and_not_quoted(field: str, value: object) -> None:
    fields: dict[str, Any] = {**json.loads(encode(ACCOUNT)), field: value}

    with pytest.raises(DocumentError) as caught:
        decode(json.dumps(fields).encode(), CA)

    assert "secret" not in caught.value.message
    assert caught.value.hint
