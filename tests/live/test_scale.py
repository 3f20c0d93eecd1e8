"""What many names cost, on the store of bench/scale.py."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.live.keepers import ROOT

pytestmark = [pytest.mark.live, pytest.mark.timeout(330)]


def test_ten_thousand_names_of_which_none_is_due_take_at_most_25_calls_of_aws() -> None:
    command = [sys.executable, "bench/scale.py", "--names", "10000", "--runs", "1"]

    done = subprocess.run(
        command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=320, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "10000 names, none due" in done.stdout
    calls = re.search(r"AWS calls of one run: (\d+)", done.stdout)
    assert calls is not None
    assert int(calls[1]) <= 25, done.stdout
