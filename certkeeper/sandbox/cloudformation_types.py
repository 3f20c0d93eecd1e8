"""The resource types that the sandbox's CloudFormation knows: each really made, changed and taken away, by the
service's own API. A type or a property that is not here is refused, so that nothing is skipped unseen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Properties = Mapping[str, Any]
# A client of a service, by its name.
Clients = Callable[[str], Any]


@dataclass
class Made:
    """A resource that is there: what Ref and Fn::GetAtt say of it."""

    reference: str
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Type:
    """`fixed` are the properties that cannot be changed: another value means another resource.

    `look` tells the values that some properties really have, None if the resource is gone; without one, drift is not
    looked for, as CloudFormation does not for some types.
    """

    properties: frozenset[str]
    make: Callable[[Clients, Properties, str], Made]
    change: Callable[[Clients, Made, Properties, Properties], None]
    remove: Callable[[Clients, Made, Properties], None]
    fixed: frozenset[str] = frozenset()
    look: Callable[[Clients, Made], dict[str, Any] | None] | None = None


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _text(document: Any) -> str:
    return json.dumps(document)


# S3


def _make_bucket(aws: Clients, properties: Properties, name: str) -> Made:
    bucket = properties.get("BucketName", name.lower())
    region = aws("s3").meta.region_name
    aws("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": region})
    made = Made(bucket, {"Arn": f"arn:aws:s3:::{bucket}"})
    _change_bucket(aws, made, {}, properties)
    return made


def _change_bucket(aws: Clients, made: Made, before: Properties, now: Properties) -> None:
    s3, bucket = aws("s3"), {"Bucket": made.reference}
    if "VersioningConfiguration" in now:
        s3.put_bucket_versioning(**bucket, VersioningConfiguration=now["VersioningConfiguration"])
    if "BucketEncryption" in now:
        rules = [
            {"ApplyServerSideEncryptionByDefault": one["ServerSideEncryptionByDefault"]}
            for one in now["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        ]
        s3.put_bucket_encryption(**bucket, ServerSideEncryptionConfiguration={"Rules": rules})
    if "PublicAccessBlockConfiguration" in now:
        s3.put_public_access_block(**bucket, PublicAccessBlockConfiguration=now["PublicAccessBlockConfiguration"])
    if "OwnershipControls" in now:
        s3.put_bucket_ownership_controls(**bucket, OwnershipControls=now["OwnershipControls"])
    if "LifecycleConfiguration" in now:
        rules = [_lifecycle_rule(one) for one in now["LifecycleConfiguration"]["Rules"]]
        s3.put_bucket_lifecycle_configuration(**bucket, LifecycleConfiguration={"Rules": rules})


def _lifecycle_rule(said: Properties) -> dict[str, Any]:
    rule = {"ID": said["Id"], "Filter": {"Prefix": ""}, **_without(said, "Id", "ExpiredObjectDeleteMarker")}
    if "ExpiredObjectDeleteMarker" in said:
        rule["Expiration"] = {"ExpiredObjectDeleteMarker": said["ExpiredObjectDeleteMarker"]}
    return rule


def _without(properties: Properties, *names: str) -> dict[str, Any]:
    return {name: value for name, value in properties.items() if name not in names}


def _make_bucket_policy(aws: Clients, properties: Properties, name: str) -> Made:
    made = Made(properties["Bucket"])
    _change_bucket_policy(aws, made, {}, properties)
    return made


def _change_bucket_policy(aws: Clients, made: Made, before: Properties, now: Properties) -> None:
    aws("s3").put_bucket_policy(Bucket=made.reference, Policy=_text(now["PolicyDocument"]))


# KMS


def _make_key(aws: Clients, properties: Properties, name: str) -> Made:
    kms_key = aws("kms").create_key(
        Description=properties.get("Description", ""),
        MultiRegion=properties.get("MultiRegion", False),
        Policy=_text(properties["KeyPolicy"]),
    )["KeyMetadata"]
    return Made(kms_key["KeyId"], {"Arn": kms_key["Arn"]})


def _change_key(aws: Clients, made: Made, before: Properties, now: Properties) -> None:
    aws("kms").put_key_policy(KeyId=made.reference, PolicyName="default", Policy=_text(now["KeyPolicy"]))
    aws("kms").update_key_description(KeyId=made.reference, Description=now.get("Description", ""))


def _remove_key(aws: Clients, made: Made, properties: Properties) -> None:
    days = properties.get("PendingWindowInDays", 30)
    aws("kms").schedule_key_deletion(KeyId=made.reference, PendingWindowInDays=days)


def _make_key_alias(aws: Clients, properties: Properties, name: str) -> Made:
    aws("kms").create_alias(AliasName=properties["AliasName"], TargetKeyId=properties["TargetKeyId"])
    return Made(properties["AliasName"])


# IAM


def _make_role(aws: Clients, properties: Properties, name: str) -> Made:
    role = aws("iam").create_role(
        RoleName=properties.get("RoleName", name),
        Description=properties.get("Description", ""),
        AssumeRolePolicyDocument=_text(properties["AssumeRolePolicyDocument"]),
    )["Role"]
    made = Made(role["RoleName"], {"Arn": role["Arn"], "RoleId": role["RoleId"]})
    _put_role_policies(aws, made, {}, properties)
    return made


def _change_role(aws: Clients, made: Made, before: Properties, now: Properties) -> None:
    trust = _text(now["AssumeRolePolicyDocument"])
    aws("iam").update_assume_role_policy(RoleName=made.reference, PolicyDocument=trust)
    _put_role_policies(aws, made, before, now)


def _put_role_policies(aws: Clients, made: Made, before: Properties, now: Properties) -> None:
    wanted = {one["PolicyName"]: one["PolicyDocument"] for one in now.get("Policies", [])}
    for name, document in wanted.items():
        aws("iam").put_role_policy(RoleName=made.reference, PolicyName=name, PolicyDocument=_text(document))
    for name in {one["PolicyName"] for one in before.get("Policies", [])} - set(wanted):
        aws("iam").delete_role_policy(RoleName=made.reference, PolicyName=name)


def _remove_role(aws: Clients, made: Made, properties: Properties) -> None:
    _put_role_policies(aws, made, properties, {})
    aws("iam").delete_role(RoleName=made.reference)


def _look_at_role(aws: Clients, made: Made) -> dict[str, Any] | None:
    iam = aws("iam")
    try:
        trust = iam.get_role(RoleName=made.reference)["Role"]["AssumeRolePolicyDocument"]
    except iam.exceptions.NoSuchEntityException:
        return None
    names = iam.list_role_policies(RoleName=made.reference)["PolicyNames"]
    found = [(name, iam.get_role_policy(RoleName=made.reference, PolicyName=name)) for name in names]
    policies = [{"PolicyName": name, "PolicyDocument": one["PolicyDocument"]} for name, one in found]
    return {"AssumeRolePolicyDocument": trust, "Policies": policies}


# Lambda


def _make_function(aws: Clients, properties: Properties, name: str) -> Made:
    function = aws("lambda").create_function(FunctionName=properties.get("FunctionName", name), **_without(
        properties, "FunctionName"
    ))  # fmt: skip
    return Made(function["FunctionName"], {"Arn": function["FunctionArn"]})


def _change_function(aws: Clients, made: Made, before: Properties, now: Properties) -> None:
    configuration = _without(now, "FunctionName", "Code", "Architectures")
    if configuration != _without(before, "FunctionName", "Code", "Architectures"):
        aws("lambda").update_function_configuration(FunctionName=made.reference, **configuration)
    if (now["Code"], now.get("Architectures")) != (before.get("Code"), before.get("Architectures")):
        aws("lambda").update_function_code(FunctionName=made.reference, **now["Code"])


def _make_invoke_config(aws: Clients, properties: Properties, name: str) -> Made:
    aws("lambda").put_function_event_invoke_config(**properties)
    return Made(name)


# CloudWatch


def _make_log_group(aws: Clients, properties: Properties, name: str) -> Made:
    group = properties.get("LogGroupName", name)
    aws("logs").create_log_group(logGroupName=group)
    made = Made(group, {"Arn": f"arn:aws:logs:{aws('logs').meta.region_name}:123456789012:log-group:{group}:*"})
    _change_log_group(aws, made, {}, properties)
    return made


def _change_log_group(aws: Clients, made: Made, before: Properties, now: Properties) -> None:
    aws("logs").put_retention_policy(logGroupName=made.reference, retentionInDays=now["RetentionInDays"])


def _make_alarm(aws: Clients, properties: Properties, name: str) -> Made:
    named = {"AlarmName": name, **properties}
    aws("cloudwatch").put_metric_alarm(**named)
    return Made(named["AlarmName"])


def _make_dashboard(aws: Clients, properties: Properties, name: str) -> Made:
    named = {"DashboardName": name, **properties}
    json.loads(named["DashboardBody"])
    aws("cloudwatch").put_dashboard(**named)
    return Made(named["DashboardName"])


def _look_at_alarm(aws: Clients, made: Made) -> dict[str, Any] | None:
    found = aws("cloudwatch").describe_alarms(AlarmNames=[made.reference])["MetricAlarms"]
    return {key: found[0][key] for key in ("Threshold", "EvaluationPeriods", "AlarmActions")} if found else None


# Scheduler


def _make_schedule(aws: Clients, properties: Properties, name: str) -> Made:
    named = {"Name": name, **properties}
    aws("scheduler").create_schedule(**named)
    return Made(named["Name"])


def _look_at_schedule(aws: Clients, made: Made) -> dict[str, Any] | None:
    try:
        found = aws("scheduler").get_schedule(Name=made.reference)
    except aws("scheduler").exceptions.ResourceNotFoundException:
        return None
    return {key: found[key] for key in ("State", "ScheduleExpression")}


# SQS and SNS


def _make_queue(aws: Clients, properties: Properties, name: str) -> Made:
    sqs = aws("sqs")
    url = sqs.create_queue(QueueName=properties.get("QueueName", name))["QueueUrl"]
    answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    made = Made(url, {"Arn": answer["Attributes"]["QueueArn"], "QueueName": properties.get("QueueName", name)})
    _change_queue(aws, made, {}, properties)
    return made


def _change_queue(aws: Clients, made: Made, before: Properties, now: Properties) -> None:
    attributes = {name: _text(value).strip('"') for name, value in _without(now, "QueueName").items()}
    aws("sqs").set_queue_attributes(QueueUrl=made.reference, Attributes=attributes)


def _make_queue_policy(aws: Clients, properties: Properties, name: str) -> Made:
    _change_queue_policy(aws, Made(name), {}, properties)
    return Made(name)


def _change_queue_policy(aws: Clients, made: Made, before: Properties, now: Properties) -> None:
    for queue in now["Queues"]:
        aws("sqs").set_queue_attributes(QueueUrl=queue, Attributes={"Policy": _text(now["PolicyDocument"])})


def _remove_queue_policy(aws: Clients, made: Made, properties: Properties) -> None:
    for queue in properties["Queues"]:
        aws("sqs").set_queue_attributes(QueueUrl=queue, Attributes={"Policy": ""})


def _make_topic(aws: Clients, properties: Properties, name: str) -> Made:
    topic = aws("sns").create_topic(Name=properties.get("TopicName", name))["TopicArn"]
    made = Made(topic, {"TopicName": properties.get("TopicName", name), "TopicArn": topic})
    _change_topic(aws, made, {}, properties)
    return made


def _change_topic(aws: Clients, made: Made, before: Properties, now: Properties) -> None:
    for name, value in _without(now, "TopicName").items():
        aws("sns").set_topic_attributes(TopicArn=made.reference, AttributeName=name, AttributeValue=value)


def _make_topic_policy(aws: Clients, properties: Properties, name: str) -> Made:
    _change_topic_policy(aws, Made(name), {}, properties)
    return Made(name)


def _change_topic_policy(aws: Clients, made: Made, before: Properties, now: Properties) -> None:
    for topic in now["Topics"]:
        policy = {"AttributeName": "Policy", "AttributeValue": _text(now["PolicyDocument"])}
        aws("sns").set_topic_attributes(TopicArn=topic, **policy)


def _make_subscription(aws: Clients, properties: Properties, name: str) -> Made:
    attributes = {
        key: value if isinstance(value, str) else _text(value)
        for key, value in _without(properties, "TopicArn", "Protocol", "Endpoint").items()
    }
    subscription = aws("sns").subscribe(
        TopicArn=properties["TopicArn"],
        Protocol=properties["Protocol"],
        Endpoint=properties["Endpoint"],
        Attributes=attributes,
        ReturnSubscriptionArn=True,
    )
    return Made(subscription["SubscriptionArn"])


def _nothing(aws: Clients, made: Made, *properties: Properties) -> None:
    """What goes with the resource that it belongs to, or has nothing that can be changed."""


def _again(make: Callable[[Clients, Properties, str], Made]) -> Callable[[Clients, Made, Properties, Properties], None]:
    """For services whose way to change is to say it again."""

    def change(aws: Clients, made: Made, before: Properties, now: Properties) -> None:
        make(aws, now, made.reference)

    return change


TYPES = {
    "AWS::S3::Bucket": Type(
        _words(
            "BucketName VersioningConfiguration BucketEncryption PublicAccessBlockConfiguration OwnershipControls "
            "LifecycleConfiguration"
        ),
        _make_bucket,
        _change_bucket,
        lambda aws, made, properties: aws("s3").delete_bucket(Bucket=made.reference),
        fixed=_words("BucketName"),
    ),
    "AWS::S3::BucketPolicy": Type(
        _words("Bucket PolicyDocument"),
        _make_bucket_policy,
        _change_bucket_policy,
        lambda aws, made, properties: aws("s3").delete_bucket_policy(Bucket=made.reference),
        fixed=_words("Bucket"),
    ),
    "AWS::KMS::Key": Type(
        _words("Description MultiRegion KeyPolicy PendingWindowInDays"),
        _make_key,
        _change_key,
        _remove_key,
        fixed=_words("MultiRegion"),
    ),
    "AWS::CloudFormation::WaitConditionHandle": Type(
        frozenset(),
        lambda aws, properties, name: Made(f"https://cloudformation-waitcondition.example/{name}"),
        lambda aws, made, before, now: None,
        lambda aws, made, properties: None,
    ),
    "AWS::KMS::Alias": Type(
        _words("AliasName TargetKeyId"),
        _make_key_alias,
        lambda aws, made, before, now: aws("kms").update_alias(**now),
        lambda aws, made, properties: aws("kms").delete_alias(AliasName=made.reference),
        fixed=_words("AliasName"),
    ),
    "AWS::IAM::Role": Type(
        _words("RoleName Description AssumeRolePolicyDocument Policies"),
        _make_role,
        _change_role,
        _remove_role,
        fixed=_words("RoleName"),
        look=_look_at_role,
    ),
    "AWS::Lambda::Function": Type(
        _words(
            "FunctionName Description Runtime Architectures Handler Code Role MemorySize Timeout LoggingConfig "
            "Environment"
        ),
        _make_function,
        _change_function,
        lambda aws, made, properties: aws("lambda").delete_function(FunctionName=made.reference),
        fixed=_words("FunctionName"),
    ),
    "AWS::Lambda::EventInvokeConfig": Type(
        _words("FunctionName Qualifier MaximumRetryAttempts MaximumEventAgeInSeconds DestinationConfig"),
        _make_invoke_config,
        _again(_make_invoke_config),
        lambda aws, made, properties: aws("lambda").delete_function_event_invoke_config(
            FunctionName=properties["FunctionName"]
        ),
        fixed=_words("FunctionName Qualifier"),
    ),
    "AWS::Logs::LogGroup": Type(
        _words("LogGroupName RetentionInDays"),
        _make_log_group,
        _change_log_group,
        lambda aws, made, properties: aws("logs").delete_log_group(logGroupName=made.reference),
        fixed=_words("LogGroupName"),
    ),
    "AWS::Scheduler::Schedule": Type(
        _words("Name Description ScheduleExpression ScheduleExpressionTimezone FlexibleTimeWindow State Target"),
        _make_schedule,
        lambda aws, made, before, now: aws("scheduler").update_schedule(**{"Name": made.reference, **now}),
        lambda aws, made, properties: aws("scheduler").delete_schedule(Name=made.reference),
        fixed=_words("Name"),
        look=_look_at_schedule,
    ),
    "AWS::SQS::Queue": Type(
        _words("QueueName MessageRetentionPeriod SqsManagedSseEnabled"),
        _make_queue,
        _change_queue,
        lambda aws, made, properties: aws("sqs").delete_queue(QueueUrl=made.reference),
        fixed=_words("QueueName"),
    ),
    "AWS::SQS::QueuePolicy": Type(
        _words("Queues PolicyDocument"), _make_queue_policy, _change_queue_policy, _remove_queue_policy
    ),
    "AWS::SNS::Topic": Type(
        _words("TopicName DisplayName"),
        _make_topic,
        _change_topic,
        lambda aws, made, properties: aws("sns").delete_topic(TopicArn=made.reference),
        fixed=_words("TopicName"),
    ),
    # SNS gives a topic its default policy back by itself only with the topic.
    "AWS::SNS::TopicPolicy": Type(_words("Topics PolicyDocument"), _make_topic_policy, _change_topic_policy, _nothing),
    "AWS::SNS::Subscription": Type(
        _words("TopicArn Protocol Endpoint FilterPolicyScope FilterPolicy"),
        _make_subscription,
        _nothing,
        lambda aws, made, properties: aws("sns").unsubscribe(SubscriptionArn=made.reference),
        fixed=_words("TopicArn Protocol Endpoint FilterPolicyScope FilterPolicy"),
    ),
    "AWS::CloudWatch::Alarm": Type(
        _words(
            "AlarmName AlarmDescription Namespace MetricName Dimensions Period Statistic EvaluationPeriods "
            "DatapointsToAlarm ComparisonOperator Threshold TreatMissingData AlarmActions OKActions"
        ),
        _make_alarm,
        _again(_make_alarm),
        lambda aws, made, properties: aws("cloudwatch").delete_alarms(AlarmNames=[made.reference]),
        fixed=_words("AlarmName"),
        look=_look_at_alarm,
    ),
    "AWS::CloudWatch::Dashboard": Type(
        _words("DashboardName DashboardBody"),
        _make_dashboard,
        _again(_make_dashboard),
        lambda aws, made, properties: aws("cloudwatch").delete_dashboards(DashboardNames=[made.reference]),
        fixed=_words("DashboardName"),
    ),
}
