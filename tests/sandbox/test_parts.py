"""Where the sandbox finds its programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from certkeeper.sandbox import parts


def program_in(folder: Path, name: str = "certkeeper-test-part") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / name
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return program


def test_what_is_on_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = program_in(tmp_path / "path")
    program_in(tmp_path / "parts" / "bin")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("CERTKEEPER_PARTS", str(tmp_path / "parts"))

    assert parts.find("certkeeper-test-part") == on_path


def test_then_the_folder_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = program_in(tmp_path / "parts" / "bin")
    monkeypatch.setenv("CERTKEEPER_PARTS", str(tmp_path / "parts"))

    assert parts.find("certkeeper-test-part") == ours


@pytest.mark.live
def test_what_get_pebble_installed_in_the_checkout_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CERTKEEPER_PARTS", raising=False)

    assert parts.find("pebble") == Path(parts.__file__).resolve().parents[2] / ".parts" / "bin" / "pebble"


def test_programs_of_this_python_environment_are_found_without_activating_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert parts.find("pytest") is not None


def test_a_program_that_is_nowhere_is_none() -> None:
    assert parts.find("certkeeper-no-such-part") is None
