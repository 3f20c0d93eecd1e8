"""What a CA may say and do beside issuing, behind the proxy: accounts, profiles, challenges, predecessors."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from certkeeper import __version__
from certkeeper.sandbox.acme_proxy import AcmeProxy
from certkeeper.sandbox.acme_traffic import AcmeRequest, AcmeResponse
from certkeeper.sandbox.calls import Call, Desk, Dropped, Phase
from certkeeper.sandbox.stack import Sandbox
from tests.live.operators import BOTH_CAS, Operator, authority_of

pytestmark = [pytest.mark.live, BOTH_CAS]
Forward = Callable[[], AcmeResponse]


def with_json(response: AcmeResponse, change: Callable[[dict[str, Any]], None]) -> AcmeResponse:
    """A CA's answer with its object changed."""
    said = response.json
    change(said)
    return AcmeResponse(response.status, response.headers, json.dumps(said).encode())


def forwarded(request: AcmeRequest, forward: Forward) -> AcmeResponse:
    return forward()


def said_of(operator: Operator, *arguments: str) -> tuple[int, dict[str, Any]]:
    said = operator.renew(*arguments, operator.name)
    return said.status, said.outcomes[operator.name]


class Payloads:
    """Passes every newOrder on, and remembers what those asked for whose nonce was taken."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def __call__(self, request: AcmeRequest, forward: Forward) -> AcmeResponse:
        response = forward()
        if response.problem != "badNonce":
            self.seen.append(request.payload)
        return response


# Orders.


def has_top_bit(serial_number: str) -> bool:
    """Whether Pebble answers 500 to an order that replaces it (letsencrypt/pebble#550)."""
    return len(serial_number) % 2 == 0 and int(serial_number[0], 16) >= 8


@pytest.mark.pebble("Caddy gives no renewal information, so it is told no predecessor")
def test_a_renewal_names_its_predecessor_and_one_that_was_replaced_already_costs_one_more_request(
    sandbox: Sandbox,
) -> None:
    with Operator(sandbox, count=4) as operator:
        assert operator.renew().status == 0
        found = ((name, operator.certificate(name)) for name in operator.names)
        name, first = next((name, one) for name, one in found if one and not has_top_bit(one.chain.serial_number))
        document = operator.object(f"certificates/{name}")
        assert document is not None
        payloads = Payloads()
        with operator.proxy.script("newOrder", payloads):
            renewed = operator.renew("--force", name)
            # An earlier document comes back, as from a backup: its certificate has been replaced already.
            operator.put(f"certificates/{name}", document)
            operator.age(name, 3600)
            again = operator.renew("--force", name)

        assert (renewed.status, again.status) == (0, 0), renewed.talk + again.talk
        assert [one.get("replaces") for one in payloads.seen] == [first.chain.certificate_id] * 2 + [None]


def test_a_directory_without_renewal_information_is_told_no_predecessor(operator: Operator) -> None:
    payloads = Payloads()
    said_of(operator)

    def without(request: AcmeRequest, forward: Forward) -> AcmeResponse:
        return with_json(forward(), lambda said: said.pop("renewalInfo", None))

    with operator.proxy.script("directory", without), operator.proxy.script("newOrder", payloads):
        status, _ = said_of(operator, "--force")

    assert status == 0
    assert ["replaces" in one for one in payloads.seen] == [False]


def test_endpoints_that_have_moved_are_found_by_the_next_run(sandbox: Sandbox, operator: Operator) -> None:
    said_of(operator)
    desk = Desk()
    moved_to = AcmeProxy(sandbox.ca.directory_url, desk, sandbox.tls)
    here, there = (urlsplit(one.directory_url).netloc for one in (operator.proxy, moved_to))

    def moved(request: AcmeRequest, forward: Forward) -> AcmeResponse:
        return with_json(forward(), lambda said: said.update(newNonce=said["newNonce"].replace(here, there)))

    try:
        with operator.proxy.script("directory", moved):
            status, _ = said_of(operator, "--force")
    finally:
        desk.stop()
        moved_to.close()

    assert status == 0
    assert desk.calls("acme", "newNonce")
    assert len(operator.accounts()) == 1


# Profiles.


@pytest.mark.pebble("Caddy offers no profiles, so none can be asked for")
def test_an_order_for_another_profile_than_was_asked_for_is_not_finalized(operator: Operator) -> None:
    def reused(request: AcmeRequest, forward: Forward) -> AcmeResponse:
        return with_json(forward(), lambda said: said.update(profile="shortlived"))

    with operator.proxy.script("newOrder", reused):
        status, outcome = said_of(operator)

    assert status == 1
    assert outcome["error"] == "the CA's order is for the profile shortlived, and tlsserver was asked for"
    assert "profile" in outcome["hint"]
    assert operator.calls("acme", "finalize") == []
    assert said_of(operator)[0] == 0
    operator.assert_one_good_certificate()


def test_a_profile_that_is_not_in_the_directory_is_told_before_anything_is_ordered(operator: Operator) -> None:
    def without(request: AcmeRequest, forward: Forward) -> AcmeResponse:
        return with_json(forward(), lambda said: said.get("meta", {}).get("profiles", {}).pop("tlsserver", None))

    operator.settings(more='[defaults]\nprofile = "tlsserver"')
    with operator.proxy.script("directory", without):
        status, outcome = said_of(operator)

    offered = "classic, shortlived" if operator.sandbox.ca.has_profiles else "none"
    assert status == 1
    assert outcome["error"] == f"the CA does not offer the profile tlsserver; it offers {offered}"
    assert operator.calls("acme", "newOrder") == []


@pytest.mark.parametrize("operation", ["newOrder", "finalize"])
def test_an_invalid_profile_is_told_wherever_the_ca_notices_and_costs_nothing(
    operator: Operator, operation: str
) -> None:
    def refused(request: AcmeRequest, forward: Forward) -> AcmeResponse:
        return AcmeResponse.of_problem(400, "invalidProfile", "this profile is not for your account")

    with operator.proxy.script(operation, refused):
        status, outcome = said_of(operator)

    assert (status, outcome["error"]) == (1, "this profile is not for your account")
    assert "does not offer this profile" in outcome["hint"]
    assert operator.issued() == []
    assert operator.txt_records() == []
    assert said_of(operator)[0] == 0
    operator.assert_one_good_certificate()


# Challenges.


def test_challenges_of_unknown_types_and_without_a_token_are_passed_over(operator: Operator) -> None:
    strange = [{"type": "dns-persist-01", "status": "pending", "url": "https://ca.test/1"}, {"type": "post-01"}]

    def more(request: AcmeRequest, forward: Forward) -> AcmeResponse:
        return with_json(forward(), lambda said: said.update(challenges=[*strange, *said["challenges"]]))

    with operator.proxy.script("authorization", more):
        status, _ = said_of(operator)

    assert status == 0
    operator.assert_one_good_certificate()


def test_a_ca_without_dns_01_is_told_and_nothing_is_presented(operator: Operator) -> None:
    def without(request: AcmeRequest, forward: Forward) -> AcmeResponse:
        return with_json(forward(), lambda said: said.update(challenges=[{"type": "http-01", "token": "x"}]))

    with operator.proxy.script("authorization", without):
        status, outcome = said_of(operator)

    assert (status, outcome["error"]) == (1, f"{operator.name}: the CA does not offer dns-01 for it")
    assert operator.calls("route53", "ChangeResourceRecordSets") == []


# Accounts.


def test_a_deactivated_account_is_told_run_after_run_and_never_replaced(operator: Operator) -> None:
    said_of(operator)
    authority, account = authority_of(operator)
    assert account.url is not None
    authority._post(account, account.url, {"status": "deactivated"})
    stored = operator.account()

    outcomes = [said_of(operator, "--force") for _ in range(3)]

    assert {status for status, _ in outcomes} == {1}
    assert all("remove accounts/127.0.0.1-" in one["hint"] for _, one in outcomes), outcomes
    assert operator.account() == stored
    assert [call.status for call in operator.calls("acme", "newAccount")] == [201]
    assert len(operator.issued()) == 1


def test_an_account_whose_url_is_lost_is_found_by_its_key(operator: Operator) -> None:
    said_of(operator)
    before = operator.account()
    path = next(path for path in operator.objects() if path.startswith("accounts/"))
    operator.put(path, json.dumps({**before, "account_url": None}).encode())

    status, _ = said_of(operator, "--force")

    assert (status, operator.account()["account_url"]) == (0, before["account_url"])
    assert [call.status for call in operator.calls("acme", "newAccount")] == [201, 200]


def test_a_contact_that_the_ca_does_not_keep_makes_no_new_account(operator: Operator) -> None:
    def forgetful(request: AcmeRequest, forward: Forward) -> AcmeResponse:
        return with_json(forward(), lambda said: said.pop("contact", None))

    text = operator.config.read_text().replace("[ca]", '[ca]\ncontact = "ops@example.com"')
    operator.config.write_text(text)
    with operator.proxy.script("newAccount", forgetful):
        assert [said_of(operator, "--force")[0] for _ in range(2)] == [0, 0]

    assert len(operator.calls("acme", "newAccount")) == 1


def test_new_terms_are_a_persons_to_agree_to_and_their_page_is_told(operator: Operator) -> None:
    page = "https://ca.example.net/terms/2027"

    def wanting(request: AcmeRequest, forward: Forward) -> AcmeResponse:
        return AcmeResponse.of_problem(
            403, "userActionRequired", "the terms have changed", [("Link", f'<{page}>;rel="terms-of-service"')],
            instance="https://ca.example.net/agree/1",
        )  # fmt: skip

    with operator.proxy.script("newOrder", wanting):
        status, outcome = said_of(operator)

    assert (status, outcome["error"]) == (1, "the terms have changed: https://ca.example.net/agree/1")
    assert "a person must visit that page" in outcome["hint"]
    assert said_of(operator)[0] == 0
    operator.assert_one_good_certificate()


# A new account key.

NO_KEY_CHANGE = "Caddy answers 501 to a change of key"
MOMENTS = ("acme keyChange", "acme newAccount", "s3 PutObject", "kms Encrypt")


@pytest.mark.pebble(NO_KEY_CHANGE)
@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_rollover_killed_anywhere_is_finished_by_whoever_comes_next(
    operator: Operator, moment: str, phase: Phase
) -> None:
    said_of(operator)
    url = operator.account()["account_url"]
    service, operation = moment.split()

    def watcher(now: Phase, call: Call) -> None:
        if now == phase and call.service == service and call.operation == operation:
            keeper.kill()
            raise Dropped

    with operator.watching(watcher):
        keeper = operator.start("account", "rollover")
        killed = keeper.end()
    renewed, _ = said_of(operator, "--force")
    finished = operator.run("account", "rollover")

    assert (killed.status, renewed, finished.status) == (-9, 0, 0), finished.talk
    assert (operator.account()["account_url"], operator.account()["next"]) == (url, None)
    assert said_of(operator, "--force")[0] == 0


def test_a_rollover_at_a_ca_that_changes_no_keys_is_told_and_the_account_stays_as_it_is(operator: Operator) -> None:
    said_of(operator)
    before = operator.account()

    def not_implemented(request: AcmeRequest, forward: Forward) -> AcmeResponse:
        # As Caddy's does; it has no type of its own for it.
        return AcmeResponse.of_problem(501, "rejectedIdentifier", "The requested operation is not implemented")

    with operator.proxy.script("keyChange", forwarded if operator.sandbox.ca.name == "Caddy" else not_implemented):
        said = operator.run("account", "rollover")

    assert said.status == 1
    assert "the CA does not change account keys" in said.talk
    assert "the account goes on with the key that it has" in said.talk
    assert {**operator.account(), "write_id": ""} == {**before, "write_id": ""}
    assert said_of(operator, "--force")[0] == 0


@pytest.mark.pebble(NO_KEY_CHANGE)
def test_a_rollover_gives_the_account_a_new_key_and_show_tells_the_account(operator: Operator) -> None:
    said_of(operator)
    before = operator.account()

    rolled = operator.run("account", "rollover", "--json")
    shown = operator.run("account", "show")

    after = operator.account()
    assert (rolled.status, shown.status) == (0, 0), rolled.talk + shown.talk
    assert after["account_url"] == before["account_url"]
    assert after["sealed_account_key"] != before["sealed_account_key"]
    (told,) = json.loads(rolled.data)["accounts"]
    assert (told["account_url"], told["rollover_unfinished"]) == (before["account_url"], False)
    assert before["account_url"] in shown.data
    assert "new key" in rolled.talk


# What is sent.


def test_every_request_names_program_and_version_and_nothing_signed_is_said(operator: Operator) -> None:
    agents: set[str] = set()
    bodies: list[str] = []

    def noted(request: AcmeRequest, forward: Forward) -> AcmeResponse:
        agents.add(request.headers.get("User-Agent", ""))
        if request.method == "POST":
            bodies.append(json.loads(request.body)["signature"])
        return forward()

    with operator.proxy.script("", noted):
        said = operator.run("renew", "--verbose")
        again = operator.run("renew", "--force", "--verbose")

    assert (said.status, again.status) == (0, 0)
    assert agents
    assert all(one.startswith(f"certkeeper/{__version__}") for one in agents), agents
    assert len(bodies) > 10
    assert not [one for one in bodies if one in said.talk + said.data + again.talk + again.data]
