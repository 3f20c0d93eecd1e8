"""The ACME account: its key is sealed and stored before the CA hears of it, and there is only ever one."""

from __future__ import annotations

from dataclasses import replace
from threading import Lock

from certkeeper.core.errors import CertkeeperError, Conflict, SettingsError, StoreError
from certkeeper.core.model import Account
from certkeeper.jobs.keeper import Keeper


class AccountDesk:
    """The accounts of one run. Safe for threads: whoever comes first establishes, the others wait and get the same."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._lock = Lock()
        self._known: dict[str, Account | CertkeeperError] = {}

    def of(self, directory: str) -> Account:
        """The account at a CA, registered. Raises what `established` raises, once found out."""
        with self._lock:
            if directory not in self._known:
                try:
                    self._known[directory] = established(self._keeper, directory)
                except Conflict as error:
                    # Not the fence of a name, so not "somebody else is at work on it".
                    self._known[directory] = StoreError(
                        error.message, "another run is changing it; the next one goes on"
                    )
                except CertkeeperError as error:
                    self._known[directory] = error
            known = self._known[directory]
        if isinstance(known, CertkeeperError):
            raise known
        return known

    def forget_url(self, directory: str) -> None:
        """The CA does not know the account: let the next run register the same key again."""
        with self._lock:
            account, version = self._keeper.accounts.read(directory)
            if account is not None and account.url is not None:
                self._keeper.accounts.write(replace(account, url=None), version)


def established(keeper: Keeper, directory: str) -> Account:
    """The account at a CA, with its URL. Raises StoreError, DocumentError, SealingError, AuthorityError."""
    authority = keeper.authorities.get(directory)
    if authority is None:
        raise SettingsError(f"no CA is set up for {directory}")
    account, version = keeper.accounts.read(directory)
    if account is None:
        account, version = _created(keeper, directory)
    if account.url is None:
        account = replace(account, url=authority.register(account))
        try:
            keeper.accounts.write(account, version)
        except Conflict:
            # Somebody registered the same key at the same time, so got the same URL (RFC 8555 section 7.3).
            return _existing(keeper, directory)
    return account


def _created(keeper: Keeper, directory: str) -> tuple[Account, str | None]:
    account = Account(directory, keeper.keys.new_account_key(directory))
    try:
        return account, keeper.accounts.write(account, None)
    except Conflict:
        winner, version = keeper.accounts.read(directory)
        if winner is None:
            raise
        return winner, version


def _existing(keeper: Keeper, directory: str) -> Account:
    account, _ = keeper.accounts.read(directory)
    if account is None or account.url is None:
        raise Conflict(f"the account of {directory} is being changed by somebody else", "try again")
    return account
