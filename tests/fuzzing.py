"""How many generated examples the property tests try: the same few in every run, or many others when asked for."""

import os

FUZZ = int(os.environ.get("JTR_FUZZ", "0"))
"""How many times as many examples to try, other ones in each run; 0 for the usual ones, the same in each run."""


def examples(usual: int) -> int:
    """Number of examples of a test.

    Args:
        usual: Without ``JTR_FUZZ``.
    """
    return usual * max(FUZZ, 1)
