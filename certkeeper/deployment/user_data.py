"""User data for launch templates: a shell script with the whole boot client inside, or a marked block of one.

The script needs /bin/sh and python3 (3.9 or later), and downloads nothing. Run twice it does the same again.
"""

from __future__ import annotations

import gzip
import lzma
import re
import shlex
from dataclasses import dataclass, field
from functools import cache

from certkeeper import __version__
from certkeeper.client import arguments
from certkeeper.core.errors import SettingsError
from certkeeper.deployment.one_file import shrunk

BEGIN, END = "# >>> certkeeper >>>", "# <<< certkeeper <<<"
PROGRAM = "/usr/local/bin/certkeeper-pull"
INTO = "/etc/letsencrypt"
LARGEST = 16 * 1024  # what EC2 takes, before base64

# Runs on the instance: `client` is the client's text, the command line is what it takes.
_SET_UP = f"""\
import os,sys
os.umask(18)
def write(path,text,mode=420):
 os.makedirs(os.path.dirname(path),exist_ok=True)
 with open(path+".new","w")as file:file.write(text)
 os.chmod(path+".new",mode)
 os.replace(path+".new",path)
write("{PROGRAM}",client,493)
def missing(name):
 global path
 path="/etc/letsencrypt/"+name
 return not os.path.exists(path)and os.system("grep -rqs %s /etc/nginx"%path)==0
if missing("options-ssl-nginx.conf"):write(path,'''ssl_session_cache shared:le_nginx_SSL:10m;
ssl_session_timeout 1440m;
ssl_session_tickets off;
ssl_protocols TLSv1.2 TLSv1.3;
ssl_prefer_server_ciphers off;
ssl_ciphers ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20;
''')
if missing("ssl-dhparams.pem"):
 import base64,decimal
 decimal.getcontext().prec=600
 e=int(decimal.Decimal(1).exp()*2**1918)
 p=2**2048-2**1984+(e+560316<<64)-1 # RFC 7919: ffdhe2048
 der=bytes.fromhex("308201080282010100%x020102"%p)
 write(path,"-----BEGIN DH PARAMETERS-----\\n%s-----END DH PARAMETERS-----\\n"%base64.encodebytes(der).decode())
sys.argv[0]="{PROGRAM}"
exec(client,dict(__name__="__main__"))
"""
# The text's letters are the digits of a number: all from " to ~, without $ and %, and ! for { since templates read
# `{{`, `${` and `%{`. No shell reads anything into them behind a quoted `<<`, and YAML's blocks neither.
_FIRST, _AROUND, _DIGITS = ord("&"), 93, 91
_FILTERS = [{"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "lc": 3, "lp": 0, "pb": 0, "nice_len": 64}]
_UNIT = re.compile(r"systemctl (?:reload|restart|reload-or-restart|try-reload-or-restart) ([\w@.-]+)")


@dataclass(frozen=True)
class Options:
    """What the instance is to pull, and how. Raises SettingsError."""

    names: tuple[str, ...]
    source: str
    into: str = INTO
    identifiers: tuple[str, ...] = ()
    reload: str = "systemctl reload-or-restart nginx"
    wait: int = 300
    region: str = ""
    bucket_owner: str = ""
    no_timer: bool = False
    command: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        if len(self.names) > 1 and self.identifiers:
            hint = "make user data for one NAME, or leave --for away: then each document says what it must cover"
            raise SettingsError("every certificate would have to cover every --for name", hint)
        words = [*self.names, "--from", self.source, "--into", self.into, "--wait", str(self.wait)]
        for identifier in self.identifiers:
            words += ["--for", identifier]
        given = {"--reload": self.reload, "--region": self.region, "--bucket-owner": self.bucket_owner}
        for option, value in given.items():
            words += [option, value] if value else []
        words += [] if self.no_timer else ["--install-timer"]
        if any(not word.isprintable() for word in words):
            raise SettingsError("user data cannot hold control characters", "leave them out of --reload and of names")
        arguments.Options(words)
        object.__setattr__(self, "command", tuple(words))


def render(options: Options) -> str:
    """The user data: a script of its own."""
    return into("", options)


def into(script: str, options: Options) -> str:
    """A script with our block in it: in place of the marked one, else at its end. Raises SettingsError."""
    block = _block(options)
    if not script.strip():
        return f"#!/bin/sh\n{block}"
    if not re.match(r"#! ?/\S*(?:/| )(?:ba|da|k|z|a)?sh\b", script):
        raise SettingsError(
            "this is no shell script: its first line is not like #!/bin/sh",
            "cloud-init runs nothing else as user data of this kind; for #cloud-config take the cloud-config form",
        )
    lines = script.splitlines(keepends=True)
    marks = [(line.strip(), number) for number, line in enumerate(lines) if line.strip() in (BEGIN, END)]
    if not marks:
        return script + ("" if script.endswith("\n") else "\n") + block
    if [mark for mark, _ in marks] != [BEGIN, END]:
        raise SettingsError("the marks of our block are not one pair", f"leave one {BEGIN} and after it one {END}")
    return "".join([*lines[: marks[0][1]], block, *lines[marks[1][1] + 1 :]])


def cloud_config(options: Options) -> str:
    """The same as #cloud-config, to be run last at the first boot."""
    lines = _block(options).splitlines()
    return "#cloud-config\nruncmd:\n- |\n" + "".join(f" {line}\n" for line in lines)


def compressed(user_data: str) -> bytes:
    """User data as cloud-init reads it as well, and smaller: where the text does not fit into EC2's limit."""
    return gzip.compress(user_data.encode(), 9, mtime=0)


def nginx_lines(name: str) -> str:
    """The three lines that a server block for port 80 alone needs."""
    return (
        "listen 443 ssl;\n"
        f"ssl_certificate     {INTO}/live/{name}/fullchain.pem;\n"
        f"ssl_certificate_key {INTO}/live/{name}/privkey.pem;\n"
    )


def _block(options: Options) -> str:
    said = " ".join(shlex.quote(word) for word in (*options.names, "--from", options.source))
    command = "" if options.no_timer else " --install-timer"
    unit = _UNIT.fullmatch(options.reload)
    started = f"systemctl start {unit[1]} || :\n" if unit else ""
    unpack, payload = _packed(options.command)
    return (
        f"{BEGIN}\n# certkeeper {__version__}: {said}\n"
        f"python3 -I -S -c '{unpack}'{command} <<'ck' || echo certkeeper-pull: exit status $? >&2\n"
        f"{payload}\nck\n{started}{END}\n"
    )


@cache
def _packed(words: tuple[str, ...]) -> tuple[str, str]:
    """A Python program that reads a line, unpacks it and runs it; and that line."""
    packed = lzma.compress(f"{shrunk(words)}\0{_SET_UP}".encode(), lzma.FORMAT_ALONE, filters=_FILTERS)
    unpack = f"""\
import lzma
n=0
for c in input().replace("!","{{"):n=n*{_DIGITS}+(ord(c)-{_FIRST})%{_AROUND}
client,set_up=lzma.decompress(n.to_bytes({len(packed)},"big")).decode().split("\\0")
exec(set_up)"""
    number, text = int.from_bytes(packed, "big"), ""
    while number:
        number, digit = divmod(number, _DIGITS)
        text += chr(_FIRST + digit - _AROUND * (digit > ord("~") - _FIRST))
    return unpack, text[::-1].replace("{", "!")
