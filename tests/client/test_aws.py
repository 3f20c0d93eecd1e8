"""Where the calls go and whom they trust."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from certkeeper.client.aws import Aws
from certkeeper.client.sigv4 import Credentials
from certkeeper.client.wire import Answer, Connection, trusting
from certkeeper.core.errors import SealingError, StoreError
from tests.client.certificates import DAY, authority, issue, now
from tests.client.conftest import Instance
from tests.client.loopback_aws import LoopbackAws


class Recording(Aws):
    """Signs everything and sends nothing."""

    def __init__(self, region: str = "eu-west-1") -> None:
        super().__init__(region, "", print)
        self.credentials = Credentials("AKID", "secret", "")
        self.asked: list[tuple[str, str]] = []

    def _patiently(self, url: str, seconds: float, ask: Callable[[Connection], Answer]) -> Answer:
        connection = Connection(url, seconds, None)

        def record(method: str, path: str, headers: dict[str, str], body: bytes, most: int) -> Answer:
            self.asked.append((url, path))
            return Answer(404, {}, b"")

        connection.request = record  # type: ignore[method-assign] # what is asked is all that counts here
        return ask(connection)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL_KMS",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
    ):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize(
    ("region", "bucket", "url", "path"),
    [
        ("eu-west-1", "my-bucket", "https://my-bucket.s3.eu-west-1.amazonaws.com", "/a%20b/c"),
        ("eu-west-1", "my.bucket", "https://s3.eu-west-1.amazonaws.com", "/my.bucket/a%20b/c"),
        ("cn-north-1", "my-bucket", "https://my-bucket.s3.cn-north-1.amazonaws.com.cn", "/a%20b/c"),
    ],
)
def test_s3_is_found_where_aws_has_it(region: str, bucket: str, url: str, path: str) -> None:
    aws = Recording(region)

    with pytest.raises(StoreError):
        aws.document(bucket, "a b/c", "")

    assert aws.asked == [(url, path)]


def test_kms_is_found_in_the_region_of_its_key() -> None:
    aws = Recording()

    with pytest.raises(StoreError):
        aws.opened(b"x", "arn:aws-cn:kms:cn-northwest-1:123456789012:key/k", "a")

    assert aws.asked == [("https://kms.cn-northwest-1.amazonaws.com.cn", "/")]


@pytest.mark.parametrize(
    "arn",
    [
        "",
        "x",
        "arn:aws:kms",
        "arn:aws:kms::1:key/k",
        "arn:aws:kms:evil.example/#:1:key/k",
        "alias/x",
        "arn:aws:kms:é:1:k",
    ],
)
def test_a_strange_kms_key_is_asked_nowhere(arn: str) -> None:
    aws = Recording()

    with pytest.raises(SealingError):
        aws.opened(b"x", arn, "a")

    assert aws.asked == []


@pytest.fixture(scope="module")
def private_ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(private_ca: trustme.CA, request: pytest.FixtureRequest) -> Iterator[LoopbackAws]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    private_ca.issue_cert(getattr(request, "param", "127.0.0.1")).configure_cert(context)
    with LoopbackAws(tls=context) as server:
        yield server


@pytest.fixture
def far(
    secure: LoopbackAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Instance:
    monkeypatch.setattr("certkeeper.client.aws._PAUSES", ())
    instance = Instance(secure, tmp_path, monkeypatch, capfd)
    instance.store(issue("example.com"))
    return instance


def test_a_private_endpoint_is_trusted_by_its_bundle(far: Instance, private_ca: trustme.CA, tmp_path: Path) -> None:
    private_ca.cert_pem.write_to_path(str(tmp_path / "bundle.pem"))
    far.environment["AWS_CA_BUNDLE"] = str(tmp_path / "bundle.pem")

    run = far.pull()

    assert run.code == 0, run.err


def test_an_endpoint_of_an_unknown_ca_is_sent_nothing(far: Instance) -> None:
    run = far.pull()

    assert run.code == 1
    assert "127.0.0.1 is not trusted here" in run.err
    assert far.aws.requests == []


@pytest.mark.parametrize("secure", ["127.0.0.2"], indirect=True)
@pytest.mark.parametrize("held", [False, True])
def test_an_endpoint_of_another_name_is_sent_nothing(
    far: Instance, private_ca: trustme.CA, tmp_path: Path, held: bool
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(private_ca.cert_pem.bytes() + authority().root_pem.encode())
    far.environment["AWS_CA_BUNDLE"] = str(bundle)
    if held:  # proven with the same roots before the endpoint is asked
        far.lay(issue("example.com"))

    run = far.pull("--roots", str(bundle), roots=False)

    assert run.code == (0 if held else 1)
    assert "mismatch" in run.err
    assert far.aws.requests == []


@pytest.mark.parametrize("days", [-9, 9])
def test_an_endpoint_out_of_date_is_rather_a_clock_that_will_be_set(
    private_ca: trustme.CA,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    days: int,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    begin = now() + days * DAY
    private_ca.issue_cert("127.0.0.1", not_before=begin, not_after=begin + DAY).configure_cert(context)
    private_ca.cert_pem.write_to_path(str(tmp_path / "bundle.pem"))
    with LoopbackAws(tls=context) as server:
        far = Instance(server, tmp_path, monkeypatch, capfd)
        far.environment["AWS_CA_BUNDLE"] = str(tmp_path / "bundle.pem")

        run = far.pull("--wait", "1")

    assert run.code == 1
    assert run.err.count("; waiting up to") == 1
    assert "hint: is this machine's clock right?" in run.err
    assert server.requests == []


def test_the_proofs_roots_are_not_the_endpoints_roots(far: Instance, private_ca: trustme.CA, tmp_path: Path) -> None:
    (tmp_path / "both.pem").write_bytes(private_ca.cert_pem.bytes() + authority().root_pem.encode())

    run = far.pull("--roots", str(tmp_path / "both.pem"), roots=False)

    assert run.code == 1
    assert far.aws.requests == []


def test_tls_is_never_older_than_1_2_and_always_verified() -> None:
    context = trusting(None)

    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_roots_named_in_the_environment_overrule_the_systems(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "one.pem").write_text(authority().root_pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "one.pem"))

    context = trusting(None)

    assert [one["subject"] for one in context.get_ca_certs()] == [((("commonName", "Test Root"),),)]


@pytest.mark.parametrize(("roots", "file_too"), [(0, True), (3, True), (150, False)])
def test_a_folder_of_a_few_roots_does_not_stand_for_the_file_beside_it(
    roots: int, file_too: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for n in range(roots):
        (tmp_path / f"{n:08x}.0").write_text("")
    (tmp_path / "ca-bundle.crt").write_text("")
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    asked: list[bool] = []
    monkeypatch.setattr(ssl.SSLContext, "set_default_verify_paths", lambda _: asked.append(True))

    trusting(None)

    assert asked == [True] * file_too


def test_roots_are_read_once(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str | None] = []

    def reading(bundle: str | None) -> ssl.SSLContext:
        read.append(bundle)
        return trusting(bundle)

    monkeypatch.setattr("certkeeper.client.aws.trusting", reading)
    instance.lay(issue("example.com"))
    instance.store(issue("example.com"))

    assert instance.pull().out.split()[1] == "installed"
    assert read == [str(instance.folder / "roots.pem")]
