"""python -m certkeeper"""

from certkeeper.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
