"""Of several chains for one certificate (RFC 8555 section 7.4.2), the one that the settings prefer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from certkeeper.core.errors import AuthorityError
from certkeeper.core.model import Certificate, Outcome
from certkeeper.jobs.tick import tick
from tests.fakes import CA, WWW, Altered, FakeChains, World

OTHER = replace(WWW, preferred_chain="Other Root")


def issued(world: World, **methods: Any) -> tuple[Outcome, Certificate]:
    altered: Any = Altered(world.authority, **methods)
    (outcome,) = tick(replace(world.keeper(), authorities={CA: altered}), [OTHER]).outcomes
    certificate, _ = world.keeper().certificates.read("www")
    assert certificate is not None
    return outcome, certificate


def top_of(certificate: Certificate) -> str:
    return FakeChains().read(certificate.chain.pem).top_issuer


def test_an_alternate_is_taken_where_it_leads_to_the_preferred_root() -> None:
    world = World()
    world.authority.alternate_tops = ("Third Root", "Other Root")

    outcome, certificate = issued(world)

    assert (outcome.outcome, outcome.hint, top_of(certificate)) == ("renewed", None, "Other Root")


def test_a_usual_chain_that_is_the_preferred_one_asks_for_no_other() -> None:
    world = World()
    asked: list[Any] = []
    altered: Any = Altered(world.authority, alternates=lambda *said: asked.append(said))

    (outcome,) = tick(
        replace(world.keeper(), authorities={CA: altered}), [replace(WWW, preferred_chain="Fake Root")]
    ).outcomes

    assert (outcome.outcome, outcome.hint, asked) == ("renewed", None, [])


def test_without_such_a_chain_the_usual_one_is_kept_and_what_there_is_is_told() -> None:
    world = World()
    world.authority.alternate_tops = ("Third Root",)

    outcome, certificate = issued(world)

    assert (outcome.outcome, outcome.error, top_of(certificate)) == ("renewed", None, "Fake Root")
    assert outcome.hint == (
        "the usual chain is kept: the CA offers no chain of Other Root, only of Fake Root, Third Root; "
        "see preferred_chain"
    )


def failing(*_: Any) -> Any:
    raise AuthorityError("the CA is in trouble", status=500)


@pytest.mark.parametrize(
    "alternates",
    [failing, lambda *_: ("-----BEGIN PRIVATE KEY-----",)],
    ids=["the CA does not answer", "no chain at all"],
)
def test_alternates_that_cannot_be_had_cost_no_certificate(alternates: Any) -> None:
    world = World()

    outcome, certificate = issued(world, alternates=alternates)

    assert (outcome.outcome, outcome.error, top_of(certificate)) == ("renewed", None, "Fake Root")
    assert "the usual chain is kept" in (outcome.hint or "")


def test_an_alternate_with_another_leaf_is_none() -> None:
    world, another = World(), World()
    another.authority.issued = [frozenset("x")] * 7
    another.authority.alternate_tops = ("Other Root",)
    tick(another.keeper(), [WWW])
    strange, _ = another.keeper().certificates.read("www")
    assert strange is not None
    from_elsewhere = strange.chain.pem

    outcome, certificate = issued(world, alternates=lambda *_: (from_elsewhere,))

    assert "the usual chain is kept" in (outcome.hint or "")
    assert certificate.chain.serial_number != strange.chain.serial_number
