"""The walk of a pull: fetch, prove, install, check, reload. Whatever fails, the last good pair stays."""

from __future__ import annotations

import binascii
import fcntl
import os
import sys
import time

from certkeeper.client.arguments import Options
from certkeeper.client.aws import Aws, NotYet
from certkeeper.client.install import FILES, Owner, Place
from certkeeper.client.proof import Proven, blocks, prove
from certkeeper.core.document import decode
from certkeeper.core.errors import CertkeeperError, ChainError, DocumentError, SettingsError, StoreError

_LONGEST_HOOK = 300
_FIRST_PAUSE = 1.0
_ROOTS_HINT = "update this machine's CA certificates, or give --roots"


class Way:
    """A flip that can be undone: the place, what was installed before and after it, as `Place.flip` takes it."""

    def __init__(self, place: Place, held: Proven, before: str, after: str) -> None:
        self.place, self.held, self.before, self.after = place, held, before, after


class Pull:
    """One run for all names of a command line."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.owner = Owner(options.values.get("--owner", ""))
        self.aws = Aws(options.values.get("--region", ""), options.bucket_owner, self.say)
        self.deadline = time.monotonic() + options.wait
        self.codes = {0}
        self.told: dict[str, str] = {}
        self.places: dict[str, Place] = {}
        self.outcomes: dict[str, tuple[Proven, str]] = {}
        self.ways: dict[str, Way] = {}

    def run(self) -> int:
        """The exit code."""
        os.makedirs(self.options.into, 0o755, exist_ok=True)
        lock = os.open(self.options.into, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_EX)  # two pulls at once would trip over each other's half-written folders
        try:
            left, pause = self.options.names, _FIRST_PAUSE
            while left:  # names take turns: one that is not there yet does not hold up the others
                left = [name for name in left if not self._is_done(name)]
                if left:
                    self.aws.forget_credentials()
                    time.sleep(max(0.0, min(pause, self.deadline - time.monotonic())))
                    pause = min(pause * 2, 5.0)
            self._settle()
            self._tell()
        finally:
            self.aws.close()
            for place in self.places.values():
                place.close()
            os.close(lock)
        return 1 if 1 in self.codes else max(self.codes)

    def say(self, line: str) -> None:
        """A progress line."""
        if not self.options.quiet:
            print(f"certkeeper-pull: {line}", file=sys.stderr, flush=True)

    def _is_done(self, name: str) -> bool:
        """One try; False if it is worth another one."""
        held: Proven | None = None
        try:
            if name not in self.places:
                self.places[name] = Place(self.options.into, name, self.owner)
            place = self.places[name]
            held = self._proof_of(place, place.files())
            self.outcomes[name] = self._refreshed(place, held)
            return True
        except SettingsError:
            raise
        except Exception as error:  # noqa: BLE001 - one name's failure never holds up another
            left = self.deadline - time.monotonic()
            if isinstance(error, NotYet) and held is None and left > 0:
                if str(error) != self.told.get(name):
                    self.say(f"{name}: not yet ({error}); waiting up to {left:.0f} s")
                self.told[name] = str(error)
                return False
            complain(error, name)
        if held is None:
            self.codes.add(1)
        else:
            self.outcomes[name] = (held, "kept")
            self.say(f"{name}: the installed certificate stays")
        return True

    def _proof_of(self, place: Place, files: dict[str, bytes]) -> Proven | None:
        """The proof of what is on disk, None if it fails today."""
        try:
            chain = blocks(files["fullchain.pem"].decode("ascii"), "CERTIFICATE")
            private_key = files["privkey.pem"].decode("ascii")
            return prove(chain, private_key, self.options.identifiers, self.options.roots, place.scratch)
        except (KeyError, ValueError, ChainError):
            return None

    def _refreshed(self, place: Place, held: Proven | None) -> tuple[Proven, str]:
        files, state = place.files(), place.state()
        whole = held is not None and self._is_whole(place, files)
        etag = str(state.get("etag", "")) if whole and state.get("from") == self.options.source else ""
        object_key = f"{self.options.prefix}/certificates/{place.name}".lstrip("/")
        fetched = self.aws.document(self.options.bucket, object_key, etag)
        if fetched is None:
            if held is None or not etag:
                raise StoreError("the store answers 304 to an unconditional request")
            return held, "unchanged"
        document = decode(fetched[0], place.name)
        revision = int(str(document["revision"]))
        known = state.get("revision")
        # A revision of the far future (a clock was wrong) must not shut out all later ones.
        if held is not None and isinstance(known, int) and revision < known <= time.time() + 86400:
            raise DocumentError(
                f"the store holds revision {revision}, older than the installed {known}",
                "was the store set back? `certkeeper rollback` makes an older certificate a new revision",
            )
        chain = blocks(str(document["fullchain_pem"]), "CERTIFICATE")
        note: dict[str, object] = {"etag": fetched[1], "from": self.options.source, "revision": revision}
        if held is not None and whole and "".join(chain).encode() == files["fullchain.pem"]:
            place.note(dict(note, folder=place.current()))
            return held, "unchanged"
        return self._installed(place, held, document, chain, note), "installed"

    def _installed(
        self, place: Place, held: Proven | None, document: dict[str, object], chain: list[str], note: dict[str, object]
    ) -> Proven:
        try:
            sealed = binascii.a2b_base64(str(document["sealed_private_key"]))
        except ValueError:
            raise DocumentError("the document's sealed_private_key is not base64") from None
        if document["sealing"] == "kms":
            sealed = self.aws.opened(sealed, str(document["kms_key_arn"]), place.name)
        private_key = blocks(sealed.decode("latin-1"), "PRIVATE KEY")[0]
        identifiers = [*document["identifiers"], *self.options.identifiers]  # type: ignore[misc]
        proven = prove(chain, private_key, identifiers, self.options.roots, place.scratch)
        if not proven.root_known and held is not None and held.root_known:
            raise ChainError("the new chain's root is unknown here, and the installed pair is in date", _ROOTS_HINT)
        if not self.options.identifiers:
            self.say(f"{place.name}: without --for only the document says which names it must cover")
        folder = place.put(proven.serial_number, self._files(chain, private_key))
        place.note(dict(note, folder=folder))
        place.set_pending()  # before the flip: whoever is killed after it leaves word that a reload is due
        before = place.flip(folder)
        if before.startswith("/"):
            self.say(f"{place.name}: certbot's folder is kept as live{before}; certbot does not renew it any more")
        if before and held is not None:
            self.ways[place.name] = Way(place, held, before, folder)
        return proven

    def _files(self, chain: list[str], private_key: str) -> dict[str, bytes]:
        fullchain = "".join(chain)
        texts = (chain[0], "".join(chain[1:]), fullchain, private_key, fullchain + private_key)
        wanted = FILES if "--combined" in self.options.values else FILES[:-1]
        return {name: text.encode("ascii") for name, text in zip(wanted, texts)}  # noqa: B905 - strict is 3.10

    def _is_whole(self, place: Place, files: dict[str, bytes]) -> bool:
        """Whether live/NAME shows a folder of ours, complete and as the options ask for it."""
        chain = blocks(files["fullchain.pem"].decode("ascii"), "CERTIFICATE")
        wanted = self._files(chain, files["privkey.pem"].decode("ascii"))
        return bool(place.current()) and place.is_owned_as_asked() and dict(files, **wanted) == files

    def _settle(self) -> None:
        """Check and reload, once for all names."""
        waiting = [place for place in self.places.values() if place.pending() is not None]
        check, reload = self.options.values.get("--check", ""), self.options.values.get("--reload", "")
        try:
            good = bool(waiting) and (self._passes("--check", check) or self._went_back(waiting, check))
            if good and reload and self._passes("--reload", reload):
                for place in waiting:
                    place.clear_pending()
            for place in waiting:
                place.prune()
        except OSError as error:
            complain(error)
            self.codes.add(3)

    def _went_back(self, waiting: list[Place], check: str) -> bool:
        """Let old pairs in date return, one by one, until the check passes; who was not to blame comes again."""
        for place in waiting:  # a mark without a flip of ours: an earlier pull was killed, or its reload failed
            before = place.pending() or ""
            held = self._proof_of(place, place.files(before)) if before not in ("", place.current()) else None
            if held is not None:
                self.ways.setdefault(place.name, Way(place, held, before, place.current()))
        back: list[Way] = []
        for way in self.ways.values():
            back.append(way)
            way.place.flip(way.before)
            if self._passes("--check", check):
                break
        else:
            for way in back:
                way.place.flip(way.after)
            return False
        for way in back[:-1]:
            way.place.flip(way.after)
            if not self._passes("--check", check):
                way.place.flip(way.before)
        for way in back:
            if way.place.current() != way.after:
                self.say(f"{way.place.name}: the check passes with the old certificate, which is back")
                self.outcomes[way.place.name] = (way.held, "kept")
        return True

    def _passes(self, option: str, command: str) -> bool:
        """Run a hook; what it writes goes to stderr."""
        if not command:
            return True
        import subprocess

        hidden = ("KEY", "TOKEN", "SECRET")
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("AWS_") or not any(word in name for word in hidden)
        }
        try:
            done = subprocess.run(
                ["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, stdout=2, env=environment, timeout=_LONGEST_HOOK
            )
            trouble = f"failed with exit status {done.returncode}" if done.returncode else ""
        except (OSError, subprocess.TimeoutExpired):
            trouble = f"could not be run, or not within {_LONGEST_HOOK} s"
        if trouble:
            complain(CertkeeperError(f"{option} {trouble}: {command}"))
            self.codes.add(3)
        return not trouble

    def _tell(self) -> None:
        for name, (proven, word) in self.outcomes.items():
            if not proven.root_known:
                complain(ChainError("a root unknown here: clients like this machine refuse it", _ROOTS_HINT), name)
                self.codes.add(3)
            until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(proven.not_after))
            if not self.options.quiet:
                print(f"{name} {word} {proven.serial_number} until {until}", flush=True)


def complain(error: Exception, name: str = "") -> None:
    """An error and its hint, on stderr. Of one nobody foresaw only the type: its text may quote anything."""
    text = str(error) if isinstance(error, (CertkeeperError, OSError)) else f"unexpected {type(error).__name__}"
    print(f"certkeeper-pull: error: {name + ': ' if name else ''}{text}", file=sys.stderr, flush=True)
    if getattr(error, "hint", None):
        print(f"certkeeper-pull: hint: {error.hint}", file=sys.stderr, flush=True)  # type: ignore[attr-defined]
