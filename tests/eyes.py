"""What an eye can tell apart: contrast (WCAG 2.2), and distance of colours with and without colour blindness."""

import numpy as np
from matplotlib.colors import to_rgb

# What is left of linear RGB without one kind of cone (Machado, Oliveira and Fernandes, 2009, severity 1).
VISIONS = {
    "all cones": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]]
    ),
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  # of linear sRGB
WHITE = XYZ.sum(1)


def linear(colour: str | tuple) -> np.ndarray:
    values = np.array(to_rgb(colour))
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(a: str | tuple, b: str | tuple) -> float:
    """Return the ratio of luminances, from 1 to 21."""
    low, high = sorted(float(XYZ[1] @ linear(colour)) for colour in (a, b))
    return (high + 0.05) / (low + 0.05)


def distance(a: str, b: str) -> float:
    """Return how far two colours lie apart in CIELAB for the eyes that tell them apart worst; 2.3 is just seen."""
    return min(float(np.linalg.norm(_lab(m @ linear(a)) - _lab(m @ linear(b)))) for m in VISIONS.values())


def _lab(rgb: np.ndarray) -> np.ndarray:
    share = XYZ @ rgb.clip(0, 1) / WHITE
    x, y, z = np.where(share > 0.008856, np.cbrt(share), (903.3 * share + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])
