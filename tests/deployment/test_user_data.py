"""User data: small enough, harmless in any script, and run for real over a copy of /etc and /usr/local/bin."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped] # cloud-init's own, which cfn-lint brings

from certkeeper.core.errors import SettingsError
from certkeeper.deployment import user_data
from certkeeper.deployment.one_file import shrunk
from certkeeper.deployment.user_data import BEGIN, END, LARGEST, Options, cloud_config, compressed, into, render
from tests.client.certificates import authority, issue
from tests.client.certificates import document as document_of
from tests.client.loopback_aws import SESSION_TOKEN, LoopbackAws

LONG = Options(
    ("example.com",),
    "s3://certkeeper-123456789012-eu-west-1/prod",
    identifiers=("example.com", "www.example.com", "*.example.com"),
    region="eu-west-1",
    bucket_owner="123456789012",
)
client_for = cache(shrunk)
SHELLS = [one for one in ("dash", "bash", "busybox") if shutil.which(one)]
PYTHONS = [
    str(one)
    for minor in range(9, 15)
    for one in [*Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3")][:1] + [Path(f"/usr/bin/python3.{minor}")]
    if one.exists()
]


def can_be_root_in_a_namespace() -> bool:
    if shutil.which("unshare") is None:
        return False
    probe = "mount -t tmpfs none /mnt && mkdir /mnt/a /mnt/b && " + overlay("/etc", "/mnt/a", "/mnt/b")
    return subprocess.run(["unshare", "-rm", "sh", "-c", probe], capture_output=True, check=False).returncode == 0


def overlay(folder: str, upper: str, work: str) -> str:
    return f"mount -t overlay none -o lowerdir={folder},upperdir={upper},workdir={work} {folder}"


needs_namespaces = pytest.mark.skipif(not can_be_root_in_a_namespace(), reason="no overlay in a namespace here")


# ---- size and form


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"region": "", "bucket_owner": ""},
        {"region": "us-gov-west-1"},
        {"source": "secretsmanager:certkeeper-prod/web", "bucket_owner": ""},
        {"identifiers": ()},
        {"no_timer": True},
        {"reload": ""},
        {"names": ("example.com", "shop.example.com", "intranet.example.org"), "identifiers": ()},
    ],
)
def test_the_text_leaves_3000_bytes_and_compressed_it_leaves_5300(changes: dict[str, Any]) -> None:
    options = replace(LONG, **changes)
    text = render(options)

    assert len(text.encode()) <= LARGEST - 3000
    assert len(cloud_config(options).encode()) <= LARGEST - 3000
    assert len(compressed(text)) <= LARGEST - 5300
    assert gzip.decompress(compressed(text)).decode() == text
    assert compressed(text) == compressed(text)


def test_twenty_long_names_fit_though_they_leave_less() -> None:
    names = tuple(f"a-rather-long-name-{number}.of-some-customer.example.com" for number in range(20))

    assert len(render(replace(LONG, names=names, identifiers=())).encode()) <= LARGEST - 1300


def test_nothing_is_downloaded_and_nothing_but_sh_and_python_is_needed() -> None:
    text = render(LONG) + user_data._SET_UP

    for word in ("curl", "wget", "pip ", "apt", "dnf", "aws "):
        assert word not in text


def test_no_template_language_reads_anything_into_it() -> None:
    unpack, payload = user_data._packed(LONG.command)

    assert not set(payload) & set("${% \n")
    assert not set(unpack) & set("'$#")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "options",
    [LONG, Options(("a", "b"), "secretsmanager:prod", into="/srv/it's $HOME `x`", reload="echo '\"' $x \\ 100%")],
)
def test_every_shell_reads_it_and_hands_the_payload_over(shell: str, options: Options, tmp_path: Path) -> None:
    fake = tmp_path / "python3"
    words = "for word; do printf '%s\\0' \"$word\"; done >$(dirname $0)/words; cat >$(dirname $0)/payload"
    fake.write_text(f"#!/bin/sh\nshift 3\n{words}\n")
    (tmp_path / "systemctl").write_text("#!/bin/sh\n")
    for one in tmp_path.iterdir():
        one.chmod(0o755)
    script = tmp_path / "script"
    script.write_text(render(options))

    command = ["busybox", "sh"] if shell == "busybox" else [shell]
    done = subprocess.run(
        [*command, "-eu", str(script)], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True
    )

    unpack, payload = user_data._packed(options.command)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "words").read_text().split("\0")[:-1] == [unpack, "--install-timer"]
    assert (tmp_path / "payload").read_text() == payload + "\n"


def test_a_pull_that_fails_is_said_and_does_not_end_the_users_script(tmp_path: Path) -> None:
    for name in ("python3", "systemctl"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    text = into("#!/bin/sh\nset -eu\n", LONG) + "echo the rest\n"

    done = subprocess.run(
        ["dash"], input=text, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (0, "the rest\n")
    assert done.stderr == "certkeeper-pull: exit status 1\n"


@pytest.mark.live
@pytest.mark.parametrize("python", PYTHONS)
def test_what_comes_out_is_the_client_under_every_python(python: str, tmp_path: Path) -> None:
    lines = render(LONG).splitlines()
    payload = lines[lines.index("ck") - 1]
    program = user_data._packed(LONG.command)[0].replace("exec(set_up)", "print(client, end='')")

    done = subprocess.run([python, "-I", "-c", program], input=payload, capture_output=True, text=True, check=True)
    (tmp_path / "client").write_text(done.stdout)
    refused = subprocess.run([python, "-I", "-S", str(tmp_path / "client"), "--help"], capture_output=True, text=True)

    assert done.stdout == client_for(LONG.command)
    assert refused.returncode == 2
    assert f"made for example.com --from {LONG.source} alone" in refused.stderr


# ---- in a script of the user's

SCRIPT = "#!/bin/bash -eu\napt-get install -y nginx\necho done"


def test_a_block_is_appended_once_and_replaced_afterwards() -> None:
    once = into(SCRIPT, Options(("a",), "s3://bucket/prod"))
    surrounded = once + "echo after\n"

    again = into(surrounded, LONG)

    assert once.startswith(SCRIPT + "\n" + BEGIN + "\n")
    assert into(once, Options(("a",), "s3://bucket/prod")) == once
    assert again == SCRIPT + "\n" + render(LONG).removeprefix("#!/bin/sh\n") + "echo after\n"


def test_an_empty_script_becomes_one_of_its_own() -> None:
    assert into(" \n", LONG) == render(LONG)
    assert render(LONG).startswith(f"#!/bin/sh\n{BEGIN}\n")
    assert render(LONG).endswith(f"{END}\n")


@pytest.mark.parametrize(
    "script", ["#cloud-config\n", "#!/usr/bin/env python3\n", "echo no shebang\n", "Content-Type: x\n"]
)
def test_what_is_no_shell_script_is_refused(script: str) -> None:
    with pytest.raises(SettingsError, match="no shell script"):
        into(script, LONG)


@pytest.mark.parametrize(
    "shebang", ["#!/bin/sh", "#!/bin/bash -xe", "#! /bin/sh", "#!/usr/bin/env bash", "#!/bin/dash"]
)
def test_any_shell_script_is_taken(shebang: str) -> None:
    assert BEGIN in into(shebang + "\n", LONG)


@pytest.mark.parametrize("marks", [[BEGIN], [END], [END, BEGIN], [BEGIN, END, BEGIN, END], [BEGIN, BEGIN, END]])
def test_marks_that_are_no_pair_are_refused(marks: list[str]) -> None:
    with pytest.raises(SettingsError, match="not one pair"):
        into("#!/bin/sh\n" + "\n".join(marks) + "\n", LONG)


def test_cloud_config_holds_the_same_block() -> None:
    text = cloud_config(LONG)

    assert text.startswith("#cloud-config\n")
    assert yaml.safe_load(text) == {"runcmd": [render(LONG).removeprefix("#!/bin/sh\n")]}


@pytest.mark.parametrize(
    "changes",
    [
        {"names": ("UPPER",)},
        {"names": ()},
        {"source": "http://x"},
        {"wait": -1},
        {"identifiers": ("a b",)},
        {"reload": "a\nb"},
        {"names": ("a", "b"), "identifiers": ("a.test",)},
    ],
)
def test_options_that_the_client_would_refuse_are_refused_here(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        Options(**({"names": ("a",), "source": "s3://bucket/prod"} | changes))


def test_the_lines_for_nginx_are_three() -> None:
    assert user_data.nginx_lines("example.com").splitlines() == [
        "listen 443 ssl;",
        "ssl_certificate     /etc/letsencrypt/live/example.com/fullchain.pem;",
        "ssl_certificate_key /etc/letsencrypt/live/example.com/privkey.pem;",
    ]


# ---- for real


@pytest.mark.live
@needs_namespaces
@pytest.mark.parametrize(
    "nginx", ["", "include /etc/letsencrypt/options-ssl-nginx.conf;\nssl_dhparam /etc/letsencrypt/ssl-dhparams.pem;"]
)
@pytest.mark.parametrize("python", [PYTHONS[0], PYTHONS[-1]])
def test_on_an_instance_the_script_installs_everything_and_does_no_harm_the_second_time(
    tmp_path: Path, nginx: str, python: str
) -> None:
    pair = issue("example.com")
    upper = {folder: tmp_path / folder.strip("/").replace("/", "-") for folder in ("/etc", "/usr/local/bin")}
    for one in upper.values():
        one.mkdir()
    (upper["/etc"] / "nginx").mkdir()
    (upper["/etc"] / "nginx" / "certkeeper-test.conf").write_text(nginx)
    (tmp_path / "systemctl").write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/calls\n')
    (tmp_path / "python3").write_text(f'#!/bin/sh\nexec {python} "$@"\n')
    for program in ("systemctl", "python3"):
        (tmp_path / program).chmod(0o755)
    (tmp_path / "roots.pem").write_text(authority().root_pem)
    options = Options(("example.com",), "s3://certs-123456789012/prod", identifiers=("example.com",), wait=5)
    (tmp_path / "script").write_text(render(options))
    mounts = ["mount -t tmpfs none /mnt"]
    for folder, one in upper.items():
        mounts += [f"mkdir /mnt/{one.name} /mnt/{one.name}-work", f"cp -a {one}/. /mnt/{one.name}"]
        mounts.append(overlay(folder, f"/mnt/{one.name}", f"/mnt/{one.name}-work"))
    runs = [f"sh -eu {tmp_path}/script"] * 2 + [f"cp -a /mnt/{one.name} {tmp_path}/after" for one in upper.values()]

    with LoopbackAws(session_token=SESSION_TOKEN) as aws:
        aws.objects["/certs-123456789012/prod/certificates/example.com"] = document_of(pair)
        environment = aws.environment(role=True) | {"SSL_CERT_FILE": str(tmp_path / "roots.pem")}
        environment["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
        (tmp_path / "after").mkdir()
        done = subprocess.run(
            ["unshare", "-rm", "sh", "-ec", "\n".join([*mounts, *runs])],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    after = tmp_path / "after"
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["installed", "unchanged"]
    client = after / "usr-local-bin" / "certkeeper-pull"
    assert (client.read_text(), client.stat().st_mode & 0o777) == (client_for(options.command), 0o755)
    letsencrypt = after / "etc" / "letsencrypt"
    assert (letsencrypt / "live" / "example.com" / "privkey.pem").read_text() == pair.private_key_pem
    assert (
        (letsencrypt / "options-ssl-nginx.conf").exists() == (letsencrypt / "ssl-dhparams.pem").exists() == bool(nginx)
    )
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls.count("reload-or-restart nginx") == 1
    assert calls.count("start nginx") == 2
    if nginx:
        pem = letsencrypt / "ssl-dhparams.pem"
        told = subprocess.run(
            ["openssl", "dhparam", "-in", pem, "-text", "-noout", "-check"], capture_output=True, text=True
        )
        assert "GROUP: ffdhe2048" in told.stdout
        assert "TLSv1.2 TLSv1.3" in (letsencrypt / "options-ssl-nginx.conf").read_text()
