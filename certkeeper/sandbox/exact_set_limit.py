"""Let's Encrypt's limit that this project exists for: certificates per exact set of identifiers, as a token bucket.

5 per 168 hours, refilled continuously, one every 33.6 hours; asked at newOrder, spent by issuing (GCRA, as Boulder
does it).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from certkeeper.sandbox.acme_traffic import AcmeResponse

PERIOD = 168 * 3600.0


def next_allowed(limit: int, issued_at: Iterable[float]) -> float:
    """When the next order for the set is taken, in Unix seconds; long past if nothing was issued of late."""
    refill = PERIOD / limit
    full_at = 0.0  # when the bucket will be full again
    for instant in sorted(issued_at):
        full_at = max(full_at, instant) + refill
    return full_at + refill - PERIOD


def refusal(limit: int, until: float, now: float) -> AcmeResponse:
    """The CA's answer to an order that comes too early."""
    when = datetime.fromtimestamp(until, UTC)
    return AcmeResponse.of_problem(
        429,
        "rateLimited",
        f"too many certificates ({limit}) already issued for this exact set of identifiers in the last 168h0m0s, "
        f"retry after {when:%Y-%m-%d %H:%M:%S} UTC: see "
        "https://letsencrypt.org/docs/rate-limits/#new-certificates-per-exact-set-of-identifiers",
        (("Retry-After", str(max(1, round(until - now)))),),
    )
