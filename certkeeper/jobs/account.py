"""The ACME account: its key is sealed and stored before the CA hears of it, and there is only ever one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from threading import Lock
from typing import TypeVar

from certkeeper.core.accounts import path
from certkeeper.core.errors import AuthorityError, CertkeeperError, Conflict, SettingsError, StoreError
from certkeeper.core.model import Account
from certkeeper.core.ports import CertificateAuthority
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

    def rekeyed(self, account: Account) -> bool:
        """Whether the account has another key by now, as after a rollover; then that one is the known one from here on.

        Raises what `established` raises.
        """
        with self._lock:
            now = established(self._keeper, account.ca)
            self._known[account.ca] = now
        return now.url == account.url and now.private_key != account.private_key

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
    is_new = account is None
    if account is None:
        account, version = _created(keeper, directory)
    if account.url is None:
        # A key that was stored earlier may have an account already, and must not agree to anything anew.
        url = (None if is_new else _explained(authority.find, account)) or _explained(authority.register, account)
        account = replace(account, url=url)
        try:
            version = keeper.accounts.write(account, version)
        except Conflict:
            # Somebody registered the same key at the same time, so got the same URL (RFC 8555 section 7.3).
            account = _existing(keeper, directory)
    return account if account.next_key is None else _settled(keeper, authority, account, version)


def _settled(keeper: Keeper, authority: CertificateAuthority, account: Account, version: str | None) -> Account:
    """The account with the key that is its own, where a rollover is under way or was killed."""
    assert account.next_key is not None  # noqa: S101 - that is why we are here
    new = replace(account, private_key=account.next_key, next_key=None)
    if authority.find(new) != account.url:
        return account  # the rollover has not happened, or not yet
    with suppress(Conflict):  # then whoever changed the key has written it down
        keeper.accounts.write(new, version)
    return new


Answer = TypeVar("Answer")


def _explained(ask: Callable[[Account], Answer], account: Account) -> Answer:
    try:
        return ask(account)
    except AuthorityError as error:
        raise unusable(error, account.ca) from None


def unusable(error: AuthorityError, directory: str) -> AuthorityError:
    """The error, with what to do where the CA does not accept the account: never anything that we do by ourselves."""
    if error.kind == "unauthorized" and error.hint is None:
        error.hint = (
            "the CA does not accept the account, as when it was deactivated or revoked; ask the CA why. "
            f"Only if it is to be given up: remove {path(directory)} from the store, and the next run makes another one"
        )
    return error


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
