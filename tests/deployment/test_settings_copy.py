"""The settings in one piece: the same settings, and the operator's own text where that is in one piece already."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from certkeeper import config
from certkeeper.cli import edits
from certkeeper.core.errors import SettingsError
from certkeeper.deployment.settings_copy import copied

HEAD = 'store = "s3://bucket/prod"\nsealing = "store"\n'
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
EXAMPLE = '[certificates."example.com"]\nidentifiers = ["example.com"]\n'


def written(folder: Path, text: str, **others: str) -> Path:
    for name, body in others.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(body)
    path = folder / "certkeeper.toml"
    path.write_text(text)
    return path


def test_settings_in_one_piece_are_copied_comments_and_all(tmp_path: Path) -> None:
    text = f"# ours\n{HEAD}\n[ca]\nca_bundle = '''\n{PEM}'''\n{EXAMPLE}"

    assert copied(written(tmp_path, text)) == text


def test_roots_in_a_file_and_included_certificates_are_put_in(tmp_path: Path) -> None:
    text = f'include = ["more/*.toml"]\n{HEAD}[ca]\nca_bundle = "ca.pem"\n[dns]\npropagation_timeout = 60\n{EXAMPLE}'
    more = '[certificates."bücher"]\nidentifiers = ["www.bücher.example"]\n'.replace('"bücher"', "shop")
    path = written(tmp_path, text, ca_pem=PEM, more__a_toml=more)

    there = config.parse(copied(path), "settings.toml")

    here = config.read(path)
    assert there.specs == here.specs
    assert {spec.name for spec in there.specs} == {"example.com", "shop"}
    assert there.ca.ca_bundle == PEM
    assert there.propagation_timeout == 60
    assert "include" not in tomllib.loads(copied(path))


def test_a_name_in_settings_made_of_several_files_can_be_renamed_and_taken_out(tmp_path: Path) -> None:
    text = f'{HEAD}[ca]\nca_bundle = "ca.pem"\n{EXAMPLE}[certificates.api]\nidentifiers = ["api.example.com"]\n'
    there = copied(written(tmp_path, text, ca_pem=PEM))

    renamed = edits.renamed(edits.renamed(there, "f.toml", "example.com", "www"), "f.toml", "api", "books.api")

    assert edits.names(renamed).keys() == {"www", "books.api"}
    assert edits.names(edits.without_certificate(there, "f.toml", "example.com")).keys() == {"api"}


def test_roots_of_other_cas_are_put_in_too(tmp_path: Path) -> None:
    text = (
        f'{HEAD}[fallback_ca.other]\ndirectory = "https://ca.example/directory"\nca_bundle = "ca.pem"\n'
        f'contact = "a\\u007fb@example.com"\n{EXAMPLE}'
    )

    said = tomllib.loads(copied(written(tmp_path, text, ca_pem=PEM)))

    assert said["fallback_ca"]["other"]["ca_bundle"] == PEM
    assert said["fallback_ca"]["other"]["contact"] == "a\x7fb@example.com"


def test_settings_with_faults_are_not_copied(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        copied(written(tmp_path, f"{HEAD}colour = 1\n"))
