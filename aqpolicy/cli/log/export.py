"""`aqpolicy log export`: write a verified log for the tools of others."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aqpolicy.cli.log.arguments import add_run, keyring_of
from aqpolicy.cli.log.meter import Meter

if TYPE_CHECKING:
    from aqpolicy.export.source import Source
    from aqpolicy.trust import Keyring

_MOST_WORKERS: Final = 8
_Part = TypeVar("_Part")


def register(verbs: Any) -> None:
    """Add the verb to the parser."""
    verb = verbs.add_parser(
        "export",
        help="write a verified log as static tiles or as Parquet",
        description="Verify a log, and write it for the tools of others: as the static files of C2SP tlog-tiles, which "
        "clients of transparency logs check, or as Parquet with one row per example and step, which DuckDB, Spark and "
        "Ray read. A folder is written as a whole or not at all, and nothing is overwritten.",
    )
    add_run(verb)
    verb.add_argument("--tiles", metavar="FOLDER", type=Path, help="where the tiles go; a new folder")
    verb.add_argument("--parquet", metavar="FOLDER", type=Path, help="where the Parquet files go; a new folder")
    verb.add_argument("--superseded", action="store_true", help="also rows of steps that a later attempt took again")
    verb.add_argument(
        "--bundle",
        metavar="B",
        type=Path,
        action="append",
        help="a bundle that explains rules and shares; again for each (default: the one in RUN)",
    )
    verb.add_argument(
        "--manifest",
        metavar="M",
        type=Path,
        action="append",
        help="a manifest that names examples; again for each (default: the one in RUN)",
    )
    verb.add_argument("--no-names", action="store_true", help="leave out what the manifest says: examples by key only")
    verb.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Verify, then write what was asked for."""
    from aqpolicy.errors import InputError
    from aqpolicy.export.folder import refuse_existing
    from aqpolicy.export.source import open_verified
    from aqpolicy.lineage import verify_log
    from aqpolicy.scribe.index import FastRunBuilder

    folders = [folder for folder in (args.tiles, args.parquet) if folder is not None]
    if not folders:
        raise InputError("say what to write: --tiles FOLDER, --parquet FOLDER, or both")
    for folder in folders:
        refuse_existing(folder)
    keyring = keyring_of(args)
    with Meter("hashing") as meter:
        workers = min(os.cpu_count() or 1, _MOST_WORKERS)
        report = verify_log(args.run, keyring, meter, workers=workers, index=FastRunBuilder)
    with open_verified(args.run, keyring, report) as source:
        if args.tiles is not None:
            _write_tiles(args.tiles, source)
        if args.parquet is not None:
            _write_parquet(args, source, keyring)
    return 0


def _write_tiles(folder: Path, source: Source) -> None:
    from aqpolicy.export.folder import new_folder
    from aqpolicy.lineage.tiles import write_tiles

    with new_folder(folder) as place:
        write_tiles(place, source.entries(), source.head, source.note)
    print(f"tiles     {folder}: {source.head.size} entries of {source.head.origin}")


def _write_parquet(args: argparse.Namespace, source: Source, keyring: Keyring) -> None:
    from aqpolicy.bundle import load_bundle
    from aqpolicy.errors import InputError
    from aqpolicy.export.folder import new_folder
    from aqpolicy.provenance import load_manifest

    try:
        from aqpolicy.export.parquet import write_rows
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        raise InputError("--parquet needs `pyarrow`; run `pip install 'aqpolicy[export]'`") from error
    trusted, run = keyring.within(source.head.origin), Path(args.run)
    bundles = _parts(args.bundle, run / "bundle.aqb", lambda path: load_bundle(path, trusted))
    manifests = _parts(args.manifest, run / "manifest.aqm", lambda path: load_manifest(path, trusted))
    with new_folder(args.parquet) as place, Meter("exporting") as meter:
        named = [] if args.no_names else manifests
        written = write_rows(place, source, bundles, named, superseded=args.superseded, progress=meter)
    print(f"parquet   {args.parquet}: {written.rows} rows of {written.steps} steps, {written.files} files")


def _parts(named: Sequence[Path] | None, usual: Path, load: Callable[[Path], _Part]) -> list[_Part]:
    if named is None:
        return [load(usual)] if usual.exists() else []
    return [load(path) for path in named]
