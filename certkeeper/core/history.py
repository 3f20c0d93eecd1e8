"""The certificates that were current before: `history/NAME/REVISION`, the same document, the last three of them."""

from __future__ import annotations

from certkeeper.core import certificates
from certkeeper.core.errors import Conflict
from certkeeper.core.model import Certificate
from certkeeper.core.ports import Records

PREFIX = "history/"
KEPT = 3


class History:
    """Earlier certificates over any Records."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def revisions(self, name: str) -> tuple[int, ...]:
        """The revisions that are kept, the newest first. Raises StoreError."""
        start = f"{PREFIX}{name}/"
        kept = (path.removeprefix(start) for path in self._records.list(start))
        return tuple(sorted((int(one) for one in kept if one.isascii() and one.isdecimal()), reverse=True))

    def read(self, name: str, revision: int) -> Certificate | None:
        """One of them; None only if it certainly is not kept. Raises StoreError, DocumentError."""
        stored = self._records.read(_path(name, revision))
        return certificates.decode(stored.data, name) if stored else None

    def keep(self, certificate: Certificate) -> None:
        """Keep what is about to be replaced; any number of times. Raises StoreError."""
        try:
            self._records.write(_path(certificate.name, certificate.revision), certificates.encode(certificate), None)
        except Conflict:
            return  # a run that did not come to the end of it has kept the same

    def remove(self, name: str, revision: int) -> None:
        """Make sure that it is not kept. Raises StoreError."""
        self._records.delete(_path(name, revision))

    def clear(self, name: str) -> None:
        """Remove all of a name. Raises StoreError."""
        for revision in self.revisions(name):
            self.remove(name, revision)

    def prune(self, name: str) -> None:
        """Remove all but the newest. Raises StoreError."""
        for revision in self.revisions(name)[KEPT:]:
            self.remove(name, revision)


def _path(name: str, revision: int) -> str:
    return f"{PREFIX}{name}/{revision}"
