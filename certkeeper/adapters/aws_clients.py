"""Clients of AWS, configured as for every AWS tool: profile, region, roles, `AWS_ENDPOINT_URL`."""

from __future__ import annotations

from threading import Lock
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from certkeeper import __version__
from certkeeper.core.errors import SettingsError, StoreError

CONNECTIONS = 10
CONNECT_SECONDS, READ_SECONDS = 4, 8


class Aws:
    """Each client is made once, when it is first needed."""

    def __init__(self) -> None:
        self._session: Any = None
        self._clients: dict[tuple[str, str | None], Any] = {}
        self._lock = Lock()

    def client(
        self, service: str, region: str | None = None, *, patience: int = READ_SECONDS, tries: int | None = None
    ) -> Any:
        """A client that waits `patience` seconds for an answer. Raises SettingsError if AWS is not configured."""
        with self._lock:
            if (service, region) not in self._clients:
                # Route 53 throttles at five requests a second for the whole account, so patience matters there.
                tries = tries or (10 if service == "route53" else 3)
                how = Config(
                    retries={"mode": "standard", "total_max_attempts": tries},
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=patience,
                    user_agent_extra=f"certkeeper/{__version__}",
                    max_pool_connections=CONNECTIONS,
                )
                try:
                    self._session = self._session or boto3.session.Session()
                    self._clients[service, region] = self._session.client(service, region_name=region, config=how)
                except (BotoCoreError, ValueError) as error:
                    raise SettingsError(
                        f"AWS is not configured: {error}",
                        "set AWS_REGION and credentials, or AWS_PROFILE, as for every AWS tool",
                    ) from None
            return self._clients[service, region]

    def region_of(self, bucket: str, owner: str) -> str:
        """Where a bucket lies. Raises StoreError."""
        try:
            answer = self.client("s3").head_bucket(Bucket=bucket, ExpectedBucketOwner=owner)
            return str(answer["ResponseMetadata"]["HTTPHeaders"]["x-amz-bucket-region"])
        except (ClientError, BotoCoreError, KeyError) as error:
            code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
            raise StoreError(
                f"S3 does not say in which region s3://{bucket} lies: {code}",
                "check that the bucket is there, and that this role has s3:ListBucket on it",
            ) from None

    def account(self) -> str:
        """The account of the credentials in use. Raises StoreError."""
        try:
            return str(self.client("sts").get_caller_identity()["Account"])
        except (ClientError, BotoCoreError) as error:
            code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
            raise StoreError(
                f"AWS does not say which account these credentials belong to: {code}",
                "configure AWS credentials (a profile, a role or environment variables); "
                "or set bucket_owner in the settings",
            ) from None
