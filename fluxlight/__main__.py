"""``python -m fluxlight``: the command, where its script is not on the path."""

import sys

from fluxlight.cli.verbs import main

if __name__ == "__main__":
    sys.exit(main())
