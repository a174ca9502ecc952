"""Manifests of signed observations: what is known of each example, and who says so.

Input: observations and keys, or a manifest file and a keyring; output: a
manifest file, or a `Manifest` of which every byte was verified. Start at
`issue_manifest` and `load_manifest`.
"""

from aqpolicy.provenance.credentials import Credentials
from aqpolicy.provenance.entitlement import unentitled_examples
from aqpolicy.provenance.issue import encode_manifest, issue_manifest
from aqpolicy.provenance.load import ISSUER_ROLE, decode_manifest, load_manifest
from aqpolicy.provenance.manifest import Manifest
from aqpolicy.provenance.observation import (
    ConsensusEvent,
    Credential,
    Field,
    Observation,
    Session,
    example_digest,
    label_digest,
)
from aqpolicy.provenance.proof import LabelChecker, LabelProof, SessionProof, verify_label_proof
from aqpolicy.provenance.status import load_status_list, refused_examples

__all__ = [
    "ISSUER_ROLE",
    "ConsensusEvent",
    "Credential",
    "Credentials",
    "Field",
    "LabelChecker",
    "LabelProof",
    "Manifest",
    "Observation",
    "Session",
    "SessionProof",
    "decode_manifest",
    "encode_manifest",
    "example_digest",
    "issue_manifest",
    "label_digest",
    "load_manifest",
    "load_status_list",
    "refused_examples",
    "unentitled_examples",
    "verify_label_proof",
]
