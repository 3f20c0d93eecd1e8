"""How the tests are run: the fast ones before the live ones, and on CI none may be skipped."""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import Any

import botocore.loaders
import botocore.session
import pytest
from _pytest.runner import runtestprotocol

from certkeeper.sandbox.acme_proxy import AcmeProxy

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


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Function, nextitem: pytest.Item | None) -> bool:
    """Run a test again that failed while Pebble did not find the order of a certificate: its mistake with one serial
    number in 256 (letsencrypt/pebble#550), and no finding. Nothing else is ever run again.
    """
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for again in (True, True, False):
        before = AcmeProxy.overlooked
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        if not again or AcmeProxy.overlooked == before or all(one.passed for one in reports):
            break
        item._initrequest()  # fixtures of its own once more; those of the module stay
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


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
