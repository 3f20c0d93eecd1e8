"""`certkeeper policy`: what a role needs to read and open certificates, as JSON to paste."""

from __future__ import annotations

import json
from argparse import Namespace

from certkeeper import wiring
from certkeeper.cli.loading import chosen, read_settings
from certkeeper.cli.terminal import GOOD, put, talk
from certkeeper.core import permissions
from certkeeper.core.errors import SettingsError


def run(said: Namespace) -> int:
    settings = read_settings(said)
    specs = chosen(settings, said.names)
    deployment = wiring.described(settings)
    if said.on_secret:
        if len(said.names) != 1:
            raise SettingsError("one secret has one policy", "give one NAME with --on-secret")
        found = permissions.secret_policy(deployment, said.names[0])
        if found is None:
            raise SettingsError(
                f"no secret of {said.names[0]} needs a policy",
                "only one that readers of another account read does, where certificates_in is set",
            )
        put(json.dumps(found, indent=2) + "\n")
        return GOOD
    put(json.dumps(permissions.reader(deployment, [spec.name for spec in specs]), indent=2) + "\n")
    for spec in specs:
        if not spec.readers and deployment.kms_key is not None:
            talk(f"{spec.name} has no readers in the settings, and the KMS key's policy lets in readers only")
        if permissions.secret_policy(deployment, spec.name) is not None:
            talk(f"for its readers of other accounts, the secret needs: certkeeper policy {spec.name} --on-secret")
    return GOOD
