"""What a keeper imports and reads at its start, imported and read once for all of them."""

from __future__ import annotations

from functools import cache

import boto3
import botocore.loaders
import botocore.session

import certkeeper.adapters.acme_authority
import certkeeper.adapters.aws_clients
import certkeeper.adapters.dns_lookup
import certkeeper.adapters.kms_keys
import certkeeper.adapters.route53_zones
import certkeeper.adapters.s3_records
import certkeeper.adapters.x509
import certkeeper.cli.main  # noqa: F401 - only to have it loaded

# As in tests/conftest.py: what AWS's services look like is read by the first client of each, and takes longer than to
# make one. With the first client botocore also imports much of itself.
botocore.session.create_loader = cache(botocore.loaders.create_loader)
for service in ("s3", "sts", "kms", "route53"):
    boto3.client(service, region_name="eu-west-1", aws_access_key_id="none", aws_secret_access_key="none")
