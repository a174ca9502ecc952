"""Run the command line: `python -m aqpolicy`."""

import sys

from aqpolicy.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
