"""RFC 9773, from the client's side."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from certkeeper.core import ari
from certkeeper.core.ari import Silence, Window
from certkeeper.core.decision import Held, Keep, Renew, decide, due_time
from certkeeper.core.model import CertificateSpec, Validity

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
SPEC = CertificateSpec("www", ("example.com",), "https://ca.test/directory")


def window(start: timedelta, end: timedelta, url: str | None = None) -> Window:
    return Window(NOW + start, NOW + end, NOW + 6 * HOUR, url)


def held(information: ari.Information | None, lifetime: timedelta = timedelta(days=90), used: float = 0.5) -> Held:
    begun = NOW - lifetime * used
    return Held(
        ("example.com",), "ecdsa-p256", None, SPEC.ca, Validity(begun, begun + lifetime), "ab12", "CA", "url", "id",
        information,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("serial", "expected"),
    [
        pytest.param(0x8765_4321, "AIdlQyE", id="high bit set: a zero byte goes before it"),
        pytest.param(0x0765_4321, "B2VDIQ", id="high bit clear"),
        pytest.param(0x7F, "fw", id="one byte"),
        pytest.param(0x80, "AIA", id="one byte with the high bit"),
    ],
)
def test_a_certificate_is_named_by_its_issuer_and_its_der_serial_number(serial: int, expected: str) -> None:
    identifier = bytes.fromhex("69885b6b87464041e1b37b847ba0ae2cde01c8d4")

    assert ari.certificate_id(identifier, serial) == f"aYhba4dGQEHhs3uEe6CuLN4ByNQ.{expected}"


def test_a_suggested_window_is_read_with_its_explanation() -> None:
    body = {
        "suggestedWindow": {"start": "2026-12-01T00:00:00Z", "end": "2026-12-02T00:00:00+00:00"},
        "explanationURL": "https://ca.test/incident",
    }

    information = ari.read(json.dumps(body).encode(), 3600, NOW)

    start = datetime(2026, 12, 1, tzinfo=UTC)
    assert information == Window(start, start + 24 * HOUR, NOW + HOUR, "https://ca.test/incident")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<html>", id="not JSON"),
        pytest.param(b"[]", id="not an object"),
        pytest.param(b"{}", id="no window"),
        pytest.param(b'{"suggestedWindow": {"start": "2026-12-01T00:00:00Z"}}', id="no end"),
        pytest.param(b'{"suggestedWindow": {"start": "2026-12-01", "end": "2026-12-02"}}', id="no time zone"),
        pytest.param(b'{"suggestedWindow": {"start": 1, "end": 2}}', id="numbers"),
        pytest.param(
            b'{"suggestedWindow": {"start": "2026-12-02T00:00:00Z", "end": "2026-12-01T00:00:00Z"}}', id="ends first"
        ),
        pytest.param(
            b'{"suggestedWindow": {"start": "2026-12-02T00:00:00Z", "end": "2026-12-02T00:00:00Z"}}', id="empty"
        ),
        pytest.param(b'{"suggestedWindow": ' + b"[" * 100_000, id="nested without end"),
        pytest.param(
            b'{"suggestedWindow": {"start": "2026-12-01T00:00:00Z", "end": "9999-12-31T23:59:59-10:00"}}',
            id="after the last day of the calendar",
        ),
        pytest.param(
            b'{"suggestedWindow": {"start": "0001-01-01T00:00:00Z", "end": "0001-01-01T01:00:00Z"}}',
            id="on the first day of the calendar",
        ),
    ],
)
def test_a_malformed_answer_is_no_answer(body: bytes) -> None:
    assert ari.read(body, None, NOW) == Silence(NOW + 6 * HOUR)


@pytest.mark.parametrize(
    ("retry_after", "expected"),
    [
        pytest.param(None, 6 * HOUR, id="not said: six hours"),
        pytest.param(0, timedelta(minutes=1), id="at once: not under a minute"),
        pytest.param(21600, 6 * HOUR, id="as said"),
        pytest.param(10 * 86400, timedelta(days=1), id="ten days: not over a day"),
        pytest.param(1e300, timedelta(days=1), id="absurd"),
    ],
)
def test_the_pause_between_two_questions_is_what_the_ca_said_within_bounds(
    retry_after: float | None, expected: timedelta
) -> None:
    assert ari.pause(retry_after) == expected


def test_the_instant_is_the_same_however_often_it_is_asked_for_and_moves_with_the_window() -> None:
    suggested, moved = window(HOUR, 44 * HOUR), window(2 * HOUR, 45 * HOUR)

    instants = {ari.instant(suggested, "ab12", HOUR) for _ in range(20)}

    assert len(instants) == 1
    assert ari.instant(moved, "ab12", HOUR) not in instants


@pytest.mark.parametrize("width", [3.2, 21.6, 30.7, 43.2])
def test_instants_are_spread_over_the_window_and_leave_three_ticks_at_its_end(width: float) -> None:
    suggested = window(HOUR, HOUR + timedelta(hours=width))

    instants = [ari.instant(suggested, f"{serial:x}", HOUR) for serial in range(500)]

    assert min(instants) >= suggested.start
    assert max(instants) + 3 * HOUR <= suggested.end
    assert max(instants) - min(instants) > (suggested.end - suggested.start - 3 * HOUR) * 0.9


def test_a_window_shorter_than_three_ticks_is_used_from_its_start() -> None:
    suggested = window(HOUR, 2 * HOUR)

    assert ari.instant(suggested, "ab12", HOUR) == suggested.start


@pytest.mark.parametrize(
    ("information", "used", "due"),
    [
        pytest.param(window(HOUR, 44 * HOUR), 0.5, False, id="the window has not begun"),
        pytest.param(window(-44 * HOUR, -HOUR), 0.1, True, id="the window has passed, as for a revoked one"),
        pytest.param(window(-43 * HOUR, 3 * HOUR), 0.7, True, id="late in the window"),
        pytest.param(window(300 * HOUR, 400 * HOUR), 0.8, False, id="the CA says later than two thirds"),
        pytest.param(window(300 * HOUR, 400 * HOUR), 0.96, True, id="under 1/20 of life, whatever the CA says"),
        pytest.param(Silence(NOW), 0.6, False, id="no answer: two thirds"),
        pytest.param(Silence(NOW), 0.67, True, id="no answer, past two thirds"),
        pytest.param(None, 0.67, True, id="never asked, past two thirds"),
    ],
)
def test_the_suggestion_decides_when_there_is_one(information: ari.Information | None, used: float, due: bool) -> None:
    now_held = held(information, used=used)

    decision = decide(SPEC, now_held, None, NOW)

    assert isinstance(decision, Renew) == due
    if isinstance(decision, Keep):
        assert decision.until == due_time(now_held) > NOW


def test_the_explanation_is_told() -> None:
    revoked = window(-2 * HOUR, -HOUR, "https://ca.test/incident")

    decision = decide(SPEC, held(revoked, used=0.1), None, NOW)

    assert decision == Renew("the CA wants it replaced, see https://ca.test/incident")


@pytest.mark.parametrize("lifetime", [timedelta(days=90), timedelta(days=64), timedelta(days=45), timedelta(hours=160)])
@pytest.mark.parametrize("cadence", [HOUR, 6 * HOUR, 12 * HOUR])
def test_the_first_tick_after_the_instant_falls_inside_the_window_where_the_cadence_allows_it(
    lifetime: timedelta, cadence: timedelta
) -> None:
    suggested = window(30 * HOUR, 30 * HOUR + lifetime / 50)  # as wide as Let's Encrypt's
    wide = suggested.end - suggested.start
    inside = 0
    for serial in range(200):
        due = ari.instant(suggested, f"{serial:x}", cadence)
        ticks_before = (due - NOW) // cadence
        phase = cadence * (serial % 20) / 20  # nobody knows when in the hour the schedule fires
        tick = NOW + ticks_before * cadence + phase
        tick += cadence if tick < due else timedelta(0)
        inside += suggested.start <= tick < suggested.end

    # A window narrower than the cadence is missed as often as no tick falls into it.
    expected = min(1.0, wide / cadence)
    assert inside / 200 >= expected - 0.1
    assert inside == 200 or wide < cadence
