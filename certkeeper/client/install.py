"""Put a proven pair on disk and flip one symlink.

    INTO/archive/NAME/SERIAL-HASH/{cert,chain,fullchain,privkey}.pem
    INTO/live/NAME -> ../archive/NAME/SERIAL-HASH

A folder of the archive is written under another name first, and never changed afterwards. Only root can write in
INTO, so its paths are looked at once; what is written or renamed is durable before the next step.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat

from certkeeper.core.document import LARGEST, parse_object
from certkeeper.core.errors import CertkeeperError, DocumentError, SettingsError

FILES = ("cert.pem", "chain.pem", "fullchain.pem", "privkey.pem", "combined.pem")
_SECRET = FILES[3:]
_DIGITS = frozenset("0123456789abcdef")
_ASIDE = ".before-certkeeper"
_KEPT = 3
_SELINUX = "/sys/fs/selinux/enforce"  # there if it is on


class Owner:
    """Who may read the private key: root alone, a user, or a group as well."""

    def __init__(self, text: str) -> None:
        self.user = self.group = -1
        self.key_mode, self.folder_mode, self.parent_mode = 0o600, 0o700, 0o700
        if text:
            import grp
            import pwd

            user, colon, group = text.partition(":")
            try:
                self.user, self.group = pwd.getpwnam(user)[2:4]
                if colon:
                    self.group = grp.getgrnam(group)[2]
            except (KeyError, ValueError):
                raise SettingsError("--owner: there is no such user or group") from None
            self.key_mode, self.folder_mode, self.parent_mode = 0o640 if colon else 0o600, 0o750, 0o711


class Place:
    """Where one name is installed."""

    def __init__(self, into: str, name: str, owner: Owner) -> None:
        self.name, self.owner = name, owner
        self.live, self.archive = f"{into}/live/{name}", f"{into}/archive/{name}"
        self.settings = f"{into}/renewal/{name}.conf"
        self.new, self.staging = f"{into}/live/.{name}.new", f"{self.archive}/.staging"
        self.state_file, self.mark = f"{self.archive}/state.json", f"{self.archive}/reload-pending"
        for folder in (f"{into}/live", f"{into}/archive", self.archive):
            if os.path.lexists(folder) and not _is_folder(folder):
                raise CertkeeperError(f"{folder} is a link or not a folder", "move it away")
        if os.path.lexists(self.live) and not self.current() and not _is_folder(self.live):
            raise CertkeeperError(f"{self.live} is neither ours nor a folder of certbot's", "move it away")
        # What a pull that was killed left behind.
        for leftover in (self.staging, f"{self.archive}/.new"):
            _remove(leftover)
        if _is_folder(self.new):  # certbot's, already exchanged
            self._set_aside(self.new)
        _remove(self.new)

    def files(self, folder: str = "") -> dict[str, bytes]:
        """What live/NAME shows (ours or certbot's), or a folder of the archive; without what cannot be read."""
        found = {}
        for file in FILES:
            try:
                found[file] = _read(f"{self.archive}/{folder}/{file}" if folder else f"{self.live}/{file}")
            except OSError:
                pass
        return found

    def current(self) -> str:
        """The folder of the archive that live/NAME points at, "" if it does not."""
        try:
            target = os.readlink(self.live)
        except OSError:
            return ""
        folder = target.rpartition("/")[2]
        return folder if target == f"../archive/{self.name}/{folder}" and _is_ours(folder) else ""

    def is_owned_as_asked(self) -> bool:
        now = os.stat(f"{self.live}/privkey.pem")
        wanted = (self.owner.user, self.owner.group, self.owner.key_mode)
        return self.owner.user < 0 or (now.st_uid, now.st_gid, stat.S_IMODE(now.st_mode)) == wanted

    def state(self) -> dict[str, object]:
        """What a pull noted about the folder that is current; empty if it is not about that one."""
        try:
            state = parse_object(_read(self.state_file))
        except (OSError, DocumentError):
            return {}
        return state if state.get("folder") == self.current() else {}

    def note(self, state: dict[str, object]) -> None:
        """Not made durable, nor an error: what is lost, torn or not written costs one more request."""
        try:
            _write(f"{self.archive}/.new", json.dumps(state).encode(), durable=False)
            os.rename(f"{self.archive}/.new", self.state_file)
        except OSError:
            pass

    def put(self, serial_number: str, files: dict[str, bytes]) -> str:
        """Write a new folder of the archive."""
        owner, parent = self.owner, os.path.dirname(self.archive)
        for folder in (os.path.dirname(parent), os.path.dirname(self.live), parent):
            _make_folder(folder, owner.parent_mode)
        _make_folder(self.archive, owner.folder_mode, owner.group)
        together = b"".join(name.encode() + b"\0" + files[name] for name in sorted(files))
        folder = ""
        while not folder or os.path.lexists(f"{self.archive}/{folder}"):
            folder = f"{serial_number}-{hashlib.sha256(together).hexdigest()[:12]}"
            together += b"again"
        _make_folder(self.staging, 0o700)
        for name, data in files.items():
            _write(f"{self.staging}/{name}", data, owner.key_mode if name in _SECRET else 0o644, owner)
        _make_folder(self.staging, owner.folder_mode, owner.group)  # opened up last
        _label(self.archive, os.path.dirname(self.live))
        _sync(self.staging)
        _rename(self.staging, f"{self.archive}/{folder}")
        return folder

    def flip(self, folder: str) -> str:
        """Make live/NAME show a folder of the archive, in one atomic step; returns where certbot's is kept, or ""."""
        os.symlink(f"../archive/{self.name}/{folder}", self.new)
        aside = ""
        if _is_folder(self.live):
            # certbot's settings go first: it must not renew into a folder that is not its own any more.
            if os.path.lexists(self.settings):
                _rename(self.settings, self.settings + _ASIDE)
            if swap(self.new, self.live):
                return self._set_aside(self.new)
            # For an instant there is nothing at live/NAME; where that hits a crash, the next pull mends it.
            aside = self._set_aside(self.live)
        _rename(self.new, self.live)
        return aside

    def pending(self) -> str | None:
        """What was current before a flip nobody has reloaded after ("": nothing); None if there is no such flip."""
        try:
            folder = _read(self.mark).decode("latin-1").strip()
        except OSError:
            return None
        return folder if _is_ours(folder) else ""

    def set_pending(self, before: str) -> None:
        _write(f"{self.archive}/.new", before.encode() + b"\n")
        _rename(f"{self.archive}/.new", self.mark)

    def clear_pending(self) -> None:
        _remove(self.mark)

    def prune(self) -> None:
        """Keep three folders: what is current, what it may return to, and the newest of the others."""
        staying = {self.current(), self.pending() or ""} - {""}
        others = [f"{self.archive}/{one}" for one in os.listdir(self.archive) if _is_ours(one) and one not in staying]
        others.sort(key=lambda one: os.lstat(one).st_mtime_ns, reverse=True)
        for folder in others[_KEPT - len(staying) :]:
            _remove(folder)

    def _set_aside(self, path: str) -> str:
        aside = self.live + _ASIDE
        while os.path.lexists(aside):
            aside += "-"
        _rename(path, aside)
        return aside


def swap(one: str, other: str) -> bool:
    """Exchange two paths in one atomic step; False where the C library or the file system cannot."""
    try:
        import ctypes

        here = -100  # AT_FDCWD, not looked at for an absolute path; 2 is RENAME_EXCHANGE
        swapped = ctypes.CDLL(None).renameat2(here, one.encode(), here, other.encode(), 2) == 0
    except (ImportError, MemoryError, OSError, AttributeError):
        return False
    _sync(os.path.dirname(other))
    return bool(swapped)


def _is_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _is_ours(folder: str) -> bool:
    """Whether a name in the archive is of the form that `put` gives."""
    serial_number, _, digest = folder.partition("-")
    return serial_number != "" and len(digest) == 12 and set(serial_number + digest) <= _DIGITS


def _make_folder(path: str, mode: int, group: int = -1) -> None:
    """Made if need be, opened up as far as asked for, never narrowed."""
    if not os.path.isdir(path):
        os.mkdir(path, 0o700)
        _sync(os.path.dirname(path))
    now = os.stat(path)
    if group >= 0 and now.st_gid != group:
        os.chown(path, -1, group)
    if mode & ~now.st_mode:
        os.chmod(path, now.st_mode | mode)


def _read(path: str) -> bytes:
    """A regular file's bytes. Raises OSError."""
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(file, LARGEST) if stat.S_ISREG(os.fstat(file).st_mode) else b""
    finally:
        os.close(file)


def _write(path: str, data: bytes, mode: int = 0o600, owner: Owner | None = None, durable: bool = True) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        while data:
            data = data[os.write(file, data) :]
        if owner is not None and owner.user >= 0:
            os.fchown(file, owner.user, owner.group)
        os.fchmod(file, mode)
        if durable:
            os.fsync(file)
    finally:
        os.close(file)


def _sync(folder: str) -> None:
    opened = os.open(folder, os.O_RDONLY)
    os.fsync(opened)
    os.close(opened)


def _rename(old: str, new: str) -> None:
    os.rename(old, new)
    _sync(os.path.dirname(new))


def _label(*folders: str) -> None:
    """Give everything in folders the context that SELinux's policy has for its place, where there is SELinux."""
    if os.path.exists(_SELINUX):
        import subprocess

        environment = {"PATH": os.environ.get("PATH", os.defpath)}
        try:
            subprocess.run(["restorecon", "-R", *folders], stdin=subprocess.DEVNULL, stdout=2, env=environment)
        except OSError:
            pass  # what is new has its folder's context, which is as good as can be


def _remove(path: str) -> None:
    """A file, a link or a folder of files, if it is there."""
    if _is_folder(path):
        for one in os.listdir(path):
            os.unlink(f"{path}/{one}")
        os.rmdir(path)
    elif os.path.lexists(path):
        os.unlink(path)
    else:
        return
    _sync(os.path.dirname(path))
