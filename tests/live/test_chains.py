"""Chains of a CA with several roots, and longer than one intermediate."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from certkeeper.sandbox.stack import Sandbox
from tests.live.operators import Operator

pytestmark = pytest.mark.live


@pytest.fixture(scope="module", name="sandbox")
def _sandbox() -> Iterator[Sandbox]:
    with Sandbox(environment={"PEBBLE_ALTERNATE_ROOTS": "2", "PEBBLE_CHAIN_LENGTH": "3"}) as sandbox:
        yield sandbox


def chain_of(operator: Operator) -> list[x509.Certificate]:
    certificate = operator.certificate()
    assert certificate is not None
    return x509.load_pem_x509_certificates(certificate.chain.pem.encode())


def top_of(operator: Operator) -> str:
    (name,) = chain_of(operator)[-1].issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(name.value)


def prefer(operator: Operator, root: str) -> None:
    operator.settings(more=f'preferred_chain = "{root}"')


def test_every_chain_that_the_ca_offers_can_be_preferred_and_has_four_certificates(
    sandbox: Sandbox, operator: Operator
) -> None:
    roots = [sandbox.ca.root_name(number) for number in range(3)]  # type: ignore[union-attr] # it is Pebble
    got = []
    for root in roots:
        prefer(operator, root)
        said = operator.renew("--force", operator.name)
        assert (said.status, "warning" in said.talk) == (0, False), said.talk
        got.append(top_of(operator))

    assert got == roots
    assert len(set(roots)) == 3
    assert len(chain_of(operator)) == 4
    operator.assert_one_good_certificate(issued=3)


def test_a_chain_that_nobody_offers_leaves_the_usual_one_with_a_warning(sandbox: Sandbox, operator: Operator) -> None:
    prefer(operator, "No Such Root")

    said = operator.renew(operator.name)

    assert said.status == 0
    assert f"warning: {operator.name}: the usual chain is kept: the CA offers no chain of No Such Root" in said.talk
    assert top_of(operator) in said.outcomes[operator.name]["hint"]
    operator.assert_one_good_certificate()
