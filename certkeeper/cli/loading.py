"""Which settings a command is about, and which of their certificates."""

from __future__ import annotations

import difflib
import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from certkeeper import config, wiring
from certkeeper.core.errors import SettingsError
from certkeeper.core.model import CertificateSpec

LISTED = 10
LOOK = timedelta(minutes=2)
"""How long a command may take that orders nothing."""


def read_settings(said: Namespace) -> config.Settings:
    if said.store and not said.config:
        return wiring.stored_settings(said.store)
    return config.read(settings_path(said))


def settings_path(said: Namespace) -> Path:
    if said.store and said.config:
        raise SettingsError("--config and --from exclude each other", "give one of them")
    return Path(said.config or os.environ.get("CERTKEEPER_CONFIG") or "certkeeper.toml")


def where(said: Namespace) -> list[str]:
    """The words that lead another command to the same settings."""
    return ["--from", said.store] if said.store else ["--config", said.config] if said.config else []


def chosen(settings: config.Settings, names: Sequence[str]) -> tuple[CertificateSpec, ...]:
    known_names(names, {spec.name: spec.identifiers for spec in settings.specs})
    if not settings.specs:
        raise SettingsError(f"{settings.file} names no certificates", 'add a table like [certificates."example.com"]')
    return tuple(spec for spec in settings.specs if not names or spec.name in names)


def known_names(names: Sequence[str], known: Mapping[str, Sequence[str]]) -> None:
    """Raise SettingsError for a name that is not among `known`, which has the identifiers of each."""
    for name in names:
        if name not in known:
            raise SettingsError(f"there is no certificate called {name!r}", _meant(name.lower(), known))


def _meant(name: str, known: Mapping[str, Sequence[str]]) -> str:
    for one, identifiers in known.items():
        if name in identifiers and name != one:
            return f"the certificate with {name} is called {one}"
    if near := difflib.get_close_matches(name, known, 1):
        return f"did you mean {near[0]}?"
    return f"there are: {', '.join(sorted(known)[:LISTED]) or 'none yet'}{', ...' if len(known) > LISTED else ''}"
