"""`export`: what the boot client does on an instance, with the credentials of whoever types it."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

from certkeeper import wiring
from certkeeper.cli.loading import read_settings
from certkeeper.cli.terminal import BAD_NEWS, GOOD, talk
from certkeeper.core.errors import SettingsError


def run(said: Namespace) -> int:
    """Fetch, open, prove and install. Raises SettingsError, StoreError."""
    from certkeeper.client.__main__ import main as pull

    settings, name = read_settings(said), said.name
    if said.roots and not Path(said.roots).is_file():
        raise SettingsError(f"there is no file {said.roots}", "give --roots a file of roots in PEM")
    source = f"secretsmanager:{settings.secrets_prefix}" if settings.secrets_prefix else settings.store
    words = [name, "--from", source, "--into", said.into]
    for spec in settings.specs:
        if spec.name == name:
            words += [word for one in spec.identifiers for word in ("--for", one)]
    if settings.bucket_owner:
        words += ["--bucket-owner", settings.bucket_owner]
    if said.roots:
        words += ["--roots", said.roots]
    environment = wiring.pulling_environment()
    os.environ.pop("AWS_SESSION_TOKEN", None)  # of other credentials than those that were found
    os.environ.update(environment)
    status = pull(words)
    if status in (0, 3):
        talk(f"the private key lies in clear in {said.into}/live/{name}/privkey.pem")
    return {0: GOOD, 3: BAD_NEWS}.get(status, status)  # the others mean the same there
