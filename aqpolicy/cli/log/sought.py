"""What `aqpolicy log find` is asked for by name, in the numbers that the log has for it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aqpolicy.bundle import Bundle
    from aqpolicy.provenance import Manifest


def labels_of(manifest: Manifest, args: argparse.Namespace) -> list[range]:
    """Return the manifest indexes of one session, or of all sessions of a credential or its holder.

    Raises:
        InputError: The manifest has none.
    """
    from aqpolicy.errors import InputError

    if args.session is not None:
        if not 0 <= args.session < manifest.sessions:
            raise InputError(f"the manifest has {manifest.sessions} sessions, counted from 0")
        return [manifest.session_labels(args.session)]
    signed = [(manifest.session_credential(session), session) for session in range(manifest.sessions)]
    found = [session for credential, session in signed if args.annotator in {credential.id, credential.holder}]
    if not found:
        raise InputError(f"the manifest has no labels of a credential or holder `{args.annotator}`")
    return list(map(manifest.session_labels, found))


def routes_of(bundle: Bundle, args: argparse.Namespace) -> list[int]:
    """Return one row of the mask table, or all that a rule decided.

    Raises:
        InputError: The mask table has none.
    """
    from aqpolicy.errors import InputError

    rows = bundle.tables.rows
    if args.route is not None:
        if not 0 <= args.route < len(rows):
            raise InputError(f"the mask table of the run has {len(rows)} rows, counted from 0")
        return [args.route]
    routes = [number for number, row in enumerate(rows) if args.rule in row.rules]
    if not routes:
        names = ", ".join(sorted({name for row in rows for name in row.rules}))
        raise InputError(f"no row of the run's mask table was decided by a rule `{args.rule}`; there are {names}")
    return routes
