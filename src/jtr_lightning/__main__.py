"""``python -m jtr_lightning`` is ``jtr``."""

import sys

from jtr_lightning.cli.main import main

sys.exit(main())
