"""Law 2 on real parts: a keeper killed by SIGKILL at any call of a first issuance costs one certificate, no more.

Every call to AWS and to the CA is a moment. "Before" it: the keeper dies and the call never takes effect. "After" it:
it has taken effect, and the keeper dies without hearing of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from certkeeper.sandbox.calls import Call, Dropped, Phase
from certkeeper.sandbox.stack import Sandbox
from tests.live.keepers import Keeper
from tests.live.operators import Operator

pytestmark = pytest.mark.live

SIDE_BY_SIDE = 6
# Every call of a first issuance for a name and its wildcard: service, operation, what in the store, and which one.
MOMENTS = (
    "sts GetCallerIdentity 1",
    "s3 GetObject index 1",
    "s3 ListObjectsV2 1",
    "s3 ListObjectsV2 2",
    "s3 GetObject journal 1",
    "s3 GetObject certificates 1",
    "s3 PutObject journal 1",  # the claim
    "s3 GetObject accounts 1",
    "kms Encrypt 1",
    "s3 PutObject accounts 1",
    "acme directory 1",
    "kms Decrypt 1",
    "acme newNonce 1",
    "acme newAccount 1",
    "s3 PutObject accounts 2",
    "kms Encrypt 2",
    "acme newOrder 1",
    "s3 PutObject journal 2",  # the order and the sealed private key
    "acme authorization 1",
    "acme authorization 2",
    "route53 ListHostedZones 1",
    "s3 PutObject journal 3",  # the records
    "route53 ChangeResourceRecordSets 1",
    "route53 GetChange 1",
    "acme challenge 1",
    "acme challenge 2",
    "acme authorization 3",
    "acme authorization 4",
    "route53 ChangeResourceRecordSets 2",
    "acme order 1",
    "s3 PutObject journal 4",  # the fence
    "acme finalize 1",
    "acme order 2",
    "s3 PutObject journal 5",  # where the certificate is
    "acme certificate 1",
    "s3 PutObject certificates 1",
    "s3 PutObject journal 6",  # closed
    "s3 PutObject index 1",
)
LOOKS = ("acme authorization", "acme order", "route53 GetChange")
# After these the next tick comes by itself, when the claim has expired; after the others a person asks by name.
BY_THE_SCHEDULE = {
    "s3 PutObject journal 1",
    "s3 PutObject accounts 1",
    "acme newAccount 1",
    "acme newOrder 1",
    "s3 PutObject journal 2",
    "route53 ChangeResourceRecordSets 1",
    "acme challenge 1",
    "route53 ChangeResourceRecordSets 2",
    "acme finalize 1",
    "s3 PutObject journal 5",
    "s3 PutObject certificates 1",
    "s3 PutObject journal 6",
}


class Labels:
    """Names each call of one run as MOMENTS does."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def of(self, call: Call) -> str:
        words = [call.service, call.operation]
        if call.service == "s3" and "/" in call.resource:
            words.append(call.resource.split("/")[2])
        what = " ".join(words)
        self._seen[what] += 1
        return f"{what} {self._seen[what]}"


class Killing:
    """Watches a keeper's calls and kills it at one of them."""

    def __init__(self, moment: str, phase: Phase) -> None:
        self._moment, self._phase = moment, phase
        self._labels: dict[Phase, Labels] = {"before": Labels(), "after": Labels()}
        self.keeper: Keeper | None = None
        self.done = False

    def __call__(self, phase: Phase, call: Call) -> None:
        if phase != self._phase or self.done or self._labels[phase].of(call) != self._moment:
            return
        assert self.keeper is not None
        self.keeper.kill()
        self.done = True
        raise Dropped


@pytest.fixture(scope="module", name="sandbox")
def _sandbox() -> Iterator[Sandbox]:
    # Without refused nonces a run makes the same calls each time.
    with Sandbox(nonce_reject=0) as sandbox:
        yield sandbox


def killed_and_run_again(sandbox: Sandbox, moment: str, phase: Phase, again: str) -> None:
    with Operator(sandbox, wildcard=True) as operator:
        killing = Killing(moment, phase)
        with operator.watching(killing):
            killing.keeper = operator.start("renew")
            first = killing.keeper.end()
        if again == "tick":
            operator.age(operator.name, 400)

        second = operator.renew(*([] if again == "tick" else [operator.name]))

        assert killing.done
        assert first.status == -9
        assert second.status == 0, second.talk
        assert second.outcomes[operator.name]["outcome"] in ("renewed", "kept")
        operator.assert_one_good_certificate()


Verdicts = Mapping[tuple[str, Phase, str], Future[None]]
CASES: list[tuple[str, Phase, str]] = [
    # Before the second call of a kind is just after the call that comes before it.
    *((moment, "before", "renew NAME") for moment in MOMENTS if moment.endswith(" 1")),
    *((moment, "after", "renew NAME") for moment in MOMENTS),
    *((moment, "after", "tick") for moment in MOMENTS if moment in BY_THE_SCHEDULE),
]


@pytest.fixture(scope="module", name="verdicts")
def _verdicts(sandbox: Sandbox, request: pytest.FixtureRequest) -> Iterator[Verdicts]:
    """All chosen cases, under way side by side: most of a run is waiting for the CA."""
    chosen = {
        tuple(item.callspec.params[name] for name in ("moment", "phase", "again"))
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == request.path and hasattr(item, "callspec")
    }
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        yield {case: pool.submit(killed_and_run_again, sandbox, *case) for case in CASES if case in chosen}
        pool.shutdown(cancel_futures=True)


def test_the_moments_are_all_calls_of_a_first_issuance(sandbox: Sandbox) -> None:
    with Operator(sandbox, wildcard=True) as operator:
        operator.renew()

        labels = Labels()
        made = [labels.of(call) for call in operator.calls()]
        # A CA or a zone that is slow is looked at once more, and more than once on a busy machine.
        assert [one for one in made if one in MOMENTS or not one.startswith(LOOKS)] == list(MOMENTS)


@pytest.mark.parametrize(("moment", "phase", "again"), CASES)
def test_killed_at_any_call_the_next_run_ends_with_one_certificate(
    moment: str, phase: Phase, again: str, verdicts: Verdicts
) -> None:
    verdicts[moment, phase, again].result()
