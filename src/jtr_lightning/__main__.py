"""``python -m jtr_lightning`` is ``jtr``."""

import sys

from jtr_lightning.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
