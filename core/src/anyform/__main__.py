"""`python -m anyform`."""

import sys

from anyform.cli import main

if __name__ == "__main__":
    sys.exit(main())
