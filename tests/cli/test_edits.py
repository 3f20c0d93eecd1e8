"""Edits of a settings text keep every byte that they are not about, or are refused."""

from __future__ import annotations

import tomllib

import pytest

from certkeeper.cli import edits
from certkeeper.core.errors import SettingsError

TEXT = """\
# Ours. Do not sort.
store   = "s3://bucket/prod"   # eu-west-1

[ca]  # the real one
directory = "letsencrypt"

# The shop, see the wiki.
[certificates."example.com"]   # moved in May
identifiers = [
    "example.com",  # apex
    # not yet: "*.example.com",
]

# The API.
[certificates.api]
identifiers = ["api.example.com"]
key_type = "rsa-2048"
# end of the API

[defaults]
profile = "tlsserver"
"""
CRLF = TEXT.replace("\n", "\r\n")
DOTTED = 'certificates.api.identifiers = ["api.example.com"]\n'
INLINE = '[certificates]\napi = { identifiers = ["api.example.com"] }\n'
WHOLE = 'certificates = { api = { identifiers = ["api.example.com"] } }\n'


@pytest.mark.parametrize("text", [TEXT, CRLF], ids=["LF", "CRLF"])
def test_a_table_is_taken_out_and_nothing_else(text: str) -> None:
    end = "\r\n" if text is CRLF else "\n"
    table = (
        '[certificates."example.com"]   # moved in May\nidentifiers = [\n    "example.com",  # apex\n'
        '    # not yet: "*.example.com",\n]\n'
    ).replace("\n", end)
    assert table in text

    assert edits.without_certificate(text, "f.toml", "example.com") == text.replace(table, "")


def test_comments_after_the_last_key_stay_for_whoever_comes_next() -> None:
    after = edits.without_certificate(TEXT, "f.toml", "api")

    assert "# The API.\n# end of the API\n\n[defaults]\n" in after
    assert list(edits.names(after)) == ["example.com"]


def test_the_last_table_of_a_file_without_a_final_line_end() -> None:
    text = 'store = "s"\n\n[certificates.api]\nidentifiers = ["a.b"]'

    assert edits.without_certificate(text, "f.toml", "api") == 'store = "s"\n\n'


@pytest.mark.parametrize(
    "header", ["[certificates.api]", '[certificates."api"]', "[ certificates . 'api' ]  # x", '["certificates"."api"]']
)
def test_every_way_to_write_a_header_is_known(header: str) -> None:
    text = f'{header}\nidentifiers = ["a.b"]\n'

    assert edits.without_certificate(text, "f.toml", "api") == ""
    assert list(edits.names(edits.renamed(text, "f.toml", "api", "www.example.com"))) == ["www.example.com"]


@pytest.mark.parametrize("text", [TEXT, CRLF], ids=["LF", "CRLF"])
def test_a_rename_changes_the_name_in_the_header_alone(text: str) -> None:
    after = edits.renamed(text, "f.toml", "example.com", "www")

    assert after == text.replace('[certificates."example.com"]', '[certificates."www"]')


@pytest.mark.parametrize("text", [TEXT, CRLF, TEXT.rstrip("\n"), "", "# nothing yet"])
def test_a_table_is_added_at_the_end(text: str) -> None:
    keys = {"identifiers": ["bücher.example", '*."'], "key_type": "rsa-2048"}

    after = edits.with_certificate(text, "f.toml", "books.example", keys)

    assert after.startswith(text)
    assert tomllib.loads(after)["certificates"]["books.example"] == keys
    assert ("\r\n" in after) == ("\r\n" in text)
    assert after.replace("\r\n", "").count("\r") == 0
    assert edits.with_certificate(after, "f.toml", "books.example", keys) == after


@pytest.mark.parametrize("text", [DOTTED, INLINE, WHOLE], ids=["dotted", "inline", "all inline"])
def test_what_cannot_be_edited_for_certain_is_refused_with_what_to_do_by_hand(text: str) -> None:
    with pytest.raises(SettingsError) as taking_out:
        edits.without_certificate(text, "f.toml", "api")
    with pytest.raises(SettingsError) as renaming:
        edits.renamed(text, "f.toml", "api", "www")

    for error in (taking_out.value, renaming.value):
        assert "f.toml" in error.message
        assert "by hand" in (error.hint or "") and 'certificates."api"' in (error.hint or "")


def test_an_inline_table_takes_no_more_names() -> None:
    with pytest.raises(SettingsError, match="cannot take www") as caught:
        edits.with_certificate(WHOLE, "f.toml", "www", {"identifiers": ["a.b"]})

    assert caught.value.hint == (
        'edit it by hand: write at the end of f.toml: [certificates."www"] identifiers = ["a.b"]'
    )


def test_a_header_inside_of_a_text_is_no_header() -> None:
    text = 'note = """\n[certificates.api]\nidentifiers = []\n"""\n' + DOTTED

    with pytest.raises(SettingsError, match="cannot be taken out"):
        edits.without_certificate(text, "f.toml", "api")


def test_an_edit_that_would_change_something_else_is_refused() -> None:
    text = 'note = """\n[certificates.api]\nx = 1\n[other]\n"""\n' + DOTTED

    with pytest.raises(SettingsError, match="cannot be taken out"):
        edits.without_certificate(text, "f.toml", "api")
    with pytest.raises(SettingsError, match="cannot be renamed"):
        edits.renamed(text, "f.toml", "api", "www")


def test_another_name_that_ends_alike_is_not_taken() -> None:
    text = '[certificates."my.api"]\nidentifiers = ["a.b"]\n[certificates.api]\nidentifiers = ["c.d"]\n'

    assert list(edits.names(edits.without_certificate(text, "f.toml", "api"))) == ["my.api"]
