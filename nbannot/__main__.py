"""``python -m nbannot`` is the command line."""

import sys

from nbannot.doors.cli import main

if __name__ == "__main__":
    sys.exit(main())
