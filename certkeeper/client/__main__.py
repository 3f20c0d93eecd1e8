"""certkeeper-pull: the boot client's door."""

from __future__ import annotations

import os
import sys

from certkeeper import __version__
from certkeeper.client.arguments import HELP, Options
from certkeeper.client.pull import Pull, complain
from certkeeper.client.timer import install_timer
from certkeeper.core.errors import CertkeeperError, SettingsError

# What the units are to go by as well. Everybody may read them, and others of AWS_ hold secrets.
_SETTINGS = ("AWS_CA_", "AWS_DEFAULT_", "AWS_EC2_", "AWS_ENDPOINT_", "AWS_REGION", "AWS_USE_", "SSL_CERT_")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code (see --help)."""
    words = sys.argv[1:] if argv is None else argv
    try:
        options = Options(words)
        if options.asks_for:
            print(HELP if options.asks_for == "--help" else f"certkeeper-pull {__version__}")
            return 0
        pull = Pull(options)
        code = pull.run()
        if options.install_timer:  # even now that nothing came: the timer goes on trying
            settings = {name: value for name, value in os.environ.items() if name.startswith(_SETTINGS)}
            try:
                pull.say(install_timer(words, options, settings))
            except (CertkeeperError, OSError) as error:
                complain(error)
                return code or 3
        return code
    except SettingsError as error:
        complain(error)
        return 2
    except OSError as error:
        complain(error)
        return 1
    except KeyboardInterrupt:
        complain(CertkeeperError("interrupted"))
        return 130


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # to take everything down in order costs as much as a TLS handshake
