"""Which labels no valid credential stands behind: the four checks of `standing`, for a manifest as a whole.

The checks ask for the time that a label declares. Between two midnights and two
moments of the list of refused credentials nothing can change, so each credential is
checked once for each such stretch and not once for each label.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from aqpolicy.errors import ProvenanceError
from aqpolicy.provenance.manifest import Manifest
from aqpolicy.provenance.standing import CredentialChecker, Presented, Standing
from aqpolicy.provenance.status import StatusList
from aqpolicy.provenance.taxonomy import Taxonomy
from aqpolicy.trust import Keyring

_DAY: Final = 86_400


def unentitled_examples(
    manifest: Manifest,
    taxonomy: Taxonomy,
    keyring: Keyring,
    *,
    scopes: Sequence[str] = (),
    issuers: Sequence[bytes] = (),
    status: StatusList | None = None,
    known: tuple[int, int] | None = None,
) -> dict[str, Standing]:
    """Return the ids of all examples whose label no valid credential signed, and why; the gate denies these.

    A label whose session presents no credential is among them: nothing counts as credentialed on the issuer's word.

    Args:
        manifest: What is to be trained on; verified.
        taxonomy: The taxonomy that the manifest names; verified.
        keyring: Who is trusted.
        scopes: What the labels attest.
        issuers: Envelopes of issuers' credentials that sign nothing themselves; untrusted.
        status: Credentials that are refused; verified.
        known: When the labels were not there yet, and when they were, in seconds since 1970; see `check_credentials`.

    Raises:
        ProvenanceError: The manifest names another taxonomy.
    """
    if manifest.taxonomy != taxonomy.ref:
        raise ProvenanceError(
            f"the manifest `{manifest.name}` names the taxonomy {manifest.taxonomy}, not {taxonomy.ref}; load that one"
        )
    shown = {
        each.id: Presented(each.id, each.key, each.authority, each.envelope) for each in manifest.credentials.values()
    }
    envelopes = [*issuers, *(each.envelope for each in shown.values())]
    checker = CredentialChecker(taxonomy, keyring, envelopes, status=status, manifest_root=manifest.root, known=known)
    moments = _moments(status, known)
    found: dict[tuple[str, int, int], Standing] = {}
    unentitled: dict[str, Standing] = {}
    for session in range(manifest.sessions):
        name = manifest.session_credential(session).id
        for index, at in zip(manifest.session_labels(session), manifest.session_times(session), strict=True):
            stretch = name, at // _DAY, bisect_right(moments, at)
            if stretch not in found:
                found[stretch] = checker.check(shown[name], at, scopes)
            if not found[stretch].is_valid:
                unentitled[manifest.example_id(index)] = found[stretch]
    return unentitled


def _moments(status: StatusList | None, known: tuple[int, int] | None) -> list[int]:
    """Return all times, beside midnights, from which on a check can come out otherwise than before."""
    refused = () if status is None else (each.from_s for each in status.refused)
    bounds = () if known is None else (known[0], known[1] + 1)
    return sorted({*refused, *bounds})
