"""The operator's door in a checkout: the same program as the console script `certkeeper`."""

from certkeeper.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main())
