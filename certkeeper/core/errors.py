"""Everything that can go wrong, as a tree. Every error says what; most say what to do, as a hint.

CertkeeperError
├── SettingsError       the settings or the command line are wrong
├── DocumentError       bytes that are not what the format promises
├── StoreError          the store cannot answer; never "not there"
├── Conflict            somebody else wrote first; certainly so
├── SealingError        a private key could not be sealed or opened
├── AuthorityError      the CA refused or could not be reached
├── DnsError            no zone, a refused record, a look-up that failed
├── ChainError          a chain that must not be kept
├── NoticeError         people could not be told
├── RightsError         what a role may do could not be found out
├── FunctionError       the deployed function could not be asked, or could not run
└── OutOfTime           the deadline has come; what is journaled is finished by the next run

Runs on Python 3.9 and imports nothing: the boot client carries this file.
"""

from __future__ import annotations


class CertkeeperError(Exception):
    """What happened, in a sentence without a full stop, and a hint on what to do about it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class SettingsError(CertkeeperError):
    """The settings or the command line are wrong; nothing was touched."""


class DocumentError(CertkeeperError):
    """Stored or fetched bytes are not what the format promises."""


class StoreError(CertkeeperError):
    """The store could not answer, so nothing is known about what it holds."""


class Conflict(CertkeeperError):  # noqa: N818 - not a failure: the fence doing its work
    """Somebody else has certainly written since the version that was named."""


class SealingError(CertkeeperError):
    """A private key could not be sealed or opened."""


class AuthorityError(CertkeeperError):
    """The CA refused (an RFC 7807 problem document, RFC 8555 section 6.7) or could not be reached.

    `kind` is the problem type without its URN prefix ("rateLimited"), "" where the CA sent none.
    `status` is the HTTP status, None where there was no answer.
    `retry_after` is in seconds from the answer, as the CA said it; None where it said nothing.
    `subproblems` holds (identifier, kind, detail) for each subproblem (section 6.7.1).
    """

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        *,
        kind: str = "",
        status: int | None = None,
        retry_after: float | None = None,
        subproblems: tuple[tuple[str, str, str], ...] = (),
    ) -> None:
        super().__init__(message, hint)
        self.kind = kind
        self.status = status
        self.retry_after = retry_after
        self.subproblems = subproblems


class DnsError(CertkeeperError):
    """A zone cannot be chosen, a record was refused, or a look-up failed."""


class ChainError(CertkeeperError):
    """The CA handed out a chain that must not be kept (RFC 8555 section 11.4 and our own proof)."""


class RightsError(CertkeeperError):
    """What a role may do could not be found out."""


class NoticeError(CertkeeperError):
    """A notice could not be sent. It stops nothing."""


class FunctionError(CertkeeperError):
    """The deployed function could not be asked, or what it was asked for could not run."""


class OutOfTime(CertkeeperError):  # noqa: N818 - not a failure: the next run goes on
    """The deadline has come. What is journaled is not lost."""
