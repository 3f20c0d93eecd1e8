"""The settings in one piece, as they lie in the store: included files merged, roots of CAs put in as PEM."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from certkeeper import config
from certkeeper.core.errors import SettingsError


def copied(path: Path) -> str:
    """The text to store for the settings in this file: the file itself where it is in one piece, comments and all.

    Raises SettingsError, also for settings that mean something else in one piece, which would be a defect.
    """
    settings = config.read(path)
    text, *included = config.texts(path).values()
    said = config.tables(text)
    if not included and not any(_bundles(said)):
        return text
    said.pop("include", None)
    for more in included:
        said.setdefault("certificates", {}).update(config.tables(more).get("certificates", {}))
    for table in _bundles(said):
        table["ca_bundle"] = (path.parent / table["ca_bundle"]).read_text(encoding="utf-8")
    text = "# Written by certkeeper deploy; edit the files it was made of.\n" + "".join(_lines(said))
    if config.parse(text, str(path)).specs != settings.specs:
        raise SettingsError(f"{path} cannot be copied in one piece", "this is a defect; please report it")
    return text


def _bundles(said: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The tables that name a file of roots."""
    for value in said.values():
        if isinstance(value, dict):
            if not str(value.get("ca_bundle", "-----BEGIN")).lstrip().startswith("-----BEGIN"):
                yield value
            yield from _bundles(value)


def _lines(table: Mapping[str, Any], names: tuple[str, ...] = ()) -> Iterator[str]:
    """TOML: plain keys first, since whatever follows a header belongs to it."""
    plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
    if names and (plain or not table):
        yield f"\n[{'.'.join(map(_key, names))}]\n"
    for key, value in plain.items():
        yield f"{_key(key)} = {_value(value)}\n"
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _lines(value, (*names, key))


def _key(key: str) -> str:
    # As people write them, and as `certkeeper rename` and `certkeeper forget` find them.
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return _text(value) if isinstance(value, str) else str(value)


def _text(text: str) -> str:
    # JSON's escapes are TOML's too, but for DEL, which JSON leaves as it is.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
