"""What keys can be trusted for, and which of these trusts must not meet in one key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PURPOSES: Final[Mapping[str, str]] = {
    "annotator": "labels, where a keyring names annotators itself",
    "annotator-ca": "credentials of annotators",
    "eraser": "nothing yet",
    "log": "heads of lineage logs, and lists of refused credentials",
    "manifest-issuer": "manifests",
    "policy-author": "bundles",
    "root": "the next version of the keyring",
    "taxonomy": "taxonomies of annotators",
    "witness": "the promotion of a model that leaves a run",
}
"""What a key of each role signs."""

ROLES: Final = tuple(PURPOSES)
"""The roles that aqpolicy itself asks for; a keyring may list others."""

APART: Final = frozenset({"annotator-ca", "eraser", "log", "root", "witness"})
"""Roles whose keys have no other: each of these watches over the others, or lies on a machine that trains."""

ALONE: Final = frozenset({"annotator", "log"})
"""Roles whose keys each sign for themselves, so that no threshold makes sense."""
