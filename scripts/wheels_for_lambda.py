"""Merges uv's locks for Lambda's two architectures into one requirements file with the chosen wheels' hashes only.

    python scripts/wheels_for_lambda.py 3.13 pylock.aarch64.toml pylock.x86_64.toml >lock.txt

The wheel for each architecture is the one pip and uv would choose; manylinux2014 (glibc 2.17) and older, as that
runs on every Amazon Linux and pip does not widen the newer tags.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename


def tags(python: tuple[int, int], architecture: str) -> list[Tag]:
    """What that interpreter takes, the best first."""
    platforms = [f"{glibc}_{architecture}" for glibc in ("manylinux_2_17", "manylinux2014")]
    return [
        *cpython_tags(python, platforms=platforms),
        *compatible_tags(python, interpreter=f"cp{python[0]}{python[1]}", platforms=platforms),
    ]


def best_wheel(wheels: list[dict[str, Any]], wanted: list[Tag]) -> str:
    """The hash of the wheel that an installer would take."""
    ranked = []
    for wheel in wheels:
        file_name = wheel.get("name") or wheel["url"].rpartition("/")[2]
        ranks = [wanted.index(tag) for tag in parse_wheel_filename(file_name)[3] if tag in wanted]
        if ranks:
            ranked.append((min(ranks), str(wheel["hashes"]["sha256"])))
    if not ranked:
        raise SystemExit(f"no wheel for Lambda among {[wheel['url'] for wheel in wheels]}")
    return min(ranked)[1]


def main() -> None:
    major, minor = (int(part) for part in sys.argv[1].split("."))
    hashes: dict[str, set[str]] = {}
    for path in map(Path, sys.argv[2:]):
        architecture = path.name.split(".")[1]
        wanted = tags((major, minor), architecture)
        for package in tomllib.loads(path.read_text())["packages"]:
            requirement = f"{package['name']}=={package['version']}"
            hashes.setdefault(requirement, set()).add(best_wheel(package["wheels"], wanted))
    for requirement in sorted(hashes):
        lines = [requirement, *(f"--hash=sha256:{each}" for each in sorted(hashes[requirement]))]
        sys.stdout.write(" \\\n    ".join(lines) + "\n")


if __name__ == "__main__":
    main()
