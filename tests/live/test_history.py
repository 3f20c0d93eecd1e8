"""`certkeeper history` and `certkeeper rollback` on real parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from certkeeper.sandbox.stack import Sandbox
from tests.live.operators import Operator

pytestmark = pytest.mark.live


def listed(operator: Operator) -> list[dict[str, Any]]:
    said = operator.run("history", "--json", operator.name)
    assert said.status == 0, said.talk
    found: list[dict[str, Any]] = json.loads(said.data)["history"]
    return found


def test_an_earlier_certificate_is_listed_made_current_kept_by_ticks_and_released(operator: Operator) -> None:
    for _ in range(2):
        assert operator.renew("--force").status == 0
    (first, second) = operator.issued()

    said = operator.run("rollback", operator.name)

    assert said.status == 0, said.talk
    assert first in said.talk
    certificate = operator.certificate()
    assert certificate is not None and certificate.chain.serial_number == first
    assert operator.opened(certificate.request.private_key, {"certkeeper-name": operator.name})
    assert operator.journal().tidy
    assert [(one["serial_number"], one["current"], one["pinned"]) for one in listed(operator)] == [
        (first, True, True),
        (second, False, False),
    ]
    status = json.loads(operator.run("status", "--json").data)["certificates"][0]
    assert (status["state"], status["serial_number"], status["pinned_since"] is not None) == ("ok", first, True)
    assert operator.renew().outcomes[operator.name]["outcome"] == "kept"
    assert operator.issued() == [first, second]

    released = operator.run("rollback", operator.name, "--release")

    assert released.status == 0, released.talk
    certificate = operator.certificate()
    assert certificate is not None and certificate.pinned_since is None


def test_what_cannot_be_rolled_back_to_is_refused_with_a_hint(operator: Operator) -> None:
    operator.renew()
    before = operator.objects()

    said = operator.run("rollback", operator.name, "1")

    assert (said.status, said.data) == (2, "")
    assert said.talk == (
        f"certkeeper: error: there is no revision 1 of {operator.name}\n"
        f"certkeeper: hint: see what there is: certkeeper history {operator.name}\n"
    )
    assert operator.objects() == before


def test_nothing_stored_is_no_history(operator: Operator) -> None:
    said = operator.run("history", operator.name)

    assert (said.status, said.data) == (2, "")
    assert "nothing is stored" in said.talk


def test_the_history_stays_in_the_store_where_certificates_are_in_secrets_manager(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    with Operator(sandbox) as operator:
        text = operator.settings()
        operator.config.write_text(
            text.replace('sealing = "kms"', f'certificates_in = "secretsmanager:{operator.prefix}"\nsealing = "kms"')
        )
        for _ in range(2):
            assert operator.renew("--force").status == 0
        first, second = operator.issued()

        said = operator.run("rollback", operator.name)

        assert said.status == 0, said.talk
        assert [one["serial_number"] for one in listed(operator)] == [first, second]
        paths = {path.split("/")[0] for path in operator.objects()}
        assert "history" in paths and "certificates" not in paths
