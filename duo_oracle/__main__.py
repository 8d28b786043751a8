"""`python -m duo_oracle` is the command `duo-oracle`."""

import sys

from duo_oracle.search.cli import main

if __name__ == "__main__":
    sys.exit(main())
