"""Put a proven pair on disk and flip one symlink.

    INTO/archive/NAME/SERIAL-HASH/{cert,chain,fullchain,privkey}.pem
    INTO/live/NAME -> ../archive/NAME/SERIAL-HASH

A folder of the archive is written under another name first, and never changed afterwards.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from contextlib import suppress

from certkeeper.core.document import LARGEST, parse_object
from certkeeper.core.errors import CertkeeperError, DocumentError, SettingsError

FILES = ("cert.pem", "chain.pem", "fullchain.pem", "privkey.pem", "combined.pem")
_SECRET = ("privkey.pem", "combined.pem")
_STAGING, _SCRATCH, _NEW = ".staging", ".proof", ".new"
_MARK, _STATE = "reload-pending", "state.json"
_ASIDE = ".before-certkeeper"
_KEPT = 3


class Owner:
    """Who may read the private key: root alone, a user, or a group as well."""

    def __init__(self, text: str) -> None:
        self.user = self.group = -1
        self.key_mode, self.folder_mode, self.parent_mode = 0o600, 0o700, 0o700
        if text:
            self._look_up(*text.partition(":"))

    def _look_up(self, user: str, colon: str, group: str) -> None:
        import grp
        import pwd

        try:
            entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
            self.user, self.group = entry.pw_uid, entry.pw_gid
            if colon:
                self.group = int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
        except (KeyError, ValueError, OverflowError):
            raise SettingsError("--owner: there is no such user or group") from None
        self.key_mode, self.folder_mode, self.parent_mode = 0o640 if colon else 0o600, 0o750, 0o711


class Folder:
    """An open folder. Nothing here follows a link out of it; what is written or renamed is durable."""

    def __init__(self, path: str, opened: int) -> None:
        self.path, self.opened = path, opened

    def inner(self, name: str, mode: int, group: int = -1) -> Folder:
        """A folder in it, made if need be, opened up as far as asked for, never narrowed."""
        try:
            os.mkdir(name, 0o700, dir_fd=self.opened)
            os.fsync(self.opened)
        except FileExistsError:
            pass
        path = os.path.join(self.path, name)
        try:
            opened = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=self.opened)
        except OSError:
            raise CertkeeperError(
                f"{path} is a link or not a folder", "nothing is written through it; move it away"
            ) from None
        now = os.fstat(opened)
        if group >= 0 and now.st_gid != group:
            os.fchown(opened, -1, group)
        if mode & ~now.st_mode:
            os.fchmod(opened, stat.S_IMODE(now.st_mode) | mode)
        return Folder(path, opened)

    def kind(self, name: str) -> str:
        """ "link", "folder", "file", or "" if there is nothing of this name."""
        try:
            mode = os.lstat(name, dir_fd=self.opened).st_mode
        except FileNotFoundError:
            return ""
        return "link" if stat.S_ISLNK(mode) else "folder" if stat.S_ISDIR(mode) else "file"

    def read(self, path: str) -> bytes:
        """A regular file's bytes. Raises OSError."""
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK, dir_fd=self.opened)
        try:
            return os.read(file, LARGEST) if stat.S_ISREG(os.fstat(file).st_mode) else b""
        finally:
            os.close(file)

    def write(self, name: str, data: bytes, mode: int = 0o600, owner: tuple[int, int] = (-1, -1)) -> None:
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=self.opened)
        try:
            while data:
                data = data[os.write(file, data) :]
            if owner != (-1, -1):
                os.fchown(file, *owner)
            os.fchmod(file, mode)
            os.fsync(file)
        finally:
            os.close(file)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new, src_dir_fd=self.opened, dst_dir_fd=self.opened)
        os.fsync(self.opened)

    def swap(self, one: str, other: str) -> bool:
        """Exchange two names in one atomic step; False where the C library or the file system cannot."""
        import ctypes

        try:
            renameat2 = ctypes.CDLL(None).renameat2
        except (OSError, AttributeError):
            return False
        swapped = renameat2(self.opened, one.encode(), self.opened, other.encode(), 2) == 0  # 2: RENAME_EXCHANGE
        os.fsync(self.opened)
        return bool(swapped)

    def remove(self, name: str) -> None:
        if self.kind(name) != "folder":
            os.unlink(name, dir_fd=self.opened)
        else:
            inner = self.inner(name, 0)
            for one in os.listdir(inner.opened):
                os.unlink(one, dir_fd=inner.opened)
            inner.close()
            os.rmdir(name, dir_fd=self.opened)
        os.fsync(self.opened)

    def close(self) -> None:
        os.close(self.opened)


class Place:
    """Where one name is installed."""

    def __init__(self, into: str, name: str, owner: Owner) -> None:
        self.name, self.owner = name, owner
        self.root = Folder(into, os.open(into, os.O_RDONLY | os.O_DIRECTORY))
        self.live = self.root.inner("live", owner.parent_mode)
        parent = self.root.inner("archive", owner.parent_mode)
        self.archive = parent.inner(name, owner.folder_mode, owner.group)
        parent.close()
        self.scratch = os.path.join(self.archive.path, _SCRATCH)
        self.new = f".{name}{_NEW}"
        self._clear_leftovers()
        if self.live.kind(name) == "file" or (self.live.kind(name) == "link" and not self.current()):
            raise CertkeeperError(f"{into}/live/{name} is neither ours nor a folder of certbot's", "move it away")

    def close(self) -> None:
        for folder in (self.archive, self.live, self.root):
            folder.close()

    def files(self, folder: str = "") -> dict[str, bytes]:
        """What live/NAME shows (ours or certbot's), or a folder of the archive; without what cannot be read."""
        found = {}
        for file in FILES:
            with suppress(OSError):
                place = self.archive if folder else self.live
                found[file] = place.read(f"{folder or self.name}/{file}")
        return found

    def current(self) -> str:
        """The folder of the archive that live/NAME points at, "" if it does not."""
        try:
            target = os.readlink(self.name, dir_fd=self.live.opened)
        except OSError:
            return ""
        folder = target.rpartition("/")[2]
        return folder if target == f"../archive/{self.name}/{folder}" and _is_ours(folder) else ""

    def is_owned_as_asked(self) -> bool:
        now = os.stat(f"{self.name}/privkey.pem", dir_fd=self.live.opened)
        wanted = (self.owner.user, self.owner.group, self.owner.key_mode)
        return self.owner.user < 0 or (now.st_uid, now.st_gid, stat.S_IMODE(now.st_mode)) == wanted

    def state(self) -> dict[str, object]:
        """What a pull noted about the folder that is current; empty if it is not about that one."""
        try:
            state = parse_object(self.archive.read(_STATE))
        except (OSError, DocumentError):
            return {}
        return state if state.get("folder") == self.current() else {}

    def note(self, state: dict[str, object]) -> None:
        self.archive.write(_NEW, json.dumps(state, sort_keys=True).encode() + b"\n")
        self.archive.rename(_NEW, _STATE)

    def put(self, serial_number: str, files: dict[str, bytes]) -> str:
        """Write a folder of the archive; one that is there with the same contents is taken as it is."""
        together = b"".join(name.encode() + b"\0" + files[name] for name in sorted(files))
        first = folder = f"{serial_number}-{hashlib.sha256(together).hexdigest()[:12]}"
        count = 1
        while self.archive.kind(folder):
            if self.owner.user < 0 and self.archive.kind(folder) == "folder" and self.files(folder) == files:
                return folder
            count += 1
            folder = f"{first}-{count}"
        staging = self.archive.inner(_STAGING, 0o700)
        for name, data in files.items():
            mode = self.owner.key_mode if name in _SECRET else 0o644
            staging.write(name, data, mode, (self.owner.user, self.owner.group))
        os.fsync(staging.opened)
        staging.close()
        self.archive.inner(_STAGING, self.owner.folder_mode, self.owner.group).close()  # opened up last
        self.archive.rename(_STAGING, folder)
        return folder

    def flip(self, target: str) -> str:
        """Make live/NAME show a folder of the archive, in one atomic step.

        Returns the target that undoes it: a folder of the archive, "/" and the new name of certbot's folder, or "".
        """
        before = self.current()
        if target.startswith("/"):
            if self.live.swap(target[1:], self.name):
                self.live.remove(target[1:])
            else:
                self.live.remove(self.name)
                self.live.rename(target[1:], self.name)
            self._rename_settings(_ASIDE, "")
            return before
        os.symlink(f"../archive/{self.name}/{target}", self.new, dir_fd=self.live.opened)
        if self.live.kind(self.name) != "folder":
            self.live.rename(self.new, self.name)
            return before
        # certbot's settings go first: it must not renew into a folder that is not its own any more.
        self._rename_settings("", _ASIDE)
        if self.live.swap(self.new, self.name):
            return "/" + self._set_aside(self.new)
        # For an instant there is nothing at live/NAME; where that hits a crash, the next pull mends it.
        aside = self._set_aside(self.name)
        self.live.rename(self.new, self.name)
        return "/" + aside

    def pending(self) -> str | None:
        """What was current before a flip nobody has reloaded after ("": nothing); None if there is no such flip."""
        try:
            folder = self.archive.read(_MARK).decode("latin-1").strip()
        except OSError:
            return None
        return folder if _is_ours(folder) else ""

    def set_pending(self) -> None:
        self.archive.write(_NEW, self.current().encode() + b"\n")
        self.archive.rename(_NEW, _MARK)

    def clear_pending(self) -> None:
        self.archive.remove(_MARK)

    def prune(self) -> None:
        """Keep three folders: what is current, what it may return to, and the newest of the others."""
        staying = {self.current(), self.pending() or ""} - {""}
        others = [one for one in os.listdir(self.archive.opened) if _is_ours(one) and one not in staying]
        others.sort(key=lambda one: os.lstat(one, dir_fd=self.archive.opened).st_mtime_ns, reverse=True)
        for folder in others[_KEPT - len(staying) :]:
            with suppress(OSError):
                self.archive.remove(folder)

    def _set_aside(self, name: str) -> str:
        count, aside = 1, self.name + _ASIDE
        while self.live.kind(aside):
            count += 1
            aside = f"{self.name}{_ASIDE}-{count}"
        self.live.rename(name, aside)
        return aside

    def _rename_settings(self, old: str, new: str) -> None:
        if self.root.kind("renewal") == "folder":
            renewal = self.root.inner("renewal", 0)
            if renewal.kind(f"{self.name}.conf{old}"):
                renewal.rename(f"{self.name}.conf{old}", f"{self.name}.conf{new}")
            renewal.close()

    def _clear_leftovers(self) -> None:
        """What a pull that was killed left behind."""
        for leftover in (_STAGING, _SCRATCH, _NEW):
            if self.archive.kind(leftover):
                self.archive.remove(leftover)
        if self.live.kind(self.new) == "folder":  # certbot's, already exchanged
            self._set_aside(self.new)
        elif self.live.kind(self.new):
            self.live.remove(self.new)


def _is_ours(folder: str) -> bool:
    """Whether a name in the archive is of the form that `put` gives."""
    parts = folder.split("-")
    hexadecimal = all(part and set(part) <= set("0123456789abcdef") for part in parts)
    return hexadecimal and len(parts) in (2, 3) and len(parts[1]) == 12
