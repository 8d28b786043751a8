"""`python -m search` is `duo-oracle`, from a checkout that is not installed."""

import sys

from search.cli import main

if __name__ == "__main__":
    sys.exit(main())
