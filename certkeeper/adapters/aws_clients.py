"""Clients of AWS, configured as for every AWS tool: profile, region, roles, `AWS_ENDPOINT_URL`."""

from __future__ import annotations

import os
from datetime import datetime
from threading import Lock
from typing import Any, cast

import boto3
import botocore
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.handlers import add_expect_header
from botocore.utils import parse_timestamp

from certkeeper import __version__
from certkeeper.adapters.aws_refusals import AGAIN, NO_BUCKET, Refused, code_of, hint_for
from certkeeper.core.errors import DnsError, SettingsError, StoreError

CONNECTIONS = 20
CONNECT_SECONDS, READ_SECONDS = 4, 8


class Aws:
    """Each client is made once, when it is first needed."""

    def __init__(self) -> None:
        self._session: Any = None
        self._account: str | None = None
        self._clients: dict[tuple[str, str | None], Any] = {}
        self._assumed: dict[str, Any] = {}
        self._lock, self._assuming = Lock(), Lock()

    def client(
        self, service: str, region: str | None = None, *, patience: int | None = None, tries: int | None = None
    ) -> Any:
        """A client, perhaps with `patience` (seconds for an answer) and `tries` of its own.

        Raises SettingsError if AWS is not configured.
        """
        with self._lock:
            if (service, region) not in self._clients:
                try:
                    self._session = self._session or boto3.session.Session(
                        # Botocore does not know this variable, which all other AWS tools read.
                        botocore_session=_session(),
                        region_name=os.environ.get("AWS_REGION") or None,
                    )
                    how = _config(service, patience, tries)
                    self._clients[service, region] = self._session.client(service, region_name=region, config=how)
                except (BotoCoreError, ValueError) as error:
                    raise SettingsError(
                        f"AWS is not configured: {error}",
                        "set AWS_REGION and credentials, or AWS_PROFILE, as for every AWS tool",
                    ) from None
            return self._clients[service, region]

    def route53(self, role_arn: str = "") -> Any:
        """A client of Route 53 in the account that a role leads to, of our own without one.

        A role is assumed once, for the hour that every role allows. Raises SettingsError, DnsError.
        """
        if not role_arn:
            return self.client("route53")
        with self._assuming:
            if role_arn not in self._assumed:
                try:
                    self._assumed[role_arn] = self._route53_as(role_arn)
                except DnsError as error:
                    self._assumed[role_arn] = error  # the next name shall not wait for the same answer
            assumed = self._assumed[role_arn]
        if isinstance(assumed, DnsError):
            raise assumed
        return assumed

    def _route53_as(self, role_arn: str) -> Any:
        try:
            answer = self.client("sts").assume_role(RoleArn=role_arn, RoleSessionName="certkeeper")
        except Refused as error:
            raise DnsError(
                f"the role {role_arn} cannot be assumed: {code_of(error)}",
                "give this role sts:AssumeRole on that one, and name this role in that one's trust policy",
            ) from None
        given = answer["Credentials"]
        session = boto3.session.Session(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])
        region = self.client("route53").meta.region_name
        return session.client("route53", region_name=region, config=_config("route53"))

    def region_of(self, bucket: str, owner: str) -> str:
        """Where a bucket lies. Raises StoreError."""
        try:
            answer = self.client("s3").head_bucket(Bucket=bucket, ExpectedBucketOwner=owner)
            return str(answer["ResponseMetadata"]["HTTPHeaders"]["x-amz-bucket-region"])
        except (*Refused, KeyError) as error:
            raise StoreError(
                f"S3 does not say in which region s3://{bucket} lies: {code_of(error)}",
                hint_for(error, {"404": NO_BUCKET}, "check that this role has s3:ListBucket on it, and whose it is"),
            ) from None

    def environment(self) -> dict[str, str]:
        """The credentials in use and their region, as environment variables. Raises SettingsError."""
        region = self.client("sts").meta.region_name
        try:
            credentials = self._session.get_credentials()
            given = credentials.get_frozen_credentials() if credentials else None
        except BotoCoreError as error:
            raise SettingsError(f"AWS is not configured: {code_of(error)}", AGAIN) from None
        if given is None:
            raise SettingsError("there are no AWS credentials", "set AWS_PROFILE, or sign in to AWS")
        found = {
            "AWS_ACCESS_KEY_ID": given.access_key,
            "AWS_SECRET_ACCESS_KEY": given.secret_key,
            "AWS_SESSION_TOKEN": given.token,
            "AWS_REGION": region,
        }
        return {name: value for name, value in found.items() if value}

    def account(self) -> str:
        """The account of the credentials in use. Raises StoreError."""
        if self._account is not None:
            return self._account
        try:
            self._account = str(self.client("sts").get_caller_identity()["Account"])
            return self._account
        except Refused as error:
            raise StoreError(
                f"AWS does not say which account these credentials belong to: {code_of(error)}",
                hint_for(error, {}, "check the AWS credentials; or set bucket_owner in the settings"),
            ) from None


def _session() -> Any:
    """Botocore's, with a way of its own to read instants: a listing holds one for each object, and botocore tries
    several forms on each, which takes five times as long as all the rest of a listing. And it asks S3 whether it wants
    what is to be written, which for documents as small as ours is a second request."""
    session = botocore.session.get_session()
    session.unregister("before-call.s3", cast("Any", add_expect_header))
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_instant)
    return session


def _instant(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return parse_timestamp(value)
    return moment if moment.tzinfo else parse_timestamp(value)


def _config(service: str, patience: int | None = None, tries: int | None = None) -> Config:
    # Route 53 throttles at five requests a second for the whole account, so patience matters there.
    tries = tries or (10 if service == "route53" else 3)
    return Config(
        retries={"mode": "standard", "total_max_attempts": tries},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=patience or READ_SECONDS,
        user_agent=f"certkeeper/{__version__} botocore/{botocore.__version__}",
        max_pool_connections=CONNECTIONS,
    )
