"""ACME Renewal Information (RFC 9773): which certificate is meant, when it is to be renewed, when to ask again. Pure.

The renewal instant is derived from the certificate and the window, never drawn and never stored: every run of every
keeper finds the same one, and a window that moves moves it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

SHORTEST_PAUSE, LONGEST_PAUSE = timedelta(minutes=1), timedelta(days=1)
USUAL_PAUSE = timedelta(hours=6)
MARGIN = 3


@dataclass(frozen=True)
class Window:
    """A suggested window (section 4.2), and when to ask for it again (section 4.3)."""

    start: datetime
    end: datetime
    ask_again: datetime
    explanation_url: str | None = None


@dataclass(frozen=True)
class Silence:
    """The CA was asked and gave no usable answer."""

    ask_again: datetime


Information = Window | Silence


def certificate_id(authority_key_identifier: bytes, serial_number: int) -> str:
    """Section 4.1: base64url of the key identifier, a dot, base64url of the DER serial number, without padding."""
    serial = serial_number.to_bytes(serial_number.bit_length() // 8 + 1, "big")
    return f"{_base64url(authority_key_identifier)}.{_base64url(serial)}"


def read(body: bytes, retry_after: float | None, now: datetime) -> Information:
    """The CA's answer. Malformed ones, and windows that end before they begin, are no answer (section 4.2)."""
    ask_again = now + pause(retry_after)
    try:
        said: Any = json.loads(body)
        start, end = (_instant(said["suggestedWindow"][edge]) for edge in ("start", "end"))
    except (ValueError, TypeError, KeyError, RecursionError):
        return Silence(ask_again)
    if end <= start:
        return Silence(ask_again)
    url = said.get("explanationURL")
    readable = isinstance(url, str) and url.startswith("https://") and url.isprintable() and len(url) <= 500
    return Window(start, end, ask_again, url if readable else None)


def pause(retry_after: float | None) -> timedelta:
    """How long not to ask again: what the CA said, between a minute and a day (section 4.3.2); else six hours."""
    if retry_after is None:
        return USUAL_PAUSE
    return min(max(timedelta(seconds=min(retry_after, 1e6)), SHORTEST_PAUSE), LONGEST_PAUSE)


def instant(window: Window, serial_number: str, tick: timedelta) -> datetime:
    """When to renew: one instant of the window, spread evenly over certificates.

    The last three tick periods are left out, so that the first tick at or after it falls inside the window, where the
    CA exempts the order from its limits, and so do two more if it should fail.
    """
    usable = max(window.end - MARGIN * tick - window.start, timedelta(0))
    text = f"{serial_number} {window.start.isoformat()} {window.end.isoformat()}"
    share = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
    return window.start + usable * share


def is_urgent(window: Window, now: datetime) -> bool:
    """Whether the window has passed: the certificate is revoked or about to be, or every tick in it was missed."""
    return now >= window.end


def _instant(text: object) -> datetime:
    if not isinstance(text, str):
        raise TypeError
    moment = datetime.fromisoformat(text)
    # At the ends of the calendar an hour more or less is no instant any more, which would end the run for all names.
    if moment.tzinfo is None or not 1970 <= moment.year < 9000:
        raise ValueError
    return moment.astimezone(UTC)


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
