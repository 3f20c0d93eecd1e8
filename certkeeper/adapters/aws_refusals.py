"""How AWS's services refuse: the code of an error, and what to do about those that mean the same everywhere.

The text of an error is never told: it may quote what was sent.
"""

from __future__ import annotations

from collections.abc import Mapping

from botocore.exceptions import BotoCoreError, ClientError

Refused = (ClientError, BotoCoreError)
AGAIN = "sign in to AWS again"
CHECK = "check the AWS credentials"
CLOCK = "set this machine's clock, which is minutes away from AWS's"
NETWORK = "check the network, the Region, and AWS_ENDPOINT_URL if it is set"
NO_BUCKET = "create the bucket (certkeeper deploy does), or correct its name: store in the settings, or --from"
FEWER = "AWS wants fewer calls; the next run tries again"
HINTS = {
    "NoCredentialsError": "configure AWS credentials (a profile, a role or environment variables)",
    "NoRegionError": "set AWS_REGION, or a region in the AWS profile",
    "SSOTokenLoadError": "sign in to AWS: aws sso login",
    "RequestTimeTooSkewed": CLOCK,
    **dict.fromkeys(
        (
            "ExpiredToken",
            "ExpiredTokenException",
            "RequestExpired",
            "TokenRefreshRequired",
            "TokenRetrievalError",
            "UnauthorizedSSOTokenError",
        ),
        AGAIN,
    ),
    **dict.fromkeys(
        (
            "CredentialRetrievalError",
            "InvalidAccessKeyId",
            "InvalidClientTokenId",
            "InvalidSignatureException",
            "InvalidToken",
            "PartialCredentialsError",
            "UnrecognizedClientException",
        ),
        CHECK,
    ),
    # STS and IAM say so of a wrong clock too.
    "SignatureDoesNotMatch": f"{CHECK}, and this machine's clock",
    **dict.fromkeys(
        (
            "ConnectTimeoutError",
            "EndpointConnectionError",
            "HTTPClientError",
            "ProxyConnectionError",
            "ReadTimeoutError",
            "SSLError",
        ),
        NETWORK,
    ),
    **dict.fromkeys(("RequestLimitExceeded", "SlowDown", "Throttling", "ThrottlingException"), FEWER),
}


def code_of(error: Exception) -> str:
    """AWS's own word for it, or botocore's where nothing was answered."""
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else type(error).__name__


def hint_for(error: Exception, own: Mapping[str, str], otherwise: str) -> str:
    """What to do: by a service's `own` codes, by those of all services, or `otherwise`."""
    code = code_of(error)
    return own.get(code) or HINTS.get(code, otherwise)
