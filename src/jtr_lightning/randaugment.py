"""What both forms of RandAugment's photometric operations share: the loader's (8-bit images) and the views' (batches).

Cubuk et al., "RandAugment: Practical automated data augmentation with a reduced search space" (CVPRW 2020), without the
operations that move pixels. Ranges of the magnitudes: those of torchvision's ``RandAugment``.
"""

BINS = 31
"""Number of magnitudes of an operation, from no effect (0) to the strongest (30)."""

OPERATIONS = (
    "identity",
    "brightness",
    "colour",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
)
"""Names of the operations, each drawn with equal chance. ``colour`` is PIL's saturation."""

LARGEST_FACTOR = 0.9
"""Brightness, colour, contrast and sharpness go away from or towards their zero by the factor 1 +- this, at most."""

MOST_BITS_LOST = 4
"""Bits of 8 that posterize takes, at most."""
