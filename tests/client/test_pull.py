"""The rules of a pull, from the outside: exit codes, what is installed, what is said, what AWS was asked."""

from __future__ import annotations

import json
import os
import ssl
import stat
import time
from collections.abc import Callable, Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.hashes import SHA256

from tests.client.certificates import DAY, Pair, authority, document, issue, now
from tests.client.conftest import BUCKET, OBJECT, Instance, Run
from tests.client.loopback_aws import ACCOUNT, IMDS_TOKEN, SECRET_ACCESS_KEY, SESSION_TOKEN, Reply, Seen

REFUSED = b"<Error><Code>AccessDenied</Code></Error>"


def old_and_new(instance: Instance, *more: str) -> tuple[str, str]:
    """Serial numbers of a pair that is installed and reloaded, and of a newer one in the store."""
    old = issue("example.com")
    instance.store(old)
    assert instance.pull(*more, *instance.reload).code == 0
    new = issue("example.com")
    instance.store(new)
    return old.serial_number, new.serial_number


def stale() -> Pair:
    return issue("example.com", not_before=now() - 9 * DAY, not_after=now() - DAY)


# ---- the good way


def test_a_first_pull_installs_and_reloads(instance: Instance) -> None:
    pair = issue("example.com", "*.example.com")
    instance.store(pair)

    run = instance.pull("--for", "www.example.com", *instance.reload)

    leaf, rest = pair.fullchain_pem.split("-----END CERTIFICATE-----\n")[:2]
    assert (run.code, run.err) == (0, "")
    assert run.out.startswith(f"example.com installed {pair.serial_number} until 20")
    assert instance.installed() == {
        "cert.pem": leaf + "-----END CERTIFICATE-----\n",
        "chain.pem": rest + "-----END CERTIFICATE-----\n",
        "fullchain.pem": pair.fullchain_pem,
        "privkey.pem": pair.private_key_pem,
    }
    assert instance.reloads == [pair.serial_number]


def test_only_root_can_reach_the_private_key(instance: Instance) -> None:
    instance.store(issue("example.com"))
    old_mask = os.umask(0o007)

    instance.pull()

    os.umask(old_mask)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [*instance.live.iterdir(), instance.live]}
    assert modes["privkey.pem"] == 0o600
    assert modes["fullchain.pem"] == 0o644
    assert {stat.S_IMODE(path.stat().st_mode) for path in instance.into.rglob("*") if path.is_dir()} == {0o700}


def test_an_unchanged_pull_is_one_conditional_request_and_touches_nothing(instance: Instance) -> None:
    pair = issue("example.com")
    instance.store(pair)
    instance.pull(*instance.reload)
    before, asked = instance.everything(), len(instance.aws.requests)

    run = instance.pull(*instance.reload)

    assert (run.code, run.err) == (0, "")
    assert run.out.startswith(f"example.com unchanged {pair.serial_number} until")
    assert [seen.method + " " + seen.path for seen in instance.aws.requests[asked:]] == [f"GET {OBJECT}example.com"]
    assert instance.everything() == before
    assert instance.reloads == [pair.serial_number]


def test_a_renewed_certificate_replaces_the_old_one(instance: Instance) -> None:
    old, new = old_and_new(instance)

    run = instance.pull(*instance.reload)

    assert run.code == 0
    assert instance.reloads == [old, new]


def test_a_document_written_again_with_the_same_certificate_is_unchanged(instance: Instance) -> None:
    pair = issue("example.com")
    instance.store(pair)
    instance.pull(*instance.reload)
    instance.store(pair, write_id="fedcba9876543210", revision=int(time.time()) + 5)
    asked = len(instance.aws.requests)

    words = [instance.pull(*instance.reload).out.split()[1] for _ in range(2)]

    assert words == ["unchanged", "unchanged"]
    assert instance.aws.count("POST /") == 1
    assert len(instance.aws.requests) == asked + 2
    assert instance.aws.requests[-1].headers["if-none-match"]
    assert len(instance.reloads) == 1


def test_sealing_by_the_store_needs_no_kms(instance: Instance) -> None:
    pair = issue("example.com")
    instance.store(pair, sealing="store")

    run = instance.pull()

    assert run.code == 0
    assert instance.aws.count("POST /") == 0
    assert instance.installed()["privkey.pem"] == pair.private_key_pem


@pytest.mark.parametrize(("source", "path"), [("", "/"), ("/", "/"), ("/a/b c+d", "/a/b c+d/"), ("/ä%20/", "/ä%20/")])
def test_any_prefix_is_found(instance: Instance, source: str, path: str) -> None:
    instance.store(issue("example.com"))
    instance.aws.objects = {f"/{BUCKET}{path}certificates/example.com": instance.aws.objects[OBJECT + "example.com"]}

    run = instance.pull("--from", f"s3://{BUCKET}{source}")

    assert run.code == 0, run.err


def test_the_etag_of_another_store_is_not_asked_about(instance: Instance) -> None:
    instance.store(issue("example.com"))
    instance.pull()

    run = instance.pull("--from", f"s3://{BUCKET}//prod")

    assert run.out.split()[1] == "unchanged"
    assert "if-none-match" not in instance.aws.requests[-1].headers


def test_combined_is_added_to_what_is_installed_already(instance: Instance) -> None:
    pair = issue("example.com")
    instance.store(pair)
    instance.pull()

    words = [instance.pull("--combined").out.split()[1] for _ in range(2)]

    assert words == ["installed", "unchanged"]
    assert instance.installed()["combined.pem"] == pair.fullchain_pem + pair.private_key_pem
    assert stat.S_IMODE((instance.live / "combined.pem").stat().st_mode) == 0o600


def test_several_names_share_a_connection_and_a_reload_and_one_failure_stays_alone(instance: Instance) -> None:
    for name in ("a.test", "c.test"):
        instance.store(issue(name), name)
    names = ["a.test", "b.test", "c.test"]

    run = instance.run(
        *names, "--from", f"s3://{BUCKET}/prod", "--into", str(instance.into), "--reload",
        f"echo a-b >> {instance.folder}/reloads", "--roots", str(instance.folder / "roots.pem"),
    )  # fmt: skip

    assert run.code == 1
    assert [line.split()[0] for line in run.out.splitlines()] == ["a.test", "c.test"]
    assert "error: b.test: " in run.err
    assert len(instance.reloads) == 1
    assert len({seen.connection for seen in instance.aws.requests}) == 1


def test_quiet_says_nothing_but_errors(instance: Instance) -> None:
    instance.store(issue("example.com"))
    good = instance.pull("--quiet")
    instance.aws.objects.clear()

    kept = instance.pull("--quiet")

    assert (good.out, good.err) == ("", "")
    assert kept.out == ""
    assert "certkeeper-pull: error: example.com: s3://" in kept.err
    assert "stays" not in kept.err


def test_without_for_it_is_said_that_only_the_document_vouches(instance: Instance) -> None:
    instance.store(issue("example.com"))

    assert "without --for" in instance.pull().err


def test_the_archive_keeps_three(instance: Instance) -> None:
    pairs = [issue("example.com") for _ in range(5)]
    (instance.into / "archive" / "example.com").mkdir(parents=True)
    (instance.into / "archive" / "example.com" / "cert1.pem").write_text("certbot's")
    for pair in pairs:
        instance.store(pair)
        assert instance.pull(*instance.reload).code == 0

    folders = {
        path.name.split("-")[0] for path in (instance.into / "archive" / "example.com").iterdir() if path.is_dir()
    }

    assert folders == {pair.serial_number for pair in pairs[-3:]}
    assert (instance.into / "archive" / "example.com" / "cert1.pem").exists()


def test_the_archive_keeps_what_the_next_pull_may_have_to_return_to(instance: Instance) -> None:
    pairs = [issue("example.com") for _ in range(4)]
    for pair in [*pairs[:3], pairs[0], pairs[3]]:
        instance.store(pair)
        assert instance.pull().code == 0

    folders = {
        path.name.split("-")[0] for path in (instance.into / "archive" / "example.com").iterdir() if path.is_dir()
    }

    assert folders == {pairs[0].serial_number, pairs[2].serial_number, pairs[3].serial_number}


# ---- credentials, region, signatures


def test_credentials_and_region_come_from_imdsv2_on_one_connection(instance: Instance) -> None:
    instance.environment = instance.aws.environment(role=True) | {"http_proxy": "http://127.0.0.1:1"}
    instance.aws.session_token = SESSION_TOKEN
    instance.store(issue("example.com"))

    run = instance.pull()

    metadata = [seen for seen in instance.aws.requests if seen.path.startswith("/latest/")]
    assert run.code == 0
    assert [seen.method for seen in metadata] == ["PUT", "GET", "GET", "GET"]
    assert len({seen.connection for seen in metadata}) == 1


def test_a_session_token_from_the_environment_is_sent_and_signed(instance: Instance) -> None:
    instance.aws.session_token = SESSION_TOKEN
    instance.environment = instance.aws.environment()
    instance.store(issue("example.com"))

    assert instance.pull().code == 0


def test_the_kms_region_is_the_keys_own(instance: Instance) -> None:
    instance.aws.regions = ("eu-west-1", "us-east-2")
    instance.store(issue("example.com"), kms_key_arn="arn:aws:kms:us-east-2:123456789012:key/k")

    run = instance.pull()

    kms = next(seen for seen in instance.aws.requests if seen.method == "POST")
    assert run.code == 0
    assert "/us-east-2/kms/aws4_request" in kms.headers["authorization"]


def test_service_endpoints_overrule_the_general_one(instance: Instance) -> None:
    instance.environment |= {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL_S3": instance.aws.url,
        "AWS_ENDPOINT_URL_KMS": instance.aws.url,
    }
    instance.store(issue("example.com"))

    assert instance.pull().code == 0


@pytest.mark.parametrize(("account", "code"), [(ACCOUNT, 0), ("999999999999", 1)])
def test_the_bucket_owner_is_demanded_of_s3(instance: Instance, account: str, code: int) -> None:
    instance.store(issue("example.com"))

    run = instance.pull("--bucket-owner", account)

    assert run.code == code
    assert instance.aws.requests[0].headers["x-amz-expected-bucket-owner"] == account


@pytest.mark.parametrize("off", [-3600, 400, 7200])
def test_a_wrong_clock_is_set_by_the_servers_once_and_said(instance: Instance, off: int) -> None:
    instance.store(issue("example.com"))
    instance.aws.clock_offset = off

    run = instance.pull()

    assert run.code == 0
    assert run.err.count("clock is off") == 1
    assert instance.aws.count("GET") == 2


def test_a_wrong_clock_may_be_set_while_we_wait(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        off = -3600.0
        sleep, monotonic = time.sleep, time.monotonic

        def time(self) -> float:
            return time.time() + self.off

    clock = Clock()
    monkeypatch.setattr("certkeeper.client.aws.time", clock)
    instance.store(issue("example.com"))

    def late(seen: Seen) -> Reply | None:
        if len(instance.aws.requests) != 2:
            return None
        clock.off = 0.0
        return 404, {}, b""

    instance.aws.interfere = late

    run = instance.pull("--wait", "5")

    assert (run.code, len(instance.aws.requests)) == (0, 4), run.err


def test_a_clock_that_stays_refused_ends_in_an_error(instance: Instance) -> None:
    instance.aws.interfere = lambda seen: (
        403,
        {"Date": "Mon, 01 Jan 2001 00:00:00 GMT"},
        b"<Error><Code>RequestTimeTooSkewed</Code></Error>",
    )

    run = instance.pull()

    assert run.code == 1
    assert len(instance.aws.requests) == 2


@pytest.mark.parametrize("status", [301, 307, 400])
def test_a_bucket_in_another_region_is_followed_there(instance: Instance, status: int) -> None:
    instance.aws.regions = ("eu-west-1", "us-west-2")
    instance.store(issue("example.com"))

    def elsewhere(seen: Seen) -> Reply | None:
        moved = {"x-amz-bucket-region": "us-west-2", "Location": "http://127.0.0.1:1"}
        return (status, moved, b"") if "/eu-west-1/s3/" in seen.headers.get("authorization", "") else None

    instance.aws.interfere = elsewhere

    run = instance.pull()

    assert run.code == 0, run.err
    assert instance.aws.count("GET") == 2


def test_a_bucket_that_sends_us_around_is_followed_once(instance: Instance) -> None:
    regions = iter(["us-west-1", "us-west-2", "us-west-3"])
    instance.aws.interfere = lambda seen: (301, {"x-amz-bucket-region": next(regions)}, b"")

    run = instance.pull()

    assert run.code == 1
    assert instance.aws.count("GET") == 2


def test_a_stutter_of_aws_is_asked_again_a_few_times(instance: Instance) -> None:
    instance.store(issue("example.com"))
    answers: Iterator[Reply | None] = iter(
        [(503, {}, b"<Error><Code>SlowDown</Code></Error>"), (500, {}, b""), None, None]
    )
    instance.aws.interfere = lambda seen: next(answers)

    assert instance.pull().code == 0


# ---- not yet, and last good kept


def failing(kind: str) -> Reply:
    return {
        "403": (403, {}, REFUSED),
        "404": (404, {}, b"<Error><Code>NoSuchKey</Code></Error>"),
        "503": (503, {}, b""),
        "garbage": (200, {}, b"<html>"),
        "redirect": (307, {"Location": "http://127.0.0.1:1/"}, b""),
        "304": (304, {"Content-Length": ""}, b""),
    }[kind]


@pytest.mark.parametrize("kind", ["403", "404", "503", "garbage", "redirect"])
def test_a_pair_in_date_stays_when_the_store_fails(instance: Instance, kind: str) -> None:
    old_and_new(instance)
    before = instance.everything()
    instance.aws.interfere = lambda seen: failing(kind)

    run = instance.pull("--wait", "30", *instance.reload)

    assert run.code == 0
    assert "example.com kept" in run.out
    assert "certkeeper-pull: error: example.com: " in run.err
    assert "certkeeper-pull: example.com: the installed certificate stays" in run.err
    assert instance.everything() == before


@pytest.mark.parametrize("kind", ["403", "404", "503", "garbage", "redirect", "304"])
def test_with_nothing_installed_the_same_is_a_failure_that_leaves_nothing(instance: Instance, kind: str) -> None:
    instance.aws.interfere = lambda seen: failing(kind)

    run = instance.pull(*instance.reload)

    assert run.code == 1
    assert run.out == ""
    assert [path.name for path in instance.into.rglob("*") if not path.is_dir()] == [".certkeeper-lock"]
    assert instance.reloads == []


def test_an_installed_pair_out_of_date_does_not_excuse_a_failure(instance: Instance) -> None:
    instance.lay(stale())

    assert instance.pull().code == 1


def test_an_installed_pair_that_does_not_cover_what_is_asked_for_is_no_excuse(instance: Instance) -> None:
    instance.store(issue("example.com"))
    instance.pull()

    run = instance.pull("--for", "www.example.com")

    assert run.code == 1
    assert "does not cover www.example.com" in run.err
    assert instance.live.exists()


@pytest.mark.parametrize("kind", ["403", "404", "503"])
def test_wait_outlasts_what_may_pass(instance: Instance, kind: str) -> None:
    instance.store(issue("example.com"))
    begun: list[float] = []

    def at_first(seen: Seen) -> Reply | None:
        begun.append(time.monotonic())
        return failing(kind) if begun[-1] < begun[0] + 0.5 else None

    instance.aws.interfere = at_first

    run = instance.pull("--wait", "20")

    assert run.code == 0
    assert run.err.count("not yet") == 1


def test_wait_outlasts_an_instance_role_that_comes_late(instance: Instance) -> None:
    instance.environment = instance.aws.environment(role=True)
    instance.aws.has_role = False
    instance.store(issue("example.com"))

    def appear(seen: Seen) -> Reply | None:
        if len(instance.aws.requests) > 4:
            instance.aws.has_role = True
        return None

    instance.aws.interfere = appear

    assert instance.pull("--wait", "20").code == 0


def test_credentials_that_are_refused_are_asked_for_again(instance: Instance) -> None:
    instance.environment = instance.aws.environment(role=True)
    instance.store(issue("example.com"))
    stale_ones = b'{"AccessKeyId": "AKIDSTALE", "SecretAccessKey": "s", "Token": "t"}'

    def refuse(seen: Seen) -> Reply | None:
        if seen.path.endswith("web-role") and instance.aws.count("web-role") == 1:
            return 200, {}, stale_ones
        return (403, {}, REFUSED) if "AKIDSTALE" in seen.headers.get("authorization", "") else None

    instance.aws.interfere = refuse

    assert instance.pull("--wait", "20").code == 0


@pytest.mark.parametrize(
    ("where", "answer"),
    [
        ("/certificates/", b"<Error><Code>ExpiredToken</Code></Error>"),
        ("Decrypt", b'{"__type": "UnrecognizedClientException"}'),
        ("Decrypt", b'{"__type": "ExpiredTokenException"}'),
    ],
)
def test_credentials_that_a_service_does_not_know_yet_are_waited_for(
    instance: Instance, where: str, answer: bytes
) -> None:
    pair = issue("example.com")
    instance.store(pair)
    refused: list[str] = []

    def late(seen: Seen) -> Reply | None:
        if refused or where not in seen.path + seen.headers.get("x-amz-target", ""):
            return None
        refused.append(where)
        return 400, {}, answer

    instance.aws.interfere = late

    run = instance.pull("--wait", "20")

    assert (run.code, refused) == (0, [where]), run.err
    assert run.err.count("not yet") == 1


def test_at_the_end_of_the_wait_both_likely_causes_are_named(instance: Instance) -> None:
    begun = time.monotonic()

    run = instance.pull("--wait", "1")

    assert run.code == 1
    assert 0.9 < time.monotonic() - begun < 10
    assert "was not issued yet" in run.err
    assert "may not read it" in run.err


def test_a_name_that_is_waited_for_does_not_hold_up_the_next(instance: Instance) -> None:
    pair = issue("b.test")
    instance.store(pair, "b.test")
    seen_in_time: list[bool] = []

    def look(seen: Seen) -> None:
        if instance.aws.count("certificates/a.test") == 2 and not seen_in_time:
            seen_in_time.append((instance.into / "live" / "b.test").exists())
            instance.store(issue("a.test"), "a.test")

    instance.aws.interfere = look
    roots = ("--roots", str(instance.folder / "roots.pem"))

    run = instance.run(
        "a.test", "b.test", "--from", f"s3://{BUCKET}/prod", "--into", str(instance.into), "--wait", "20", *roots
    )

    assert run.code == 0
    assert seen_in_time == [True]


def two_names(instance: Instance, *more: str) -> Run:
    roots = ("--roots", str(instance.folder / "roots.pem"), "--wait", "20")
    return instance.run(
        "a.test", "b.test", "--from", f"s3://{BUCKET}/prod", "--into", str(instance.into), *roots, *more
    )


def let_b_come_after(instance: Instance, condition: Callable[[], bool]) -> None:
    """a.test is there, and b.test once the condition holds."""
    instance.store(issue("a.test"), "a.test")

    def late(seen: Seen) -> None:
        if condition() and OBJECT + "b.test" not in instance.aws.objects:
            instance.store(issue("b.test"), "b.test")

    instance.aws.interfere = late


def test_who_is_there_is_reloaded_while_another_name_is_waited_for(instance: Instance) -> None:
    reloads = instance.folder / "lines"
    let_b_come_after(instance, reloads.exists)

    run = two_names(instance, "--reload", f"ls {instance.into}/live >> {reloads}")

    assert run.code == 0, run.err
    assert reloads.read_text().split() == ["a.test", "a.test", "b.test"]


def test_a_reload_that_fails_for_want_of_another_name_is_made_up_for(instance: Instance) -> None:
    failed = instance.folder / "failed"
    let_b_come_after(instance, failed.exists)

    run = two_names(instance, "--reload", f"test -e {instance.into}/live/b.test || {{ touch {failed}; exit 1; }}")

    assert run.code == 0, run.err
    assert run.err.count("error: --reload failed with exit status 1") == 1
    assert [(instance.into / "archive" / name / "reload-pending").exists() for name in ("a.test", "b.test")] == [
        False
    ] * 2


def test_an_old_pair_that_had_to_return_is_told_though_another_name_came_well(instance: Instance) -> None:
    old = instance.store(issue("a.test"), "a.test")
    instance.pull(name="a.test")
    checks = instance.folder / "checks"
    let_b_come_after(instance, checks.exists)
    assert instance.aws.objects[OBJECT + "a.test"] != old

    # Only the first check fails: that of the new pair of a.test.
    run = two_names(instance, "--check", f"test -e {checks} || {{ touch {checks}; exit 1; }}")

    assert [line.split()[:2] for line in run.out.splitlines()] == [["a.test", "kept"], ["b.test", "installed"]]
    assert run.code == 3


def test_at_boot_who_is_there_is_enough_and_nothing_is_reloaded(instance: Instance) -> None:
    instance.store(issue("a.test"), "a.test")

    run = two_names(instance, "--boot", *instance.reload)

    assert run.code == 1  # what lets systemd start the unit that goes on waiting
    assert run.err.splitlines()[-1].endswith("b.test: left to a later pull")
    assert (instance.reloads, (instance.into / "archive/a.test/reload-pending").exists()) == ([], True)


def test_at_boot_the_first_name_is_waited_for(instance: Instance) -> None:
    let_b_come_after(instance, lambda: False)
    there = instance.aws.objects.pop(OBJECT + "a.test")

    def late(seen: Seen) -> None:
        if len(instance.aws.requests) > 3:
            instance.aws.objects[OBJECT + "a.test"] = there

    instance.aws.interfere = late

    run = two_names(instance, "--boot")

    assert [line.split()[:2] for line in run.out.splitlines()] == [["a.test", "installed"]]


def test_a_wait_that_is_interrupted_says_so_in_a_line(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupted)

    run = instance.pull("--wait", "60")

    assert (run.code, run.err.splitlines()[1:]) == (130, ["certkeeper-pull: error: interrupted"])


def test_a_document_that_is_wrong_is_not_waited_for(instance: Instance) -> None:
    instance.aws.objects[OBJECT + "example.com"] = b"{}"
    begun = time.monotonic()

    run = instance.pull("--wait", "30")

    assert run.code == 1
    assert time.monotonic() - begun < 20


def test_a_store_out_of_reach_says_so(instance: Instance) -> None:
    instance.environment["AWS_ENDPOINT_URL"] = "http://127.0.0.1:1"

    run = instance.pull()

    assert run.code == 1
    assert "127.0.0.1 cannot be reached" in run.err


def test_no_credentials_at_all_say_where_they_were_looked_for(instance: Instance) -> None:
    instance.environment = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1", "AWS_REGION": "eu-west-1"}

    run = instance.pull()

    assert run.code == 1
    assert "the instance metadata service 127.0.0.1 cannot be reached" in run.err
    assert "Outside EC2 set AWS_ACCESS_KEY_ID" in run.err


def test_a_private_key_kms_does_not_open_is_a_failure_with_the_right_named(instance: Instance) -> None:
    instance.store(issue("example.com"), sealed_for="other.example.com")

    run = instance.pull()

    assert run.code == 1
    assert "InvalidCiphertextException" in run.err
    assert "kms:Decrypt" in run.err


# ---- documents that must not be installed


@pytest.mark.parametrize(
    "changes",
    [
        {"private_key_pem": issue("example.com").private_key_pem},
        {"fullchain_pem": issue("example.com").fullchain_pem},
        {"identifiers": ["example.com", "www.example.com"]},
        {"fullchain_pem": issue("example.com").fullchain_pem.split("-----END")[0] + "-----END CERTIFICATE-----\n"},
        {"private_key_pem": "-----BEGIN PRIVATE KEY-----\n" * 2},
        {"private_key_pem": "canary"},
        {"kms_key_arn": "arn:aws:kms:evil.example/:123456789012:key/k"},
        {"sealed_private_key": "AAAAA"},
    ],
    ids=[
        "key of another",
        "chain of another",
        "uncovered",
        "torn chain",
        "odd key",
        "no key",
        "odd region",
        "odd base64",
    ],
)
@pytest.mark.parametrize("held", [True, False])
def test_a_bad_document_is_refused(instance: Instance, changes: dict[str, str], held: bool) -> None:
    old = ""
    if held:
        old, _ = old_and_new(instance)
    instance.aws.objects[OBJECT + "example.com"] = document(issue("example.com"), **changes)

    run = instance.pull(*instance.reload)

    assert run.code == (0 if held else 1)
    assert "certkeeper-pull: error: example.com: " in run.err
    assert instance.reloads == ([old] if held else [])
    assert instance.live.exists() == held
    assert "canary" not in run.err + run.out
    assert "unexpected" not in run.err


def test_the_document_of_another_name_is_refused(instance: Instance) -> None:
    instance.aws.objects[OBJECT + "example.com"] = document(issue("example.com"), "example.org")

    run = instance.pull()

    assert run.code == 1
    assert "is of 'example.org', not of example.com" in run.err


def test_the_serial_number_in_paths_is_the_leafs_not_the_documents(instance: Instance) -> None:
    pair = issue("example.com")
    instance.store(pair, serial_number="bad")

    instance.pull()

    assert os.readlink(instance.live).startswith(f"../archive/example.com/{pair.serial_number}-")


def test_a_serial_number_below_zero_does_not_stop_later_pulls(instance: Instance) -> None:
    pair = issue("example.com", serial_number=0x7A0B0C0D)
    signed = pair.leaf.tbs_certificate_bytes.replace(b"\x02\x04\x7a\x0b\x0c\x0d", b"\x02\x04\xfa\x0b\x0c\x0d")
    signature = authority().private_key.sign(signed, ECDSA(SHA256()))
    inner = signed + bytes.fromhex("300a06082a8648ce3d040302") + b"\x03" + bytes([len(signature) + 1, 0]) + signature
    leaf = ssl.DER_cert_to_PEM_cert(b"\x30\x82" + len(inner).to_bytes(2, "big") + inner)
    instance.store(pair, fullchain_pem=leaf + authority().intermediate_pem)

    runs = [instance.pull() for _ in range(2)]

    assert [run.code for run in runs] == [0, 0], runs
    assert [run.out.split()[1] for run in runs] == ["installed", "unchanged"]


@pytest.mark.parametrize("etag", ['"é"', '"a\nb"'])
def test_an_etag_that_no_header_can_hold_does_not_stop_later_pulls(instance: Instance, etag: str) -> None:
    data = instance.store(issue("example.com"))
    instance.aws.interfere = lambda seen: (200, {"ETag": etag}, data) if seen.method == "GET" else None
    instance.pull()
    instance.aws.interfere = lambda seen: None
    newer = issue("example.com")
    instance.store(newer)

    run = instance.pull()

    assert (run.code, run.out.split()[1:3]) == (0, ["installed", newer.serial_number]), run.err


def test_a_missing_document_field_in_surrogates_does_not_crash(instance: Instance) -> None:
    data = json.loads(instance.store(issue("example.com")))
    data["write_id"] = "\ud800"
    data["identifiers"] = ["\ud800"]
    instance.aws.objects[OBJECT + "example.com"] = json.dumps(data).encode()

    assert instance.pull().code == 1


# ---- roots


def test_an_unknown_root_is_installed_loudly_where_nothing_is(instance: Instance) -> None:
    instance.store(issue("example.com", by=authority("Other")))

    runs = [instance.pull("--quiet", *instance.reload) for _ in range(2)]

    assert [run.code for run in runs] == [3, 3]
    assert all("a root unknown here" in run.err for run in runs)
    assert len(instance.reloads) == 1


def test_an_unknown_root_does_not_replace_a_known_one(instance: Instance) -> None:
    old, _ = old_and_new(instance)
    instance.store(issue("example.com", by=authority("Other")))

    run = instance.pull(*instance.reload)

    assert run.code == 0
    assert "root is unknown here" in run.err
    assert instance.reloads == [old]


def test_an_unknown_root_follows_an_unknown_one(instance: Instance) -> None:
    pairs = [issue("example.com", by=authority("Other")) for _ in range(2)]

    for pair in pairs:
        instance.store(pair)
        instance.pull(*instance.reload)

    assert instance.reloads == [pair.serial_number for pair in pairs]


def test_the_systems_roots_are_the_default(instance: Instance) -> None:
    instance.store(issue("example.com"))

    run = instance.pull(roots=False)

    assert run.code == 3
    assert "a root unknown here" in run.err


# ---- revisions


def test_a_lower_revision_is_refused_while_the_installed_pair_is_in_date(instance: Instance) -> None:
    old, _ = old_and_new(instance)
    instance.store(issue("example.com"), revision=5)

    run = instance.pull(*instance.reload)

    assert run.code == 0
    assert "older than the installed" in run.err
    assert instance.reloads == [old]


def test_a_lower_revision_is_welcome_when_the_installed_pair_is_not_in_date(instance: Instance) -> None:
    instance.lay(stale(), revision=9)
    pair = issue("example.com")
    instance.store(pair, revision=5)

    instance.pull(*instance.reload)

    assert instance.reloads == [pair.serial_number]


def test_a_revision_of_the_far_future_does_not_shut_out_what_follows(instance: Instance) -> None:
    instance.store(issue("example.com"), revision=int(time.time()) + 100_000)
    instance.pull()
    pair = issue("example.com")
    instance.store(pair)

    instance.pull(*instance.reload)

    assert instance.reloads == [pair.serial_number]


# ---- check, reload


def test_a_reload_that_fails_is_tried_again_though_nothing_is_new(instance: Instance) -> None:
    pair = issue("example.com")
    instance.store(pair)

    failed = instance.pull("--reload", "exit 7")
    mended = instance.pull(*instance.reload)
    calm = instance.pull(*instance.reload)

    assert [run.code for run in (failed, mended, calm)] == [3, 0, 0]
    assert "--reload failed with exit status 7" in failed.err
    assert instance.reloads == [pair.serial_number]


def test_what_was_installed_without_a_reload_is_reloaded_by_the_first_pull_that_can(instance: Instance) -> None:
    pair = issue("example.com")
    instance.store(pair)
    instance.pull()
    instance.pull()

    instance.pull(*instance.reload)

    assert instance.reloads == [pair.serial_number]


def test_a_check_that_fails_with_the_new_pair_brings_back_the_old_one(instance: Instance) -> None:
    old, new = old_and_new(instance)

    run = instance.pull("--check", f"readlink {instance.live} | grep -qv {new}", *instance.reload)

    assert run.code == 3
    assert os.readlink(instance.live).split("/")[-1].split("-")[0] == old
    assert f"example.com kept {old}" in run.out
    assert instance.reloads[-1] == old
    assert new not in instance.reloads


def test_a_pair_that_went_back_is_tried_again(instance: Instance) -> None:
    _, new = old_and_new(instance)
    instance.pull("--check", f"readlink {instance.live} | grep -qv {new}", *instance.reload)

    run = instance.pull("--check", "true", *instance.reload)

    assert f"example.com installed {new}" in run.out
    assert instance.reloads[-1] == new


def test_a_check_that_fails_with_both_leaves_the_new_one_and_reloads_nothing(instance: Instance) -> None:
    old, new = old_and_new(instance)

    run = instance.pull("--check", "false", *instance.reload)
    mended = instance.pull("--check", "true", *instance.reload)

    assert [run.code, mended.code] == [3, 0]
    assert f"example.com installed {new}" in run.out
    assert instance.reloads == [old, new]


def test_after_a_kill_between_flip_and_check_the_old_pair_can_still_return(instance: Instance) -> None:
    old, new = old_and_new(instance)
    instance.pull("--reload", "false")

    run = instance.pull("--check", f"readlink {instance.live} | grep -qv {new}", *instance.reload)

    assert run.code == 3
    assert f"example.com kept {old}" in run.out
    assert old in os.readlink(instance.live)


def test_an_old_pair_out_of_date_does_not_return(instance: Instance) -> None:
    old, new = stale(), issue("example.com")
    instance.lay(old)
    instance.store(new)

    run = instance.pull("--check", f"readlink {instance.live} | grep -q {old.serial_number}")

    assert run.code == 3
    assert new.serial_number in os.readlink(instance.live)


def test_the_check_runs_after_the_flip_and_before_the_reload(instance: Instance) -> None:
    pair = issue("example.com")
    instance.store(pair)
    log = instance.folder / "log"

    instance.pull("--check", f"readlink {instance.live} >> {log}", "--reload", f"echo reload >> {log}")

    first, second = log.read_text().split()
    assert pair.serial_number in first
    assert second == "reload"


def test_of_several_names_only_the_one_to_blame_goes_back(instance: Instance) -> None:
    names = ["a.test", "b.test", "c.test"]
    arguments = [
        *names,
        "--from",
        f"s3://{BUCKET}/prod",
        "--into",
        str(instance.into),
        "--roots",
        str(instance.folder / "roots.pem"),
    ]
    serials = []
    for _ in range(2):
        pairs = {name: issue(name) for name in names}
        serials.append([pair.serial_number for pair in pairs.values()])
        for name, pair in pairs.items():
            instance.store(pair, name)
        if len(serials) == 1:
            instance.run(*arguments)

    run = instance.run(*arguments, "--check", f"readlink {instance.into}/live/b.test | grep -qv {serials[1][1]}")

    assert run.code == 3
    assert [os.readlink(instance.into / "live" / name).split("/")[-1].split("-")[0] for name in names] == [
        serials[1][0], serials[0][1], serials[1][2],
    ]  # fmt: skip


def test_hooks_see_no_credentials(instance: Instance) -> None:
    instance.aws.session_token = SESSION_TOKEN
    instance.environment = instance.aws.environment()
    instance.environment |= {"AWS_SECURITY_TOKEN": "canary", "AWS_BEARER_TOKEN_BEDROCK": "canary"}
    instance.store(issue("example.com"))

    run = instance.pull("--reload", f"env > {instance.folder}/environment", "--check", "env >&2")

    seen = (instance.folder / "environment").read_text() + run.err
    assert run.code == 0
    assert "AWS_REGION=eu-west-1" in seen
    assert "canary" not in seen


def test_nothing_secret_is_ever_said(instance: Instance) -> None:
    instance.environment = instance.aws.environment(role=True)
    pair = issue("example.com")
    instance.store(pair, sealed_for="else")

    said = instance.pull().err
    instance.aws.interfere = lambda seen: (
        500,
        {},
        seen.headers.get("authorization", "").encode() + IMDS_TOKEN.encode(),
    )
    said += instance.pull().err
    instance.aws.interfere = lambda seen: (200, {}, (pair.private_key_pem + SECRET_ACCESS_KEY).encode())
    said += instance.pull().err

    assert "error" in said
    for secret in ("canary", "PRIVATE", pair.private_key_pem.split("\n")[1], "AWS4-HMAC"):
        assert secret not in said
