"""The ACME account on a person's word: what it is, and a new account key.

A rollover (RFC 8555 section 7.3.5) is written down before the CA hears of it: the new key stands beside the old one in
the store until the CA has been asked with both which of them is the account's. So a run that is killed leaves two keys,
one of which is good, and every later run finds out which (`AccountDesk`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from certkeeper.core.errors import AuthorityError, Conflict, SettingsError, StoreError
from certkeeper.core.model import Account
from certkeeper.core.ports import CertificateAuthority
from certkeeper.jobs.account import established
from certkeeper.jobs.keeper import Keeper

NOT_IMPLEMENTED = 501
"""HTTP status (RFC 9110 section 15.6.2): what a CA answers, as step-ca does, that knows no key change."""


def shown(keeper: Keeper, directory: str) -> Account | None:
    """The account at a CA as it is stored; None if there is none. Raises StoreError, DocumentError."""
    account, _ = keeper.accounts.read(directory)
    return account


def rolled_over(keeper: Keeper, directory: str) -> Account:
    """Give the account a new key, or finish what an earlier run began. Afterwards the old key opens nothing.

    Raises SettingsError if there is no account, StoreError, DocumentError, SealingError, AuthorityError.
    """
    authority = _authority(keeper, directory)
    try:
        return _rolled_over(keeper, authority, directory)
    except Conflict:
        raise StoreError("another run is changing the account", "try again; a new key that is stored is used") from None


def _rolled_over(keeper: Keeper, authority: CertificateAuthority, directory: str) -> Account:
    _existing(keeper, directory)
    account, version = keeper.accounts.read(directory)
    assert account is not None  # noqa: S101 - _existing() has just read it
    if account.next_key is None:
        account = replace(account, next_key=keeper.keys.new_account_key(directory))
        version = keeper.accounts.write(account, version)
    assert account.next_key is not None  # noqa: S101 - that is what was just written
    new = replace(account, private_key=account.next_key, next_key=None)
    if authority.find(new) != account.url:
        keeper.tell("", "changing the account key")
        try:
            authority.change_key(account, account.next_key)
        except AuthorityError as error:
            # The answer may be lost: the CA knows which key is the account's.
            if authority.find(new) != account.url:
                if error.status == NOT_IMPLEMENTED:
                    keeper.accounts.write(replace(account, next_key=None), version)
                    raise AuthorityError(
                        "the CA does not change account keys", "the account goes on with the key that it has"
                    ) from None
                raise
    _confirm(authority, account, new)
    keeper.accounts.write(new, version)
    return new


def _confirm(authority: CertificateAuthority, old: Account, new: Account) -> None:
    if authority.find(new) != old.url:
        raise AuthorityError("the CA does not know the account by its new key", "both keys are kept; try again")
    if authority.find(old) is not None:
        raise AuthorityError("the CA still takes the old account key", "both keys are kept; try again later")


def _existing(keeper: Keeper, directory: str) -> Account:
    if shown(keeper, directory) is None:
        raise SettingsError(f"there is no account at {directory} yet", "the first renewal makes one: certkeeper renew")
    return established(keeper, directory)


VERBS: dict[str, Callable[[Keeper, str], Account | None]] = {
    "show": shown,
    "rollover": rolled_over,
}
"""What can be done with an account, by the word of the command line and of the function's event."""


def _authority(keeper: Keeper, directory: str) -> CertificateAuthority:
    authority = keeper.authorities.get(directory)
    if authority is None:
        raise SettingsError(f"no CA is set up for {directory}")
    return authority
