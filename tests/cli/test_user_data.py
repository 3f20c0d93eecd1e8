"""`certkeeper user-data`: what is printed or written, and what is refused."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from certkeeper.cli.main import main
from certkeeper.cli.terminal import GOOD, NO_NEWS
from certkeeper.deployment.user_data import BEGIN, END, LARGEST
from certkeeper.sandbox.aws import AwsServer

SETTINGS = """\
store = "s3://bucket/prod"
sealing = "store"

[certificates.www]
identifiers = ["example.com", "www.example.com"]

[certificates.api]
identifiers = ["api.example.com"]
"""
SECRETS = 'certificates_in = "secretsmanager:prod"\n'
Captured = pytest.CaptureFixture[str]
CapturedBytes = pytest.CaptureFixture[bytes]


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings in a folder of the test's own, with none from around it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CERTKEEPER_CONFIG", raising=False)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    path = tmp_path / "settings.toml"
    path.write_text(SETTINGS)
    return path


def user_data(*words: str) -> int:
    return main(["--config", "settings.toml", "user-data", *words])


def test_the_text_is_a_shell_script_with_the_command_in_it(tmp_path: Path, capsys: Captured) -> None:
    assert user_data("www", "--for", "example.com", "--wait", "60") == GOOD

    text = capsys.readouterr().out
    (tmp_path / "user-data.sh").write_text(text)
    checked = subprocess.run(["sh", "-n", "user-data.sh"], capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, b"")
    assert text.startswith("#!/bin/sh\n")
    assert ": www --from s3://bucket/prod\n" in text
    assert len(text.encode()) <= LARGEST


def test_names_to_cover_are_written_as_people_write_them(settings: Path, capsys: Captured) -> None:
    settings.write_text(SETTINGS.replace('"www.example.com"', '"*.bücher.example"'))

    assert user_data("www", "www", "--for", "Bücher-2.BÜCHER.example.", "--for", "EXAMPLE.com") == GOOD

    program = made(capsys.readouterr().out)
    assert "'xn--bcher-2-n2a.xn--bcher-kva.example'" in program and "'example.com'" in program


@pytest.mark.parametrize(
    ("name", "what", "todo"),
    [
        ("other.example.com", "do not have other.example.com covered by www", "leave away --for other.example.com"),
        ("*.example.com", "do not have *.example.com covered by www", "add it to the identifiers of www"),
        ("192.0.2.1", "--for 192.0.2.1: an IP address", "give a DNS name"),
        ("no name", "--for no name: not a domain name", "give a DNS name"),
    ],
)
def test_what_no_instance_would_ever_get_is_refused(name: str, what: str, todo: str, capsys: Captured) -> None:
    assert user_data("www", "--for", name) == NO_NEWS

    said = capsys.readouterr()
    assert said.out == ""
    assert what in said.err and todo in said.err


def made(text: str) -> str:
    """The program in user data."""
    program, payload = text.split("-c '")[1].split("'")[0], text.splitlines()[text.splitlines().index("ck") - 1]
    shown = program.replace("exec(set_up)", "print(client)")
    return subprocess.run(
        [sys.executable, "-c", shown], input=payload, capture_output=True, text=True, check=True
    ).stdout


def test_region_and_owner_of_the_bucket_are_asked_for(
    aws: AwsServer, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    aws.create_bucket("bucket")

    assert user_data("www") == GOOD

    said = capsys.readouterr()
    assert said.err == ""
    assert "'eu-west-1'" in made(said.out) and "'123456789012'" in made(said.out)


def test_without_aws_the_instance_is_left_to_find_out_and_that_is_said(capsys: Captured) -> None:
    assert user_data("www") == GOOD

    said = capsys.readouterr()
    assert "the user data leaves to the instance where the store is: " in said.err
    assert "placement/region" in made(said.out)


def test_what_is_given_is_not_asked_for(capsys: Captured) -> None:
    assert user_data("www", "--region", "us-gov-west-1", "--bucket-owner", "210987654321") == GOOD

    said = capsys.readouterr()
    assert said.err == ""
    assert "'us-gov-west-1'" in made(said.out) and "'210987654321'" in made(said.out)


def test_compressed_it_is_the_same_text(capsysbinary: CapturedBytes) -> None:
    assert user_data("www") == GOOD
    text = capsysbinary.readouterr().out

    assert user_data("www", "--gzip") == GOOD

    packed = capsysbinary.readouterr().out
    assert gzip.decompress(packed) == text
    assert len(packed) < len(text)


def test_a_terminal_is_not_flooded_with_compressed_user_data(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    assert user_data("www", "--gzip") == NO_NEWS

    said = capsys.readouterr()
    assert said.out == "" and "give --into FILE, or redirect it" in said.err


def test_the_block_in_a_script_is_replaced_and_the_rest_and_its_mode_are_kept(tmp_path: Path, capsys: Captured) -> None:
    script = tmp_path / "boot.sh"
    script.write_text(f"#!/bin/sh\necho before\n{BEGIN}\nan older block\n{END}\necho after\n")
    script.chmod(0o750)

    assert user_data("www", "--into", "boot.sh") == GOOD

    said = capsys.readouterr()
    text = script.read_text()
    assert text.startswith(f"#!/bin/sh\necho before\n{BEGIN}\n")
    assert text.endswith(f"{END}\necho after\n")
    assert "an older block" not in text
    assert (text.count(BEGIN), text.count(END)) == (1, 1)
    assert script.stat().st_mode & 0o777 == 0o750
    assert said.out == ""
    assert f"wrote boot.sh: {len(text.encode())} of the {LARGEST} bytes" in said.err


def test_written_twice_it_is_the_same_file(tmp_path: Path) -> None:
    assert user_data("www", "--into", "boot.sh") == GOOD
    once = (tmp_path / "boot.sh").read_bytes()

    assert user_data("www", "--into", "boot.sh") == GOOD

    assert (tmp_path / "boot.sh").read_bytes() == once
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith("tmp")] == []


def test_the_lines_for_nginx_name_the_certificate(capsys: Captured) -> None:
    assert user_data("www", "--nginx") == GOOD

    assert capsys.readouterr().out.splitlines() == [
        "listen 443 ssl;",
        "ssl_certificate     /etc/letsencrypt/live/www/fullchain.pem;",
        "ssl_certificate_key /etc/letsencrypt/live/www/privkey.pem;",
    ]


def test_certificates_in_secrets_manager_are_fetched_from_there(settings: Path, capsys: Captured) -> None:
    settings.write_text(SECRETS + SETTINGS)

    assert user_data("www", "--region", "eu-west-1") == GOOD

    said = capsys.readouterr()
    assert ": www --from secretsmanager:prod\n" in said.out
    assert said.err == ""  # a secret's owner is not asked for


def test_a_name_that_nobody_knows_is_told_with_those_that_there_are(capsys: Captured) -> None:
    assert user_data("shop") == NO_NEWS

    said = capsys.readouterr()
    assert said.out == ""
    assert "there is no certificate called 'shop'" in said.err
    assert "there are: api, www" in said.err


def test_a_script_that_is_too_large_as_text_is_compressed_beside_it(tmp_path: Path, capsys: Captured) -> None:
    script = tmp_path / "boot.sh"
    script.write_text("#!/bin/sh\n" + random_lines(5000))

    assert user_data("www", "--into", "boot.sh") == GOOD

    data = (tmp_path / "boot.sh.gz").read_bytes()
    assert len(data) <= LARGEST < len(script.read_bytes())
    assert gzip.decompress(data) == script.read_bytes()
    assert f"wrote boot.sh.gz, compressed for cloud-init: {len(data)} of the {LARGEST} bytes" in capsys.readouterr().err


def random_lines(count: int) -> str:
    """Text that compresses as badly as text can."""
    letters = random.Random(7).choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/", k=count)
    return "".join(f"# {''.join(letters[start : start + 60])}\n" for start in range(0, count, 60))


@pytest.mark.parametrize("more", [[], ["--gzip"]])
def test_too_large_a_script_is_refused_and_left_alone(tmp_path: Path, capsys: Captured, more: list[str]) -> None:
    script = tmp_path / "boot.sh"
    script.write_text(before := "#!/bin/sh\n" + random_lines(9000))

    assert user_data("www", "--into", "boot.sh", *more) == NO_NEWS

    assert f"and EC2 takes {LARGEST}" in (said := capsys.readouterr().err)
    assert "certkeeper: hint: shorten the script" in said
    assert script.read_text() == before
    assert not (tmp_path / "boot.sh.gz").exists()


def test_the_compressed_form_is_written_beside_the_script(tmp_path: Path) -> None:
    script = tmp_path / "boot.sh"
    script.write_text("#!/bin/sh\n# " + "mine " * 400 + "\n")

    assert user_data("www", "--gzip", "--into", "boot.sh") == GOOD
    assert user_data("www", "--gzip", "--into", "boot.sh") == GOOD

    assert gzip.decompress((tmp_path / "boot.sh.gz").read_bytes()) == script.read_bytes()
    assert script.read_text().count(BEGIN) == 1


def test_a_compressed_form_that_is_there_is_never_left_behind(tmp_path: Path) -> None:
    (tmp_path / "boot.sh").write_text("#!/bin/sh\n")
    assert user_data("www", "--gzip", "--into", "boot.sh") == GOOD

    assert user_data("api", "--into", "boot.sh") == GOOD

    data = (tmp_path / "boot.sh.gz").read_bytes()
    script = (tmp_path / "boot.sh").read_bytes()
    assert gzip.decompress(data) == script
    assert b": api --from " in script


def test_the_cloud_config_form_overwrites_nothing(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "boot.yaml").write_text("#cloud-config\npackages: [nginx]\n")

    assert user_data("www", "--cloud-config", "--into", "boot.yaml") == NO_NEWS

    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "boot.yaml").read_text() == "#cloud-config\npackages: [nginx]\n"


def test_what_is_no_shell_script_is_refused_and_left_alone(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "boot.sh").write_text("#cloud-config\nruncmd: []\n")

    assert user_data("www", "--into", "boot.sh") == NO_NEWS

    assert "this is no shell script" in capsys.readouterr().err
    assert (tmp_path / "boot.sh").read_text() == "#cloud-config\nruncmd: []\n"
