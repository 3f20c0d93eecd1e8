"""Where settings stand, and changing them there: a file with what it includes, or the object in the store."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from certkeeper import config, wiring
from certkeeper.cli import edits
from certkeeper.cli.loading import settings_path
from certkeeper.cli.terminal import replace_file, talk
from certkeeper.core.errors import Conflict, SettingsError
from certkeeper.core.ports import Records

Change = Callable[[str, str], str]
"""From a text and the name of its file to the changed text."""


@dataclass(frozen=True)
class Files:
    """certkeeper.toml and what it includes."""

    texts: Mapping[str, str]

    @property
    def main(self) -> str:
        return next(iter(self.texts))

    def settings(self) -> config.Settings:
        """Raises Faults."""
        (file, text), *included = self.texts.items()
        return config.parse(text, file, dict(included))

    def naming(self, name: str) -> str | None:
        """The file that names a certificate."""
        return next((file for file, text in self.texts.items() if name in edits.names(text)), None)

    def changed(self, file: str, change: Change) -> Files:
        """With one file changed and all of them found good; nothing is written yet. Raises SettingsError."""
        after = Files({**self.texts, file: change(self.texts[file], file)})
        after.settings()
        return after

    def write(self, before: Files) -> None:
        """Raises SettingsError."""
        for file, text in self.texts.items():
            if text != before.texts[file]:
                replace_file(Path(file), text.encode())
                talk(f"changed {file}")


@dataclass(frozen=True)
class Stored:
    """`settings.toml` in the store, at the version that was read."""

    files: Files
    version: str
    records: Records

    def write(self, after: Files) -> None:
        """Raises SettingsError if somebody else has changed them meanwhile, StoreError."""
        text = after.texts[after.main]
        if text == self.files.texts[self.files.main]:
            return
        try:
            self.records.write(wiring.SETTINGS_PATH, text.encode(), self.version)
        except Conflict:
            raise SettingsError(
                f"{self.files.main} was changed by somebody else meanwhile", "type the same command again"
            ) from None
        talk(f"changed {self.files.main}")


@dataclass(frozen=True)
class Places:
    """Where the settings of a command stand: in files, in the store, or in both."""

    settings: config.Settings
    files: Files | None
    stored: Stored | None

    def naming(self, name: str) -> bool:
        """Whether any of them names a certificate."""
        return any(one.naming(name) for one in self._all())

    def says(self, name: str, keys: Mapping[str, object]) -> bool:
        """Whether the place that the settings came from names a certificate with just these keys."""
        files = self._all()[0]
        file = files.naming(name)
        return file is None or edits.names(files.texts[file])[name] == keys

    def is_being_renamed(self, old: str, new: str) -> bool:
        """Whether one place has the new name already and says the same: what a rename killed between them left."""
        said = [edits.names(text) for one in self._all() for text in one.texts.values()]
        tables = [names[name] for names in said for name in (old, new) if name in names]
        each_has_one = all((one.naming(old) is None) != (one.naming(new) is None) for one in self._all())
        return self.naming(new) and each_has_one and all(one == tables[0] for one in tables)

    def edit(self, name: str, change: Change) -> None:
        """Change every place that names a certificate, once all of them are known to take it. Raises SettingsError.

        The store comes first, which may refuse: then nothing has been changed.
        """
        files, stored = (one and _changed(one, name, change) for one in (self.files, self.stored and self.stored.files))
        if self.stored and stored:
            self.stored.write(stored)
        if self.files and files:
            files.write(self.files)

    def add(self, change: Change) -> None:
        """Change the place that the settings came from. Raises SettingsError."""
        if self.files:
            self.files.changed(self.files.main, change).write(self.files)
        elif self.stored:
            self.stored.write(self.stored.files.changed(self.stored.files.main, change))

    def _all(self) -> list[Files]:
        return [one for one in (self.files, self.stored and self.stored.files) if one]


def _changed(files: Files, name: str, change: Change) -> Files:
    file = files.naming(name)
    return files.changed(file, change) if file else files


def places(said: Namespace) -> Places:
    """Raises SettingsError, StoreError."""
    if said.store:
        stored = _stored(said.store, None)
        if stored is None:
            raise SettingsError(f"there are no settings in {said.store}", "check the bucket and the prefix")
        return Places(stored.files.settings(), None, stored)
    files = Files(config.texts(settings_path(said)))
    settings = files.settings()
    return Places(settings, files, _stored(settings.store, settings.bucket_owner))


def _stored(store: str, bucket_owner: str | None) -> Stored | None:
    records = wiring.records_of(store, bucket_owner)
    found = records.read(wiring.SETTINGS_PATH)
    if found is None:
        return None
    text = found.data.decode("utf-8", "replace")
    return Stored(Files({f"{store}/{wiring.SETTINGS_PATH}": text}), found.version, records)
