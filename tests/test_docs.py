"""What the documentation says is held to the code: settings, fields, help texts, command lines, links.

After a change to a help text or a policy:  .venv/bin/python -m tests.test_docs --write
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
import tomllib
import zlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from certkeeper import config
from certkeeper.cli import arguments, render
from certkeeper.client.arguments import HELP, Options
from certkeeper.core import accounts, ari, document, failures, index, journal, report
from certkeeper.core.budget import LIMIT_NAMES, by_certificate
from certkeeper.core.decision import Held
from certkeeper.core.errors import AuthorityError, SettingsError
from certkeeper.core.model import Account, CertificateRequest, GivenUp, Outcome, Revocation, Sealed, TxtRecord, Validity
from certkeeper.deployment.one_file import one_file
from certkeeper.jobs.status import Planned, Served, Status, Survey, planned_json
from tests import policies_in_docs

ROOT = Path(__file__).resolve().parent.parent
COMMAND_LINE = ROOT / "docs" / "command-line.md"
RIGHTS = ROOT / "docs" / "iam.md"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/*.md")])
COLUMNS = "100"
NOW = document.instant("2026-11-23T02:20:00Z")

_BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HELP = re.compile(r"<!-- help: (?P<program>[a-z -]+) -->\n(?P<text>.*?)<!-- end of help -->", re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return [body for said, body in _BLOCK.findall(text) if said == language]


def without_blocks(text: str) -> str:
    return _BLOCK.sub("", text)


def first_cells(text: str, column: int = 0) -> set[str]:
    """The code spans in one column of all tables of a text."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return {span for row in rows if len(row) > column for span in re.findall(r"`([^`]+)`", row[column])}


def section(text: str, heading: str) -> str:
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found.group(1)


# Help texts.


def parsers() -> dict[str, argparse.ArgumentParser]:
    top = arguments.parser()
    (commands,) = (one for one in top._actions if isinstance(one, argparse._SubParsersAction))
    return {"certkeeper": top, **{f"certkeeper {name}": parser for name, parser in commands.choices.items()}}


def help_texts() -> dict[str, str]:
    before = {name: os.environ.get(name) for name in ("COLUMNS", "NO_COLOR")}
    os.environ.update(COLUMNS=COLUMNS, NO_COLOR="1")
    try:
        texts = {program: parser.format_help() for program, parser in parsers().items()}
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return {**texts, "certkeeper-pull": HELP}


def with_help_texts(text: str) -> str:
    """The page with every help block as it should be. Programs that the page does not know come last."""
    texts = help_texts()
    known = {found.group("program") for found in _HELP.finditer(text)}
    missing = "".join(
        f"<!-- help: {program} -->\n<!-- end of help -->\n\n" for program in texts if program not in known
    )
    text = text.replace("## Words in the tables", f"{missing}## Words in the tables", 1)

    def filled(found: re.Match[str]) -> str:
        program = found.group("program")
        if program not in texts:
            return ""
        return f"<!-- help: {program} -->\n```text\n{texts[program].rstrip()}\n```\n<!-- end of help -->"

    return re.sub(r"\n{3,}", "\n\n", _HELP.sub(filled, text))


def test_the_help_in_the_documentation_is_what_the_programs_print() -> None:
    text = COMMAND_LINE.read_text(encoding="utf-8")

    assert with_help_texts(text) == text, "run: .venv/bin/python -m tests.test_docs --write"


def test_the_policies_in_the_documentation_are_those_that_are_deployed() -> None:
    text = RIGHTS.read_text(encoding="utf-8")

    assert policies_in_docs.with_policies(text) == text, "run: .venv/bin/python -m tests.test_docs --write"
    assert sorted(policies_in_docs.kinds(text)) == sorted(policies_in_docs.shown())


# Command lines.


def typed(text: str) -> Iterator[list[str]]:
    """Every command line of ours: in blocks, after `$`, `+` or nothing; and in code spans."""
    lines: list[str] = []
    for language, body in _BLOCK.findall(text):
        if language.split(" ")[0] in ("console", "sh", "diff"):
            lines += body.replace("\\\n", " ").splitlines()
    lines += re.findall(r"`((?:certkeeper|certkeeper-pull|scripts/demo) [^`\n]+)`", without_blocks(text))
    for line in lines:
        words = shlex.split(re.sub(r"^[+$] ?", "", line), comments=True) if _is_ours(line) else []
        if words:
            ends = [place for place, word in enumerate(words) if word in ("|", "&&", ";") or word.startswith(">")]
            yield words[: min(ends)] if ends else words


def _is_ours(line: str) -> bool:
    return re.match(r"(?:[+$] ?)?(?:[\w./-]*/)?(?:certkeeper|certkeeper-pull|demo) ", line) is not None


COMMAND_LINES = [(one.name, words) for one in PAGES for words in typed(one.read_text(encoding="utf-8"))]


def test_the_documentation_shows_command_lines_of_both_programs() -> None:
    programs = {words[0].rpartition("/")[2] for _, words in COMMAND_LINES}

    assert {"certkeeper", "certkeeper-pull", "demo"} <= programs
    assert len(COMMAND_LINES) > 20


@pytest.mark.parametrize(("name", "words"), COMMAND_LINES, ids=[" ".join(words) for _, words in COMMAND_LINES])
def test_every_command_line_in_the_documentation_is_accepted(name: str, words: list[str]) -> None:
    program, *rest = words
    try:
        if program.endswith("certkeeper-pull"):
            assert Options(rest).asks_for or Options(rest).names
        else:
            arguments.parser().parse_args(["demo", *rest] if program.endswith("demo") else rest)
    except (SettingsError, SystemExit) as error:
        pytest.fail(f"{name}: {' '.join(words)}: {error}")


def test_the_two_commands_of_the_readme_are_there() -> None:
    named = set(re.findall(r"`(scripts/[a-z-]+)`", page("README.md")))

    assert {"scripts/demo", "scripts/test"} <= named
    assert all(os.access(ROOT / one, os.X_OK) for one in named)


def test_every_script_that_is_named_exists() -> None:
    named = {(one.name, path) for one in PAGES for path in re.findall(r"scripts/[a-z-]+", one.read_text("utf-8"))}

    assert not [(name, path) for name, path in named if not os.access(ROOT / path, os.X_OK)]


def test_the_boot_client_is_no_larger_than_the_readme_says() -> None:
    said = re.search(r"at most ([\d,]+) lines, and less than ([\d,]+) bytes when compressed", page("README.md"))
    text = one_file()

    assert said is not None
    lines, compressed = (int(one.replace(",", "")) for one in said.groups())
    assert text.count("\n") <= lines
    assert len(zlib.compress(text.encode(), 9)) < compressed


# Settings.


def setting_keys() -> set[str]:
    tables = {
        "ca": config.CA,
        "alerts": config.ALERTS,
        "dns": [key for key in config.DNS if key != "zones"],
        "dns.zones.DOMAIN": config.ZONE,
        "fallback_ca.NAME": config.CA,
        "certificates.NAME": config.CERTIFICATE,
    }
    nested = {f"{table}.{key}" for table, keys in tables.items() for key in keys} - {"ca.limits"}
    nested |= {f"ca.limits.{key}" for key in LIMIT_NAMES}
    of_tables = {*tables, "fallback_ca", "defaults", "certificates"}
    return nested | (set(config.TOP) - of_tables)


def keys_of(settings: dict[str, Any]) -> set[str]:
    found: set[str] = set()
    for key, value in settings.items():
        if key in ("certificates", "fallback_ca"):
            found |= {f"{key}.NAME.{one}" for fields in value.values() for one in fields}
        elif key == "defaults":
            found |= {f"certificates.NAME.{one}" for one in value}
        else:
            found |= {f"{key}.{one}" for one in value if one != "zones"} if isinstance(value, dict) else {key}
        if key == "dns":
            found |= {f"dns.zones.DOMAIN.{one}" for fields in value.get("zones", {}).values() for one in fields}
    limits = settings.get("ca", {}).get("limits", {})
    return found - {"ca.limits"} | {f"ca.limits.{key}" for key in limits}


def examples() -> list[str]:
    return [body for one in PAGES for body in blocks(one.read_text(encoding="utf-8"), "toml")]


def test_the_settings_page_has_a_row_for_every_key_and_for_no_other() -> None:
    text = page("docs/settings.md")
    rows = {cell for cell in first_cells(text) if re.fullmatch(r"[a-zA-Z_.]+", cell)} - {"key"}

    assert rows - setting_keys() <= {"eab_kid", "eab_hmac_key"}  # in the table of faults
    assert setting_keys() - rows == set()


def test_the_examples_of_settings_show_every_key() -> None:
    shown = set().union(*(keys_of(tomllib.loads(text)) for text in examples()))

    assert shown == setting_keys()


@pytest.mark.parametrize("text", examples())
def test_every_example_of_settings_is_accepted(text: str, tmp_path: Path) -> None:
    (tmp_path / "private-ca.pem").touch()
    needed = "" if "store" in tomllib.loads(text) else 'store = "s3://bucket/prefix"\nsealing = "store"\n'

    settings = config.parse(needed + text, str(tmp_path / "certkeeper.toml"))

    assert settings.bucket


def test_the_faults_shown_are_the_faults_told() -> None:
    text = page("docs/settings.md")
    (wrong,) = blocks(text, "toml wrong")
    (shown,) = blocks(text, "text faults")

    with pytest.raises(config.Faults) as caught:
        config.parse(wrong, "certkeeper.toml")

    assert shown == "".join(f"{fault}\n  {fault.hint}\n" for fault in caught.value.faults)


# Formats.


def field_names(data: bytes) -> set[str]:
    def below(value: object) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(below, value))
        if not isinstance(value, dict):
            return set()
        return set(value).union(*map(below, value.values())) - {"www"}

    return below(json.loads(data))


SEALED = Sealed("kms", b"sealed", "arn:aws:kms:eu-west-1:123456789012:key/1")
BUSY = AuthorityError("busy", status=503, retry_after=60.0)
FAILURE = failures.failed(None, BUSY, NOW, tick=timedelta(hours=1), lifetime=None, urgent=False, ca="https://ca.test")
SPENT = by_certificate("https://ca.test", ["example.com"], ["example.com"], "https://ca.test/order/1", NOW)


def test_every_field_of_the_certificate_document_is_described_and_no_other() -> None:
    rows = section(page("docs/formats.md"), "The certificate document: `certificates/NAME`")
    needed = {row.split("`")[1] for row in rows.splitlines() if row.startswith("| `") and "| yes |" in row}

    assert first_cells(rows) == {*document._REQUIRED, *document._OPTIONAL}
    assert needed == set(document._REQUIRED)


def test_every_field_of_the_journal_is_described() -> None:
    pending = journal.PendingOrder(
        request=CertificateRequest("csr", "00", SEALED),
        identifiers=("example.com",),
        ca="https://ca.test/directory",
        account_url="https://ca.test/account/1",
        key_type="ecdsa-p256",
        profile=None,
        placed=NOW,
        url="https://ca.test/order/1",
        charged_domains=("example.com",),
        missed_since=NOW,
    )
    claim, records = journal.Claim("holder", timedelta(minutes=15)), (TxtRecord("Z1", "name", "value", "arn"),)
    revocation = Revocation(
        "4a1b",
        "00",
        "https://ca.test/directory",
        "superseded",
        "pem",
        given_up=(GivenUp("https://ca.test/directory", "https://ca.test/order/2"),),
        asked=True,
    )
    entry = journal.Entry(
        claim,
        pending,
        records,
        FAILURE,
        spent=SPENT,
        revocation=revocation,
        asked_to_wait=FAILURE.troubles,
        rolled_back_to="1",
        kept_in="store",
        aside=(pending,),
    )
    described = section(page("docs/formats.md"), "The journal entry: `journal/NAME`")

    assert field_names(journal.encode(entry, "www")) <= set(re.findall(r"`([^`]+)`", described))


def test_every_field_of_the_account_is_described() -> None:
    data = accounts.encode(Account("https://ca.test/directory", SEALED, "https://ca.test/account/1"))
    described = section(page("docs/formats.md"), "The account: `accounts/CA`")

    assert field_names(data) == first_cells(described)


def test_every_field_of_the_index_is_described() -> None:
    held = Held(
        identifiers=("example.com",),
        key_type=None,
        profile=None,
        ca="https://ca.test/directory",
        validity=Validity(NOW, NOW + timedelta(days=45)),
        serial_number="1",
        issuer="CA",
        order_url=None,
        information=ari.Window(NOW, NOW + timedelta(days=1), NOW),
    )
    text = page("docs/formats.md")
    described = section(text, "The index: `index`") + section(text, "The journal entry: `journal/NAME`")

    data = index.encode(
        index.Index(NOW, {"www": index.Facts(held=held, failure=FAILURE, spent=SPENT, asked_to_wait=FAILURE.troubles)})
    )

    assert field_names(data) <= set(re.findall(r"`([^`]+)`", described))


def test_the_json_of_renew_is_as_shown() -> None:
    shown = [json.loads(text) for text in blocks(page("docs/command-line.md"), "json")]
    (outcomes,) = (one["outcomes"] for one in shown if "outcomes" in one)

    (real,) = report.outcomes_json([Outcome("example.com", "kept", "not due yet")])["outcomes"]

    assert list(real) == list(outcomes[0])


def test_the_json_of_plan_and_status_is_as_shown() -> None:
    shown = [json.loads(text) for text in blocks(page("docs/command-line.md"), "json")]
    plan = next(one for one in shown if "plan" in one)
    status = next(one for one in shown if "certificates" in one)
    served = Served("example.com", None, same=False)

    real_plan = planned_json([Planned("example.com", "keep", "not due yet")], NOW)
    real_status = render.status_json(Survey((Status("example.com", (), "ok", served=(served,)),), NOW))

    assert (list(plan), list(plan["plan"][0])) == (list(real_plan), list(real_plan["plan"][0]))
    assert list(status) == list(real_status)
    assert list(status["certificates"][0]) == list(real_status["certificates"][0])
    assert list(status["certificates"][0]["served"][0]) == list(real_status["certificates"][0]["served"][0])


@pytest.mark.parametrize("text", [text for one in PAGES for text in blocks(one.read_text("utf-8"), "json")])
def test_every_json_block_is_json(text: str) -> None:
    assert json.loads(text)


# Pages.


def headings(text: str) -> set[str]:
    """Anchors, as they are made of headings."""
    titles = re.findall(r"^#+ (.+)$", without_blocks(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=[str(one.relative_to(ROOT)) for one in PAGES])
def test_relative_links_lead_somewhere(path: Path) -> None:
    for link in _LINK.findall(without_blocks(path.read_text(encoding="utf-8"))):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        there = (path.parent / target).resolve() if target else path

        assert there.exists(), link
        assert not anchor or anchor in headings(there.read_text(encoding="utf-8")), link


def test_every_module_that_is_named_exists() -> None:
    named = {
        (one.name, path)
        for one in PAGES
        for path in re.findall(
            r"`((?:certkeeper/|core/|jobs/|cli/|adapters/|lambda/|tests/)[\w/.-]+)`", one.read_text("utf-8")
        )
    }

    assert not [one for one in named if not (ROOT / one[1]).exists() and not (ROOT / "certkeeper" / one[1]).exists()]


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"\]\((\d{4}-[a-z0-9-]+\.md)\)", page("docs/decisions/README.md"))

    assert listed == sorted(one.name for one in folder.glob("0*.md"))


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m tests.test_docs --write")
    COMMAND_LINE.write_text(with_help_texts(COMMAND_LINE.read_text(encoding="utf-8")), encoding="utf-8")
    RIGHTS.write_text(policies_in_docs.with_policies(RIGHTS.read_text(encoding="utf-8")), encoding="utf-8")
