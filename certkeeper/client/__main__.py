"""certkeeper-pull: the boot client's door."""

from __future__ import annotations

import sys

from certkeeper import __version__
from certkeeper.client.arguments import HELP, Options
from certkeeper.client.pull import Pull, complain
from certkeeper.core.errors import SettingsError


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code (see --help)."""
    try:
        options = Options(sys.argv[1:] if argv is None else argv)
        if options.asks_for:
            print(HELP if options.asks_for == "--help" else f"certkeeper-pull {__version__}")
            return 0
        return Pull(options).run()
    except SettingsError as error:
        complain(error)
        return 2
    except OSError as error:
        complain(error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
