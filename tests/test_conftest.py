"""What is run again when it fails, and what is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FAILING = """
from certkeeper.sandbox.acme_proxy import AcmeProxy

tries = []

def test_that_pebble_overlooks_an_order_in():
    tries.append("overlooked")
    AcmeProxy.overlooked += tries.count("overlooked") == 1
    assert tries.count("overlooked") > 1

def test_that_fails_for_another_reason():
    tries.append("another")
    assert tries.count("another") > 1

def test_how_often_both_were_tried():
    assert (tries.count("overlooked"), tries.count("another")) == (2, 1)
"""


def test_a_test_is_run_again_where_pebble_overlooked_an_order_and_for_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "test_failing.py"
    path.write_text(FAILING)
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(tmp_path)]

    ended = subprocess.run(
        [*command, "-p", "tests.conftest", str(path)],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTEST_ADDOPTS": "", "CI": ""},
        capture_output=True,
        text=True,
    )

    assert "1 failed, 2 passed" in ended.stdout, ended.stdout + ended.stderr
