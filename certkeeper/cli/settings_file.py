"""What `init` writes: a commented certkeeper.toml with the answers in it."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass

from certkeeper import config


@dataclass(frozen=True)
class Answers:
    """What `init` knows or has asked for."""

    store: str
    sealing: str
    kms_key: str
    contact: str | None
    identifiers: tuple[str, ...]
    staging: bool


def text(answers: Answers) -> str:
    """The settings file."""
    kms = answers.sealing == "kms"
    name = _name(answers.identifiers[0])
    listed = ", ".join(json.dumps(one, ensure_ascii=False) for one in answers.identifiers)
    contact = f"contact   = {json.dumps(answers.contact)}" if answers.contact else '# contact = "ops@example.com"'
    return f"""\
# Settings of certkeeper. Every key: docs/settings.md. Check them with: certkeeper plan

# Where certificates, the journal and the account are kept.
store   = {json.dumps(answers.store)}

# The name of what runs on AWS; certkeeper deploy makes it.
deployment = "certkeeper"

# How private keys are kept: "kms" seals each with a KMS key, so that only the roles you name can open it (about $1 a
# month for the key); "store" leaves them to the bucket's own encryption (no extra cost): whoever may read the object
# may read the private key.
sealing = {json.dumps(answers.sealing)}
{"" if kms else "# "}kms_key = {json.dumps(answers.kms_key)}

[ca]
directory = "{"letsencrypt-staging" if answers.staging else "letsencrypt"}"
{contact}

# One table for each certificate. The name is what instances ask for; names with dots stand in quotes.
[certificates.{json.dumps(name)}]
identifiers = [{listed}]
# key_type = "ecdsa-p256"    # ecdsa-p256 | ecdsa-p384 | rsa-2048 | rsa-3072 | rsa-4096
"""


def _name(identifier: str) -> str:
    with suppress(ValueError):  # config.parse() tells it better
        identifier = config.identifier(identifier)
    return identifier.removeprefix("*.")[:64]
