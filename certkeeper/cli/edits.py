"""Edits of a settings text that keep every other byte: comments, order, blanks. Pure.

A table is found by its header line, and what came of an edit is read as TOML and compared with what it should say. So
an edit is right or refused; what is written in a form that is not known here (dotted keys, inline tables) is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from certkeeper import config
from certkeeper.core.errors import SettingsError

_HEADER = re.compile(r"^[ \t]*\[", re.MULTILINE)
_AFTER_THE_KEYS = re.compile(r"(?:^[ \t]*(?:#[^\n]*)?\r?\n)*\Z", re.MULTILINE)


def names(text: str) -> dict[str, Any]:
    """The certificates that a text names, each with its keys; none if it is not TOML at all."""
    try:
        found = config.tables(text).get("certificates", {})
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def with_certificate(text: str, file: str, name: str, keys: dict[str, Any]) -> str:
    """One more table at the end. What stands there already with the same keys is left alone. Raises SettingsError."""
    if names(text).get(name) == keys:
        return text
    end = _end_of_line(text)
    begin = "" if not text or text.endswith("\n") else end
    block = end.join([f"[certificates.{json.dumps(name)}]", *(f"{key} = {_value(keys[key])}" for key in keys), ""])
    by_hand = f"write at the end of {file}: {block.replace(end, ' ').strip()}"
    return _sure(text, text + begin + end + block, {**names(text), name: keys}, f"{file} cannot take {name}", by_hand)


def without_certificate(text: str, file: str, name: str) -> str:
    """Without the table of a name; comments before and after it stay. Raises SettingsError."""
    wanted = {one: keys for one, keys in names(text).items() if one != name}
    what, by_hand = f"{name} cannot be taken out of {file} for certain", f"remove [certificates.{json.dumps(name)}]"
    header = _found(text, name, what, by_hand)
    following = _HEADER.search(text, header.end())
    end = following.start() if following else len(text)
    rest = _AFTER_THE_KEYS.search(text[header.start() : end])
    cut = text[: header.start()] + (rest.group() if rest else "") + text[end:]
    return _sure(text, cut, wanted, what, by_hand)


def renamed(text: str, file: str, old: str, new: str) -> str:
    """With another name in the header of a table. Raises SettingsError."""
    wanted = {new if one == old else one: keys for one, keys in names(text).items()}
    what = f"{old} cannot be renamed in {file} for certain"
    by_hand = f"change [certificates.{json.dumps(old)}] to [certificates.{json.dumps(new)}]"
    begin, end = _found(text, old, what, by_hand).span("name")
    return _sure(text, text[:begin] + json.dumps(new) + text[end:], wanted, what, by_hand)


def _found(text: str, name: str, what: str, by_hand: str) -> re.Match[str]:
    """The header line of a table; `name` is the name in it, as it is written there."""
    written = "|".join([re.escape(name), re.escape(f'"{name}"'), re.escape(f"'{name}'")])
    dot, end = r"[ \t]*\.[ \t]*", r"[ \t]*\][ \t]*(?:#[^\n]*)?\r?(?:\n|\Z)"
    found = list(
        re.finditer(rf"^[ \t]*\[[ \t]*([\"']?)certificates\1{dot}(?P<name>{written}){end}", text, re.MULTILINE)
    )
    if len(found) != 1:
        raise SettingsError(what, f"edit it by hand: {by_hand}")
    return found[0]


def _sure(before: str, after: str, wanted: dict[str, Any], what: str, by_hand: str) -> str:
    said = config.tables(before)
    try:
        says = config.tables(after)
    except ValueError:
        raise SettingsError(what, f"edit it by hand: {by_hand}") from None
    if {**says, "certificates": says.get("certificates", {})} != {**said, "certificates": wanted}:
        raise SettingsError(what, f"edit it by hand: {by_hand}")
    return after


def _end_of_line(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _value(value: str | Sequence[str]) -> str:
    # A JSON string without escapes beyond ASCII's is a TOML basic string too.
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return f"[{', '.join(json.dumps(one, ensure_ascii=False) for one in value)}]"
