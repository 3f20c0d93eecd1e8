"""What a keeper imports at its start, imported once for all of them."""

from __future__ import annotations

import boto3

import certkeeper.adapters.acme_authority
import certkeeper.adapters.aws_clients
import certkeeper.adapters.dns_lookup
import certkeeper.adapters.kms_keys
import certkeeper.adapters.route53_zones
import certkeeper.adapters.s3_records
import certkeeper.adapters.x509
import certkeeper.cli.main  # noqa: F401 - only to have it loaded

# botocore imports much of itself only when the first client is made.
boto3.client("s3", region_name="eu-west-1", aws_access_key_id="none", aws_secret_access_key="none")
