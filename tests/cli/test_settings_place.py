"""Settings in a file and in the store, changed in one step."""

from __future__ import annotations

from pathlib import Path

import pytest

from certkeeper import wiring
from certkeeper.cli import edits
from certkeeper.cli.settings_place import Change, Files, Places, Stored
from certkeeper.core.errors import StoreError
from certkeeper.core.ports import Records
from tests.fakes import FaultyRecords, InMemoryRecords

TEXT = """\
store = "s3://bucket/prod"
sealing = "store"
[certificates.old]
identifiers = ["example.com"]
"""
TABLE = '[certificates.more]\nidentifiers = ["more.example.com"]\n'


def rename(text: str, file: str) -> str:
    return edits.renamed(text, file, "old", "new")


RENAMED = rename(TEXT, "")


def places(file: Path, text: str, stored: str, records: Records | None = None) -> Places:
    file.write_text(text)
    here = Files({str(file): text})
    there = records or InMemoryRecords()
    version = there.write(wiring.SETTINGS_PATH, stored.encode(), None)
    return Places(here.settings(), here, Stored(Files({"s3://bucket/prod/settings.toml": stored}), version, there))


def test_where_the_store_refuses_nothing_is_changed(tmp_path: Path) -> None:
    file, records = tmp_path / "certkeeper.toml", FaultyRecords(InMemoryRecords())
    found = places(file, TEXT, TEXT, records)
    records.unwritable.add(wiring.SETTINGS_PATH)

    with pytest.raises(StoreError):
        found.edit("old", rename)

    assert file.read_text() == TEXT


@pytest.mark.parametrize(
    ("text", "stored"), [(TEXT, RENAMED), (RENAMED, TEXT), (TEXT + TABLE, RENAMED)], ids=["store", "file", "more"]
)
def test_a_rename_that_was_killed_between_file_and_store_is_known_and_finished(
    tmp_path: Path, text: str, stored: str
) -> None:
    file, records = tmp_path / "certkeeper.toml", InMemoryRecords()
    found = places(file, text, stored, records)

    assert found.is_being_renamed("old", "new")
    found.edit("old", rename)

    assert edits.names(file.read_text()).keys() - {"more"} == {"new"}
    assert edits.names(records.objects[wiring.SETTINGS_PATH][0].decode()).keys() == {"new"}


@pytest.mark.parametrize(
    ("change", "stored"),
    [
        (None, TEXT),
        (None, RENAMED.replace("example.com", "other.example.com")),
        (lambda text, _: text + TABLE.replace("more]", "new]"), TEXT),
    ],
    ids=["not yet", "another one is called so", "both are there"],
)
def test_nothing_else_is_taken_for_that(tmp_path: Path, change: Change | None, stored: str) -> None:
    text = change(TEXT, "") if change else TEXT

    assert not places(tmp_path / "certkeeper.toml", text, stored).is_being_renamed("old", "new")
