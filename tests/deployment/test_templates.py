"""The two stacks' templates: valid, within the limits, and saying what has been promised."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from certkeeper.core import permissions
from certkeeper.core.errors import SettingsError
from certkeeper.core.model import CertificateSpec
from certkeeper.deployment import templates
from certkeeper.deployment.templates import Place

SCANNER = Path(__file__).resolve().parents[2] / ".parts/template-scanner/bin/checkov"
SPEC = CertificateSpec(
    "example.com",
    ("example.com", "*.example.com"),
    "https://ca.example/directory",
    readers=("arn:aws:iam::123456789012:role/web", "arn:aws:iam::210987654321:role/web"),
)
CHALLENGE = permissions.ChallengeName("Z0123456789ABCDEFGHIJ", "_acme-challenge.example.com")
FULL = Place(
    name="certkeeper",
    partition="aws",
    region="eu-west-1",
    account="123456789012",
    bucket="certkeeper-123456789012-eu-west-1",
    prefix="prod",
    kms_alias="alias/certkeeper",
    email="ops@example.com",
    urgent="pager@example.com",
    specs=(SPEC,),
    challenges=(CHALLENGE,),
)
PLACES = {
    "all of it": FULL,
    "as little as possible": replace(FULL, kms_alias=None, prefix="", email=None, urgent=None, specs=(), challenges=()),
    "much elsewhere": replace(
        FULL,
        kms_alias="",
        secrets_prefix="prod",
        challenges=(CHALLENGE, replace(CHALLENGE, role_arn="arn:aws:iam::210987654321:role/dns")),
    ),
    "many names": replace(
        FULL,
        challenges=tuple(permissions.ChallengeName(f"Z{n:020d}", f"_acme-challenge.n{n}.example") for n in range(300)),
    ),
}


def rendered(place: Place) -> tuple[dict[str, Any], dict[str, Any]]:
    return templates.store_template(place), templates.function_template(place)


def properties(template: dict[str, Any], logical_id: str) -> dict[str, Any]:
    found: dict[str, Any] = template["Resources"][logical_id]["Properties"]
    return found


def linted(folder: Path, written: Mapping[str, dict[str, Any]]) -> list[str]:
    """What cfn-lint says of templates, as "FILE: RULE"; a warning makes it fail as an error does."""
    for name, template in written.items():
        (folder / f"{name}.json").write_text(templates.text(template))
    command = [str(Path(sys.executable).with_name("cfn-lint")), "--format", "parseable", "--regions", "eu-west-1"]
    run = subprocess.run(
        [*command, "--", *map(str, folder.glob("*.json"))], capture_output=True, text=True, check=False
    )
    lines = [line.split(":") for line in run.stdout.splitlines() if line]
    assert bool(run.returncode) == bool(lines), run.stderr
    return sorted(f"{Path(line[0]).stem}: {line[5]}" for line in lines)


@pytest.mark.live
def test_cfn_lint_has_nothing_to_say(tmp_path: Path) -> None:
    written: dict[str, dict[str, Any]] = {}
    for said, place in PLACES.items():
        store, function = rendered(place)
        written |= {f"{said}, store".replace(" ", "-"): store, f"{said}, function".replace(" ", "-"): function}

    assert linted(tmp_path, written) == []


@pytest.mark.live
def test_cfn_lint_would_say_so(tmp_path: Path) -> None:
    late, unused = templates.function_template(FULL), templates.function_template(FULL)
    properties(late, "Function")["Timeout"] = 901
    unused["Parameters"]["Unused"] = {"Type": "String"}

    assert linted(tmp_path, {"late": late, "unused": unused}) == ["late: E3717", "unused: W2001"]


@pytest.mark.live
@pytest.mark.skipif(not SCANNER.exists(), reason="scripts/get-policy-checkers")
def test_a_security_scanner_finds_only_what_is_explained_and_all_that_is_explained(tmp_path: Path) -> None:
    found: dict[str, set[tuple[str, str]]] = {"failed_checks": set(), "skipped_checks": set()}
    written: dict[str, dict[str, Any]] = {}
    for number, place in enumerate(PLACES.values()):
        written |= {
            f"{number}-{kind}.json": one for kind, one in zip(("store", "function"), rendered(place), strict=True)
        }
    for name, template in written.items():
        (tmp_path / name).write_text(templates.text(template))
    # It would ask its maker for more checks, were it not told not to.
    command = [str(SCANNER), "--framework", "cloudformation", "--skip-download", "--output", "json"]
    run = subprocess.run([*command, "--directory", str(tmp_path)], capture_output=True, text=True, check=False)
    results = json.loads(run.stdout)["results"]
    for outcome, listed in found.items():
        listed |= {(one["check_id"], one["resource"].partition(".")[2]) for one in results[outcome]}

    assert len(results["parsing_errors"]) == 0
    assert found["failed_checks"] == set()
    explained = {
        (skip["id"], logical_id)
        for template in written.values()
        for logical_id, one in template["Resources"].items()
        for skip in one.get("Metadata", {}).get("checkov", {}).get("skip", [])
    }
    assert found["skipped_checks"] == explained


def test_a_template_reads_as_it_was_written_and_is_the_same_every_time() -> None:
    for first, second in zip(rendered(FULL), rendered(FULL), strict=True):
        text = templates.text(first)

        assert json.loads(text) == first
        assert text == templates.text(second)
        assert text.count("\n") > 100
        assert len(text.encode()) < templates.LARGEST_INLINE


def test_the_bucket_is_versioned_encrypted_closed_and_kept() -> None:
    bucket = templates.store_template(FULL)["Resources"]["Bucket"]
    said = bucket["Properties"]

    assert (bucket["DeletionPolicy"], bucket["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")
    assert said["VersioningConfiguration"] == {"Status": "Enabled"}
    (rule,) = said["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert set(said["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(said["PublicAccessBlockConfiguration"]) == 4
    assert said["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    (lifecycle,) = said["LifecycleConfiguration"]["Rules"]
    assert lifecycle["NoncurrentVersionExpiration"]["NoncurrentDays"] == 30
    assert lifecycle["ExpiredObjectDeleteMarker"] is True
    assert "ExpirationInDays" not in lifecycle
    policy = properties(templates.store_template(FULL), "BucketPolicy")["PolicyDocument"]
    assert policy == permissions.bucket_policy(FULL.rights)


def test_the_key_is_of_several_regions_kept_and_under_the_policy_of_the_permissions() -> None:
    resources = templates.store_template(FULL)["Resources"]

    assert resources["Key"]["Properties"]["MultiRegion"] is True
    assert resources["Key"]["Properties"]["KeyPolicy"] == permissions.key_policy(FULL.rights)
    kept = {name for name, one in resources.items() if one.get("DeletionPolicy") == "RetainExceptOnCreate"}
    assert set(resources) - kept == {"Anchor"}
    assert resources["KeyAlias"]["Properties"]["AliasName"] == "alias/certkeeper"


def test_no_key_is_made_where_private_keys_are_left_to_the_store() -> None:
    store, function = rendered(PLACES["as little as possible"])

    assert set(store["Resources"]) == {"Anchor", "Bucket", "BucketPolicy"}
    assert "kms:" not in templates.text(function)
    assert list(function["Parameters"]) == ["CodeKey"]


def test_the_function_is_as_was_decided_and_a_run_that_failed_is_not_tried_again() -> None:
    template = templates.function_template(FULL)
    function = properties(template, "Function")

    assert (function["Runtime"], function["Architectures"]) == ("python3.13", ["arm64"])
    assert (function["MemorySize"], function["Timeout"]) == (512, 900)
    assert "ReservedConcurrentExecutions" not in function
    assert properties(template, "Log")["LogGroupName"] == FULL.rights.log_group == FULL.log_group
    assert properties(template, "Log")["RetentionInDays"] == 400
    failed = properties(template, "FailedRuns")
    assert failed["MaximumRetryAttempts"] == 0
    assert failed["MaximumEventAgeInSeconds"] == 3600, "else six ticks come at once after six hours of throttling"
    assert failed["DestinationConfig"]["OnFailure"]["Destination"] == {"Fn::GetAtt": ["Undelivered", "Arn"]}


def test_no_secret_and_no_address_stands_in_the_functions_environment() -> None:
    variables = properties(templates.function_template(FULL), "Function")["Environment"]["Variables"]

    assert variables == {
        "CERTKEEPER_STORE": "s3://certkeeper-123456789012-eu-west-1/prod",
        "CERTKEEPER_DEPLOYMENT": "certkeeper",
        "CERTKEEPER_TOPIC": {"Ref": "Notices"},
    }


def test_the_schedule_is_hourly_at_an_odd_minute_of_the_deployments_own() -> None:
    minutes = set()
    for number in range(50):
        place = replace(FULL, account=f"{number:012d}")
        schedule = properties(templates.function_template(place), "Hourly")
        assert schedule["ScheduleExpression"] == f"cron({place.minute} * * * ? *)"
        assert schedule["FlexibleTimeWindow"] == {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 10}
        assert schedule["Target"]["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["Undelivered", "Arn"]}}
        minutes.add(place.minute)

    assert len(minutes) > 10
    # A window that opens late must not close in the next hour, where another one opens.
    assert {minute % 2 for minute in minutes} == {1} and max(minutes) < 50


def test_the_scheduler_assumes_its_role_for_this_account_only() -> None:
    (statement,) = properties(templates.function_template(FULL), "ScheduleRole")["AssumeRolePolicyDocument"][
        "Statement"
    ]

    assert statement["Principal"] == {"Service": "scheduler.amazonaws.com"}
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def test_cloudwatch_can_really_publish_to_the_topic() -> None:
    template = templates.function_template(FULL)

    # With the account's default key CloudWatch's alarms would be refused, and nobody would be told.
    assert "KmsMasterKeyId" not in properties(template, "Notices")
    allowed = [one for one in properties(template, "NoticesPolicy")["PolicyDocument"]["Statement"]
               if one["Effect"] == "Allow"]  # fmt: skip
    assert [one["Principal"] for one in allowed] == [{"Service": "cloudwatch.amazonaws.com"}]
    assert allowed[0]["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def test_the_urgent_address_gets_the_alarms_that_are_called_urgent_and_nothing_else() -> None:
    template = templates.function_template(FULL)
    alarms = {
        logical_id: one["Properties"]
        for logical_id, one in template["Resources"].items()
        if one["Type"] == "AWS::CloudWatch::Alarm"
    }

    prefix = properties(template, "Urgent")["FilterPolicy"]["AlarmName"][0]["prefix"]
    urgent = {logical_id for logical_id, one in alarms.items() if one["AlarmName"].startswith(prefix)}
    assert urgent == {"UrgentAlarm", "NoTickAlarm"}
    assert set(alarms) == {*urgent, "FailingAlarm"}
    for one in alarms.values():
        assert (one["Namespace"], one["Dimensions"]) == ("certkeeper", [{"Name": "Deployment", "Value": "certkeeper"}])
        assert "certkeeper --from s3://certkeeper-123456789012-eu-west-1/prod status" in one["AlarmDescription"]
        assert one["AlarmActions"] == [{"Ref": "Notices"}]
    assert "FilterPolicy" not in properties(template, "Email")


def test_silence_rings_the_alarm_for_lost_ticks_and_no_other() -> None:
    template = templates.function_template(FULL)

    treated = {
        one: properties(template, one)["TreatMissingData"] for one in ("UrgentAlarm", "NoTickAlarm", "FailingAlarm")
    }
    assert treated == {"UrgentAlarm": "ignore", "NoTickAlarm": "breaching", "FailingAlarm": "ignore"}
    no_tick = properties(template, "NoTickAlarm")
    assert no_tick["Period"] * no_tick["EvaluationPeriods"] == 3 * 3600


def test_the_dashboard_is_json_and_knows_every_alarm() -> None:
    template = templates.function_template(FULL)
    widgets = json.loads(properties(template, "Dashboard")["DashboardBody"])["widgets"]

    named = {arn.rpartition(":alarm:")[2] for arn in widgets[0]["properties"]["alarms"]}
    alarms = [one for one in template["Resources"].values() if one["Type"] == "AWS::CloudWatch::Alarm"]
    assert named == {one["Properties"]["AlarmName"] for one in alarms}


@pytest.mark.parametrize("length", [41, 64])
def test_a_name_from_which_no_roles_name_can_be_made_is_refused(length: int) -> None:
    with pytest.raises(SettingsError, match="40 letters at most"):
        replace(FULL, name="c" * length)


def test_names_are_not_too_long_even_in_the_region_with_the_longest_name() -> None:
    place = replace(FULL, name="c" * 40, region="ap-northeast-1")

    assert len(place.renewer_role) <= 64


def test_what_aws_would_not_take_is_refused_before_anything_is_sent() -> None:
    readers = tuple(f"arn:aws:iam::123456789012:role/{'r' * 60}{number}" for number in range(400))
    place = replace(FULL, specs=(replace(SPEC, readers=readers),))

    with pytest.raises(SettingsError, match="AWS takes 32,768") as caught:
        templates.store_template(place)

    assert caught.value.hint


def test_too_many_resources_or_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "MOST_RESOURCES", 10)
    with pytest.raises(SettingsError, match="certkeeper would have 16 resources, and a stack has 10"):
        templates.function_template(FULL)

    monkeypatch.undo()
    monkeypatch.setattr(templates, "LARGEST_TEMPLATE", 1000)
    with pytest.raises(SettingsError, match="CloudFormation takes 1,000"):
        templates.store_template(FULL)
