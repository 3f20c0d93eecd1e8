"""What the CA suggests (RFC 9773), end to end: acted on, explained, and no harm when it is nonsense."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from certkeeper.adapters.renewal_information import HttpRenewalInformation
from certkeeper.core.ari import Silence, Window
from certkeeper.sandbox.acme_traffic import AcmeRequest, AcmeResponse
from certkeeper.sandbox.authority import Pebble
from certkeeper.sandbox.calls import Fault
from certkeeper.sandbox.stack import BUCKET, Sandbox
from tests.live.operators import Operator

pytestmark = pytest.mark.live

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture(scope="module", name="sandbox")
def _sandbox() -> Iterator[Sandbox]:
    with Sandbox(nonce_reject=0) as sandbox:
        yield sandbox


def suggestion(start: datetime, end: datetime, url: str | None = None) -> str:
    window = {"start": start.isoformat(), "end": end.isoformat()}
    return json.dumps({"suggestedWindow": window, **({"explanationURL": url} if url else {})})


def suggested(operator: Operator, text: str) -> None:
    """Have the CA answer so for what is held, and everything forgotten that it said before."""
    certificate = operator.certificate()
    assert certificate is not None
    assert isinstance(operator.sandbox.ca, Pebble)
    operator.sandbox.ca.set_renewal_info(certificate.chain.pem, text)
    operator.sandbox.aws.delete_object(BUCKET, f"{operator.prefix}/index")


def test_a_window_that_has_passed_is_acted_on_in_the_same_run_and_explained(operator: Operator) -> None:
    assert operator.renew().status == 0
    now = datetime.now(UTC)
    suggested(operator, suggestion(now - HOUR, now - HOUR / 2, "https://ca.example/incident"))

    said = operator.renew()

    assert said.status == 0, said.talk
    assert said.outcomes[operator.name]["outcome"] == "renewed"
    assert "https://ca.example/incident" in said.outcomes[operator.name]["reason"]
    operator.assert_one_good_certificate(issued=2)


def test_a_window_in_the_future_gives_one_instant_in_every_run_and_another_when_it_moves(operator: Operator) -> None:
    assert operator.renew().status == 0
    start = datetime.now(UTC) + 10 * DAY
    instants: list[set[str]] = []

    for begin in (start, start + 3 * DAY):
        suggested(operator, suggestion(begin, begin + DAY))
        instants.append({operator.renew().outcomes[operator.name]["next_attempt"] for _ in range(3)})

    (first,), (moved,) = instants
    assert start <= datetime.fromisoformat(first) <= start + DAY
    assert start + 3 * DAY <= datetime.fromisoformat(moved) <= start + 4 * DAY
    assert operator.calls("acme", "newOrder")[1:] == []


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("<html>not JSON</html>", id="not JSON"),
        pytest.param('{"suggestedWindow": {"start": "2026-01-01T00:00:00Z"}}', id="no end"),
        pytest.param(
            '{"suggestedWindow": {"start": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z"}}', id="ends first"
        ),
    ],
)
def test_a_malformed_suggestion_renews_nothing(operator: Operator, text: str) -> None:
    assert operator.renew().status == 0
    suggested(operator, text)

    said = operator.renew()

    assert said.outcomes[operator.name]["outcome"] == "kept"
    operator.assert_one_good_certificate()


START, END = "2026-12-01T00:00:00Z", "2026-12-02T00:00:00Z"
GOOD = json.dumps({"suggestedWindow": {"start": START, "end": END}}).encode()


@pytest.mark.parametrize(
    ("status", "retry_after", "pause"),
    [
        pytest.param(200, "0", timedelta(minutes=1), id="at once: a minute"),
        pytest.param(200, "864000", DAY, id="ten days: a day"),
        pytest.param(200, "a date", 3 * HOUR, id="a date"),
        pytest.param(200, "", 6 * HOUR, id="not said"),
        pytest.param(404, "7200", 2 * HOUR, id="not found"),
        pytest.param(500, "", 6 * HOUR, id="an error"),
        pytest.param(503, "7200", 2 * HOUR, id="busy"),
    ],
)
def test_it_is_asked_for_again_when_the_ca_says_within_bounds(
    operator: Operator, status: int, retry_after: str, pause: timedelta
) -> None:
    def answered(request: AcmeRequest, forward: Callable[[], AcmeResponse]) -> AcmeResponse:
        said = format_datetime(now + pause, usegmt=True) if retry_after == "a date" else retry_after
        return AcmeResponse(status, [("Retry-After", said)] if said else [], GOOD)

    directory, now = operator.proxy.directory_url, datetime.now(UTC)
    adapter = HttpRenewalInformation({directory: str(operator.sandbox.tls.bundle)})

    with operator.proxy.script("renewalInfo", answered):
        information = adapter.ask(directory, "keyid.serial", now)

    assert isinstance(information, Window if status == 200 else Silence)
    assert abs(information.ask_again - now - pause) < timedelta(minutes=3)


def test_a_ca_that_cannot_be_reached_is_asked_again_soon_and_by_one_name_only(operator: Operator) -> None:
    directory, now = operator.proxy.directory_url, datetime.now(UTC)
    adapter = HttpRenewalInformation({directory: str(operator.sandbox.tls.bundle)})

    with operator.acme.fault(Fault("drop", "acme")):
        answers = [adapter.ask(directory, f"keyid.{number}", now) for number in range(3)]

    assert answers == [Silence(now + HOUR)] * 3
    assert len(operator.calls("acme")) <= 2
