"""`aqpolicy log export`: write a verified log for the tools of others."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from aqpolicy.cli.log.arguments import add_run, keyring_of, run_builder
from aqpolicy.cli.log.meter import Meter

if TYPE_CHECKING:
    from aqpolicy.export.source import Source
    from aqpolicy.lineage import VerifyReport
    from aqpolicy.trust import Keyring

_Part = TypeVar("_Part")


def register(verbs: Any) -> None:
    """Add the verb to the parser."""
    verb = verbs.add_parser(
        "export",
        help="write a verified log as static tiles or as Parquet",
        description="Verify every signed byte of a log, then write it for the tools of others: as the static files of "
        "C2SP tlog-tiles, which clients of transparency logs check, or as Parquet with one row per example and step, "
        "which DuckDB, Spark and Ray read. Each folder is written as a whole or not at all; nothing is overwritten.",
        epilog="Every row can still be proved, by the numbers in its columns: "
        "`aqpolicy log prove RUN --attempt ATTEMPT --step STEP --row RANK:POSITION --out FILE.aqproof`.",
    )
    add_run(verb)
    verb.add_argument("--tiles", metavar="FOLDER", type=Path, help="where the tiles go; a new folder")
    verb.add_argument("--parquet", metavar="FOLDER", type=Path, help="where the Parquet files go; a new folder")
    verb.add_argument(
        "--superseded", action="store_true", help="with --parquet: also rows of steps that a later attempt took again"
    )
    verb.add_argument(
        "--bundle",
        metavar="B",
        type=Path,
        action="append",
        help="with --parquet: a bundle that explains rules and shares; again for each (default: the one in RUN)",
    )
    verb.add_argument(
        "--manifest",
        metavar="M",
        type=Path,
        action="append",
        help="with --parquet: a manifest that names examples and who labelled them; again for each (default: no names)",
    )
    verb.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Verify, then write what was asked for."""
    from aqpolicy.export.source import open_verified

    _refuse_what_does_not_fit(args)
    keyring = keyring_of(args)
    report = _verified(args, keyring)
    with open_verified(args.run, keyring, report) as source:
        if args.parquet is not None:
            _write_parquet(args, source, keyring)
        if args.tiles is not None:
            _write_tiles(args.tiles, source)
    return 0


def _refuse_what_does_not_fit(args: argparse.Namespace) -> None:
    """Return if all that was asked for can be begun, so that nobody waits for a verification in vain."""
    from aqpolicy.errors import InputError
    from aqpolicy.export.folder import refuse_unless_free

    folders = [folder for folder in (args.tiles, args.parquet) if folder is not None]
    if not folders:
        raise InputError("say what to write: --tiles FOLDER, --parquet FOLDER, or both")
    if args.tiles == args.parquet:
        raise InputError("tiles and Parquet cannot lie in one folder; give two")
    if args.parquet is None and (args.superseded or args.bundle or args.manifest):
        raise InputError("--superseded, --bundle and --manifest say what is in Parquet; give --parquet FOLDER as well")
    for folder in folders:
        refuse_unless_free(folder)
    if args.parquet is not None:
        try:
            import aqpolicy.export.parquet  # noqa: F401  # only whether it can be
        except ModuleNotFoundError as error:
            if error.name not in {"numpy", "pyarrow"}:
                raise
            raise InputError(f"--parquet needs `{error.name}`; run `pip install 'aqpolicy[export]'`") from error


def _verified(args: argparse.Namespace, keyring: Keyring) -> VerifyReport:
    from aqpolicy.lineage import verify_log

    with Meter("hashing") as meter:
        report = verify_log(args.run, keyring, meter, workers=0, index=run_builder())
    print(f"log       {report.entries} entries, {report.steps} steps, {report.rows} rows: every hash as signed")
    return report


def _write_tiles(folder: Path, source: Source) -> None:
    from aqpolicy.export.folder import new_folder
    from aqpolicy.lineage.tiles import write_tiles

    with new_folder(folder) as place:
        write_tiles(place, source.entries(), source.head, source.note)
    print(f"tiles     {folder}: {source.head.size} entries of {source.head.origin}")


def _write_parquet(args: argparse.Namespace, source: Source, keyring: Keyring) -> None:
    from aqpolicy.bundle import load_bundle
    from aqpolicy.export.folder import new_folder
    from aqpolicy.export.parquet import write_rows
    from aqpolicy.provenance import load_manifest

    trusted, usual = keyring.within(source.head.origin), Path(args.run) / "bundle.aqb"
    bundles = _loaded(args.bundle or [usual] * usual.exists(), lambda path: load_bundle(path, trusted))
    manifests = _loaded(args.manifest or (), lambda path: load_manifest(path, trusted))
    with new_folder(args.parquet) as place, Meter("exporting") as meter:
        written = write_rows(place, source, bundles, manifests, superseded=args.superseded, progress=meter)
    rows, steps, files = (_counted(getattr(written, word), word) for word in ("rows", "steps", "files"))
    print(f"parquet   {args.parquet}: {rows} of {steps} in {files}")
    if source.report.superseded and not args.superseded:
        lost = _counted(source.report.superseded, "superseded steps")
        print(f"note      left out: {lost}; --superseded adds the rows")
    if not bundles:
        print("note      no bundle: `rule` is empty, and shares are told only where they were lowered")
    if not manifests:
        print("note      no --manifest: examples have their keys and no names")


def _counted(number: int, things: str) -> str:
    return f"{number} {things if number != 1 else things.removesuffix('s')}"


def _loaded(paths: Sequence[Path], load: Callable[[Path], _Part]) -> list[_Part]:
    return [load(path) for path in paths]
