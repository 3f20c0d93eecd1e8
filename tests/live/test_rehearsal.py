"""`certkeeper renew --staging` on Pebble, as the staging directory of a CA that is never asked."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from certkeeper.sandbox.stack import Sandbox
from tests.live.operators import Operator

pytestmark = pytest.mark.live
NEVER_ASKED = "https://ca.example.net/directory"


@pytest.fixture(scope="module", name="sandbox")
def _sandbox() -> Iterator[Sandbox]:
    # As Let's Encrypt does, it takes what was proven once for proven the next time.
    with Sandbox(authz_reuse=100) as sandbox:
        yield sandbox


def staged(operator: Operator, staging: str) -> None:
    bundle = json.dumps(str(operator.sandbox.tls.bundle))
    text = operator.settings(directory=NEVER_ASKED, ca_bundle="")
    text = text.replace(
        f'directory = "{NEVER_ASKED}"',
        f'directory = "{NEVER_ASKED}"\nstaging_directory = {json.dumps(staging)}\nca_bundle = {bundle}',
    )
    operator.config.write_text(text)


def test_every_rehearsal_presents_its_challenges_and_takes_them_away_and_keeps_only_the_account(
    operator: Operator,
) -> None:
    staged(operator, operator.proxy.directory_url)

    for times in (1, 2):
        said = operator.renew("--staging")
        presented = operator.calls("route53", "ChangeResourceRecordSets")

        assert said.status == 0, said.talk
        assert said.outcomes[operator.name]["outcome"] == "rehearsed"
        assert "nothing was saved" in said.outcomes[operator.name]["reason"]
        assert len(presented) == 2 * times
        assert len(operator.issued()) == times
    assert [path.split("/")[0] for path in operator.objects()] == ["accounts"]
    assert operator.txt_records() == []
    assert [call.status for call in operator.calls("acme", "newAccount")] == [201]


def test_a_rehearsal_that_fails_is_bad_news_and_says_why(sandbox: Sandbox, operator: Operator) -> None:
    staged(operator, operator.proxy.directory_url)
    sandbox.zones.protect(f"_acme-challenge.{operator.name}")

    said = operator.renew("--staging")

    assert said.status == 1
    assert said.outcomes[operator.name]["outcome"] == "failed"
    assert f"error: {operator.name}: " in said.talk
    assert [path.split("/")[0] for path in operator.objects()] == ["accounts"]


def test_a_ca_without_a_staging_directory_is_told_before_anything_is_touched(operator: Operator) -> None:
    said = operator.run("renew", "--staging")

    assert said.status == 2
    assert "no staging directory is known of the CA" in said.talk
    assert operator.calls() == []
    assert operator.objects() == {}
