"""List the constants of CIFAR-10-C at the five severities, as its authors published them.

They are those of ``make_cifar_c.py`` in github.com/hendrycks/robustness, for 32x32 images with values from 0
to 1 unless stated otherwise. Those of ImageNet-C are far stronger: its Gaussian noise has 0.08 to 0.38.
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: Constants of each corruption, in the order of severities 1 to 5.
CONSTANTS: dict[str, tuple[Any, ...]] = {
    # standard deviation
    "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    # photons that a white pixel counts
    "shot_noise": (500, 250, 100, 75, 50),
    # share of values that become black or white
    "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),
    # radius of a disk, and standard deviation of the blur of its edge, in pixels
    "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    # standard deviation of a blur, farthest move of a pixel, and how often pixels move
    "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    # radius and standard deviation of a blur along a line, in pixels
    "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    # zoom factors over which is averaged
    "zoom_blur": tuple(tuple(np.arange(1, end, 0.01).tolist()) for end in (1.06, 1.11, 1.16, 1.21, 1.26)),
    # mean and standard deviation of flakes, zoom, threshold, radius and standard deviation of their motion
    # blur, and share of the image that is not whitened
    "snow": (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    # weights of the image and of frost
    "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    # weight of fog, and how fast its detail fades
    "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    # added to the value of HSV
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
    # factor of differences from the mean of a channel
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    # shares of 32 pixels: size and smoothness of local moves, and largest move of the corners of a triangle
    "elastic_transform": (
        (0, 0, 0.08),
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0.1, 0.04, 0.05),
        (0.1, 0.03, 0.03),
    ),
    # share of the pixels along each side that is left
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
    # quality of JPEG
    "jpeg_compression": (80, 65, 58, 50, 40),
}
