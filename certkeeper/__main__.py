"""python -m certkeeper, and the console script."""

import os
import sys


def main() -> int:
    """Run what was typed; its exit status."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        # A descriptor that is closed would be given to the first connection, and written to.
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    try:
        # Importing takes long enough for a person to press Ctrl-C.
        from certkeeper.cli.main import main as run

        return run()
    except KeyboardInterrupt:
        sys.stderr.write("certkeeper: error: interrupted\n")
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
