"""The RFC 8555 order, and what to do next with one. Pure: a table from state to step.

Everything that decides how an order proceeds lives in this file; everything that makes it proceed lives
elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union


@dataclass(frozen=True)
class Problem:
    """An RFC 7807 problem document of an order, an authorization or a challenge; `kind` without the URN.

    `subproblems` holds (identifier, kind, detail) for each subproblem (RFC 8555 section 6.7.1).
    """

    kind: str
    detail: str
    identifier: str | None = None
    subproblems: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class Challenge:
    """A dns-01 challenge (section 8.4): `value` is the TXT value that proves it."""

    url: str
    value: str
    status: str = "pending"


@dataclass(frozen=True)
class Authorization:
    """The CA's view on one identifier (section 7.1.4); `challenge` is None if dns-01 is not offered."""

    url: str
    identifier: str
    status: str
    challenge: Challenge | None
    problem: Problem | None = None
    retry_after: float | None = None
    """Seconds the CA asked to wait before looking again (section 7.5.1)."""

    @property
    def unmet(self) -> Problem | None:
        """Why the CA, having looked, leaves the challenge open: it looks again when it is told again (section 8.2)."""
        is_open = self.status == "pending" and self.challenge is not None and self.challenge.status == "pending"
        return self.problem if is_open else None


@dataclass(frozen=True)
class Order:
    """A request for one certificate and its progress (section 7.1.3)."""

    url: str
    status: str
    identifiers: tuple[str, ...]
    authorization_urls: tuple[str, ...]
    finalize_url: str
    certificate_url: str | None = None
    profile: str | None = None
    problem: Problem | None = None
    retry_after: float | None = None
    """Seconds the CA asked to wait before looking again (section 7.4)."""


@dataclass(frozen=True)
class Prove:
    """These identifiers are still to be proven."""

    authorizations: tuple[Authorization, ...]


@dataclass(frozen=True)
class Finalize:
    """Hand in the CSR."""


@dataclass(frozen=True)
class Wait:
    """The CA is at work; look again, in `seconds` if it said so."""

    seconds: float | None = None


@dataclass(frozen=True)
class Download:
    """The certificate is there."""


@dataclass(frozen=True)
class Abandon:
    """Nothing can come of this order any more."""

    problem: Problem


Step = Union[Prove, Finalize, Wait, Download, Abandon]

DEAD = ("invalid", "deactivated", "expired", "revoked")


def next_step(order: Order, authorizations: tuple[Authorization, ...] = ()) -> Step:
    """RFC 8555 section 7.1.6, read from the client's side. `authorizations` matter while the order is pending."""
    if order.status == "valid":
        return Download() if order.certificate_url else Wait(order.retry_after)
    if order.status == "ready":
        return Finalize()
    if order.status == "processing":
        return Wait(order.retry_after)
    if order.status == "pending":
        return _while_pending(order, authorizations)
    problem = order.problem or Problem("", f"the CA calls the order {order.status} and does not say why")
    return Abandon(problem)


def _while_pending(order: Order, authorizations: tuple[Authorization, ...]) -> Step:
    for one in authorizations:
        if one.status in DEAD:
            said = one.problem or Problem("", f"its authorization is {one.status} and the CA does not say why")
            return Abandon(Problem(said.kind, said.detail, one.identifier))
    pending = tuple(one for one in authorizations if one.status == "pending")
    for one in pending:
        if one.challenge is None:
            return Abandon(Problem("", "the CA does not offer dns-01 for it", one.identifier))
    return Prove(pending) if pending else Wait(order.retry_after)
