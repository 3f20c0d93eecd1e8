"""The walk of a pull: fetch, prove, install, check, reload. Whatever fails, the last good pair stays."""

from __future__ import annotations

import binascii
import fcntl
import os
import sys
import time
from collections.abc import Mapping

from certkeeper.client.arguments import Options
from certkeeper.client.aws import Aws, NotYet
from certkeeper.client.install import FILES, Owner, Place
from certkeeper.client.proof import Proven, blocks, prove
from certkeeper.core.document import decode
from certkeeper.core.errors import CertkeeperError, ChainError, DocumentError, SettingsError, StoreError

_LONGEST_HOOK = 300
_FIRST_PAUSE = 1.0
_ROOTS_HINT = "update this machine's CA certificates, or give --roots"
_SECRET_SETTINGS = ("AWS_ACCESS", "AWS_BEARER", "AWS_CONTAINER", "AWS_SEC", "AWS_SESSION")


class Pull:
    """One run for all names of a command line."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.key_owner = Owner(options.owner)
        self.aws = Aws(options.region, options.bucket_owner, self.say)
        self.deadline = time.monotonic() + options.wait
        self.scratch = f"{options.into}/.certkeeper-proof"
        self.codes, self.trouble = {0}, 0
        self.told: dict[str, str] = {}
        self.places: dict[str, Place] = {}
        self.outcomes: dict[str, tuple[Proven, str]] = {}

    def run(self) -> int:
        """The exit code."""
        os.makedirs(self.options.into, 0o755, exist_ok=True)
        # Two pulls at once would trip over each other's half-written folders. Not the folder itself is locked: whoever
        # may read it could hold that lock, and pulls up for good.
        lock = os.open(f"{self.options.into}/.certkeeper-lock", os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.say("waiting for another pull")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.lexists(self.scratch):
            os.unlink(self.scratch)  # of a pull that was killed
        try:
            left, pause = self.options.names, _FIRST_PAUSE
            while left:  # names take turns: one that is not there yet does not hold up the others
                later = [name for name in left if not self._is_done(name)]
                if len(later) < len(left):
                    self._settle()
                left = later
                if left and self.options.boot and self.outcomes:
                    self.say(f"{', '.join(left)}: left to a later pull")
                    self.codes.add(1)
                    break
                if left:
                    self.aws.credentials = None  # an instance role may appear while we wait
                    time.sleep(max(0.0, min(pause, self.deadline - time.monotonic())))
                    pause = min(pause * 2, 5.0)
            self._tell()
        finally:
            self.aws.close()
            os.close(lock)
        return 1 if 1 in self.codes else max(*self.codes, self.trouble)

    def say(self, line: str) -> None:
        """A progress line."""
        if not self.options.quiet:
            print(f"certkeeper-pull: {line}", file=sys.stderr, flush=True)

    def _is_done(self, name: str) -> bool:
        """One try; False if it is worth another one."""
        held: Proven | None = None
        try:
            if name not in self.places:
                self.places[name] = Place(self.options.into, name, self.key_owner)
            place = self.places[name]
            files = place.files()
            held = self._proof_of(files)
            self.outcomes[name] = self._refreshed(place, files, held)
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

    def _proof_of(self, files: dict[str, bytes]) -> Proven | None:
        """The proof of what is on disk, None if it fails today."""
        try:
            chain = blocks(files["fullchain.pem"].decode("ascii"), "CERTIFICATE")
            return self._prove(chain, files["privkey.pem"].decode("ascii"), [])
        except (KeyError, ValueError, ChainError):
            return None

    def _prove(self, chain: list[str], private_key: str, identifiers: list[str]) -> Proven:
        options = self.options
        trusted = self.aws.trust(options.roots or None)
        return prove(chain, private_key, identifiers + options.identifiers, trusted, self.scratch)

    def _refreshed(self, place: Place, files: dict[str, bytes], held: Proven | None) -> tuple[Proven, str]:
        options, state = self.options, place.state()
        whole = held is not None and self._is_whole(place, files)
        version = str(state.get("etag", "")) if whole and state.get("from") == options.source else ""
        if options.bucket:
            above = f"{options.prefix}/" if options.prefix else ""
            fetched = self.aws.document(options.bucket, f"{above}certificates/{place.name}", version)
        else:
            fetched = self.aws.secret(f"{options.prefix}/{place.name}", version)
        if fetched is None:
            if held is None or not version:
                raise StoreError("the store answers 304 to an unconditional request")
            return held, "unchanged"
        document = decode(fetched[0], place.name)
        revision = int(str(document["revision"]))
        known = state.get("revision")
        # A revision of the far future (a clock was wrong) must not shut out all later ones.
        if held is not None and isinstance(known, int) and revision < known <= time.time() + 86400:
            raise DocumentError(
                f"the store holds revision {revision}, older than the installed {known}",
                f"if the store was set back on purpose, remove {place.state_file} and pull again",
            )
        chain = blocks(str(document["fullchain_pem"]), "CERTIFICATE")
        note: dict[str, object] = {"etag": fetched[1], "from": options.source, "revision": revision}
        if held is not None and whole and "".join(chain).encode() == files["fullchain.pem"]:
            place.note({**note, "folder": place.current()})
            return held, "unchanged"
        proven, private_key = self._opened(place, held, document, chain)
        before = place.current()
        if held is not None and not before:  # certbot's pair gets a folder of ours to come back to
            before = place.put(held.serial_number, files)
        folder = place.put(proven.serial_number, self._files(chain, private_key))
        place.set_pending(before)  # before the flip: whoever is killed after it leaves word that a reload is due
        aside = place.flip(folder)
        place.note({**note, "folder": folder})
        if aside:
            self.say(f"{place.name}: certbot's folder is kept as {aside}; certbot does not renew it any more")
        return proven, "installed"

    def _opened(
        self, place: Place, held: Proven | None, document: dict[str, object], chain: list[str]
    ) -> tuple[Proven, str]:
        try:
            sealed = binascii.a2b_base64(str(document["sealed_private_key"]))
        except ValueError:
            raise DocumentError("the document's sealed_private_key is not base64") from None
        if document["sealing"] == "kms":
            sealed = self.aws.opened(sealed, str(document["kms_key_arn"]), place.name)
        private_key = blocks(sealed.decode("latin-1"), "PRIVATE KEY")[0]
        proven = self._prove(chain, private_key, [str(one) for one in document["identifiers"]])  # type: ignore[attr-defined] # checked before
        if not proven.root_known and held is not None and held.root_known:
            raise ChainError("the new chain's root is unknown here, and the installed pair is in date", _ROOTS_HINT)
        if not self.options.identifiers:
            self.say(f"{place.name}: without --for only the document says which names it must cover")
        return proven, private_key

    def _files(self, chain: list[str], private_key: str) -> dict[str, bytes]:
        fullchain = "".join(chain)
        texts = (chain[0], "".join(chain[1:]), fullchain, private_key, fullchain + private_key)
        wanted = FILES if self.options.combined else FILES[:-1]
        return {name: text.encode("ascii") for name, text in zip(wanted, texts)}  # noqa: B905 - strict is 3.10

    def _is_whole(self, place: Place, files: dict[str, bytes]) -> bool:
        """Whether live/NAME shows a folder of ours, complete and as the options ask for it."""
        chain = blocks(files["fullchain.pem"].decode("ascii"), "CERTIFICATE")
        wanted = self._files(chain, files["privkey.pem"].decode("ascii"))
        return bool(place.current()) and place.is_owned_as_asked() and dict(files, **wanted) == files

    def _settle(self) -> None:
        """Check and reload, once for all names that have come."""
        options, waiting = self.options, [place for place in self.places.values() if place.pending() is not None]
        self.trouble = 0  # a hook that failed when fewer were there is run again
        try:
            if (
                waiting
                and (not options.check or self._passes("--check", options.check) or self._went_back(waiting))
                and (options.reload and not options.boot and self._passes("--reload", options.reload))
            ):
                for place in waiting:
                    place.clear_pending()
            for place in waiting:
                place.prune()
        except OSError as error:
            complain(error)
            self.trouble = 3

    def _went_back(self, waiting: list[Place]) -> bool:
        """Let old pairs in date return, one by one, until the check passes; who was not to blame comes again."""
        back: list[tuple[Place, str, Proven]] = []
        passes = False
        for place in waiting:
            before, after = place.pending() or "", place.current()
            held = self._proof_of(place.files(before)) if before not in ("", after) and not passes else None
            if held is not None:
                place.flip(before)
                back.append((place, after, held))
                passes = self._passes("--check", self.options.check)
        for place, after, _ in back[: len(back) - passes]:
            before = place.current()
            place.flip(after)
            if passes and not self._passes("--check", self.options.check):
                place.flip(before)
        for place, after, held in back:
            if place.current() != after:
                self.say(f"{place.name}: the check passes with the old certificate, which is back")
                self.outcomes[place.name] = (held, "kept")
                self.codes.add(3)
        return passes

    def _passes(self, option: str, command: str) -> bool:
        """Run a hook; what it writes goes to stderr."""
        import subprocess

        try:
            done = subprocess.run(
                ["/bin/sh", "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=2,
                env=public(os.environ),
                timeout=_LONGEST_HOOK,
            )
            trouble = f"failed with exit status {done.returncode}" if done.returncode else ""
        except (OSError, subprocess.TimeoutExpired):
            trouble = f"could not be run, or not within {_LONGEST_HOOK} s"
        if trouble:
            complain(CertkeeperError(f"{option} {trouble}: {command}"))
            self.trouble = 3
        return not trouble

    def _tell(self) -> None:
        for name, (proven, word) in self.outcomes.items():
            if not proven.root_known:
                complain(ChainError("a root unknown here: clients like this machine refuse it", _ROOTS_HINT), name)
                self.codes.add(3)
            until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(proven.not_after))
            if not self.options.quiet:
                print(f"{name} {word} {proven.serial_number} until {until}", flush=True)


def public(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without AWS credentials."""
    return {name: value for name, value in environment.items() if not name.startswith(_SECRET_SETTINGS)}


def complain(error: Exception, name: str = "") -> None:
    """An error and its hint, on stderr. Of one nobody foresaw only the type: its text may quote anything."""
    text = str(error) if isinstance(error, (CertkeeperError, OSError)) else f"unexpected {type(error).__name__}"
    print(f"certkeeper-pull: error: {name + ': ' if name else ''}{text}", file=sys.stderr, flush=True)
    if getattr(error, "hint", None):
        print(f"certkeeper-pull: hint: {error.hint}", file=sys.stderr, flush=True)  # type: ignore[attr-defined] # checked before
