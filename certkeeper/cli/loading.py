"""Which settings a command is about, and which of their certificates."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from certkeeper import config, wiring
from certkeeper.core.errors import SettingsError
from certkeeper.core.model import CertificateSpec


def read_settings(said: Namespace) -> config.Settings:
    if said.store and not said.config:
        return wiring.stored_settings(said.store)
    return config.read(settings_path(said))


def settings_path(said: Namespace) -> Path:
    if said.store and said.config:
        raise SettingsError("--config and --from exclude each other", "give one of them")
    return Path(said.config or os.environ.get("CERTKEEPER_CONFIG") or "certkeeper.toml")


def chosen(settings: config.Settings, names: Sequence[str]) -> tuple[CertificateSpec, ...]:
    known_names(names, {spec.name for spec in settings.specs})
    if not settings.specs:
        raise SettingsError(f"{settings.file} names no certificates", 'add a table like [certificates."example.com"]')
    return tuple(spec for spec in settings.specs if not names or spec.name in names)


def known_names(names: Sequence[str], known: set[str]) -> None:
    for name in names:
        if name not in known:
            listed = ", ".join(sorted(known)[:10]) or "none yet"
            raise SettingsError(f"there is no certificate called {name!r}", f"there are: {listed}")
