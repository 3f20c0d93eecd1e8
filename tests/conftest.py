"""How the tests are run: the fast ones before the live ones, and on CI none may be skipped."""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import Any

import botocore.loaders
import botocore.session
import pytest

# Images of containers like to forbid byte code; every Python that a test starts then compiles all that it imports, and
# every worker rewrites every test: a third of the whole time.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Each session of botocore reads anew what AWS's services look like, which takes five times as long as the client it is
# for. All tests of a process share what was read.
botocore.session.create_loader = cache(botocore.loaders.create_loader)

ON_CI = os.environ.get("CI") == "true"


# The live files that take longest, which begin first, so that nobody waits for the last of them.
LONGEST = (
    "test_spot_django",
    "test_a_real_boot",
    "test_the_cas_side",
    "test_killed_anywhere",
    "test_many_keepers",
    "test_deploy",
    "test_a_store_in_trouble",
    "test_refused_nonces",
    "test_demo",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    if not item.get_closest_marker("live"):
        return 0
    return 1 + (LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if ON_CI and terminalreporter.stats.get("skipped"):
        terminalreporter.write_line("CI has all the parts, so a skipped test is a failure.", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    terminalreporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = terminalreporter is not None and terminalreporter.stats.get("skipped")
    if ON_CI and skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
