"""Draw readings as small images from their outlines, all at once.

A reading is 32 x 32 pixels over 40 mm: the largest contour's inside, and how
thick the nodule is at each pixel. There are no CT values here; the outlines are
what the radiologists themselves contributed.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from aqpolicy.demo.lidc import Outlines

SIDE: Final = 32
FIELD_MM: Final = 40.0
THICKEST_MM: Final = 30.0
"""Thickness at which the second channel saturates."""


def draw(outlines: Outlines, count: int) -> NDArray[np.uint8]:
    """Return one image per reading.

    Shapes:
        result (count, 2, 32, 32).
    """
    inside = _fill(outlines)
    areas = np.where(outlines.outer, inside.sum((1, 2)), -1)
    images = np.zeros((count, 2, SIDE, SIDE), np.uint8)
    # A later, smaller contour never overwrites a larger one: assign in ascending order of area.
    order = np.argsort(areas, kind="stable")
    images[outlines.drawing[order], 0] = inside[order] * np.uint8(255)
    signed = outlines.thickness * np.where(outlines.outer, 1.0, -1.0)
    depth = np.zeros((count, SIDE * SIDE))
    # Contours arrive sorted by drawing, so each drawing is one stretch to be summed.
    starts = np.flatnonzero(np.diff(outlines.drawing, prepend=-1))
    weighted = inside.reshape(len(inside), -1) * signed[:, None].astype(np.float32)
    depth[outlines.drawing[starts]] = np.add.reduceat(weighted, starts, axis=0)
    images[:, 1] = (np.clip(depth / THICKEST_MM, 0, 1) * 255).reshape(count, SIDE, SIDE).astype(np.uint8)
    return images


def _fill(outlines: Outlines) -> NDArray[np.bool_]:
    """Return which pixel centres lie inside each contour, by the even-odd rule.

    Every edge toggles, on each row of pixel centres that it crosses, all pixels
    to its right; edges are short, so the crossings are few.
    """
    contours = len(outlines.drawing)
    grid = outlines.points * (SIDE / FIELD_MM) + SIDE / 2 - 0.5
    last = np.flatnonzero(np.diff(outlines.contour_of_point, append=contours))
    first = np.concatenate([[0], last[:-1] + 1])
    following = np.arange(1, len(grid) + 1)
    following[last] = first
    (x0, y0), (x1, y1) = grid.T, grid[following].T
    low = np.clip(np.ceil(np.minimum(y0, y1)), 0, SIDE).astype(np.int64)
    high = np.clip(np.ceil(np.maximum(y0, y1)), 0, SIDE).astype(np.int64)
    crossed = high - low
    edge = np.repeat(np.arange(len(grid)), crossed)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(crossed) - crossed, crossed) + low[edge]
    at = x0[edge] + (row - y0[edge]) * (x1[edge] - x0[edge]) / (y1[edge] - y0[edge])
    column = np.clip(np.ceil(at), 0, SIDE).astype(np.int64)
    place = (outlines.contour_of_point[edge] * SIDE + row) * (SIDE + 1) + column
    toggles = np.bincount(place, minlength=contours * SIDE * (SIDE + 1)).astype(np.uint8)
    crossings = np.cumsum(toggles.reshape(contours, SIDE, SIDE + 1)[:, :, :SIDE], axis=2, dtype=np.uint8)
    return (crossings & 1).astype(np.bool_)
