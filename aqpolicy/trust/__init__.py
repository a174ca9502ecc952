"""What signed bytes are made of: canonical JSON, digests, keys, envelopes, notes, Merkle trees.

Input: bytes and keys; output: verified bytes or a `TrustError`. Nothing here
knows what the bytes mean. Start at `open_envelope` and `load_keyring`.
"""

from aqpolicy.trust.base64text import decode_base64, encode_base64
from aqpolicy.trust.canonical import canonical_json, parse_canonical
from aqpolicy.trust.cursor import Cursor, path_bytes, sized
from aqpolicy.trust.digest import digest_text, example_key, sha256
from aqpolicy.trust.durable import replace_file, write_new
from aqpolicy.trust.envelope import Opened, add_signatures, open_envelope, open_signed, peek, pre_authentication, seal
from aqpolicy.trust.key_files import load_signing_key, load_verify_key
from aqpolicy.trust.keyring import Keyring, is_date
from aqpolicy.trust.keyring_file import follow, load_keyring, parse_keyring, sign_keyring, succeed
from aqpolicy.trust.keys import Retired, SigningKey, VerifyKey
from aqpolicy.trust.merkle import (
    Frontier,
    Tree,
    consistency_path,
    inclusion_path,
    leaf_hash,
    leaf_hashes,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from aqpolicy.trust.note import Checkpoint, open_checkpoint, sign_checkpoint
from aqpolicy.trust.roles import APART, PURPOSES, ROLES
from aqpolicy.trust.tlog_proof import TlogProof, decode_tlog_proof, encode_tlog_proof

__all__ = [
    "APART",
    "PURPOSES",
    "ROLES",
    "Checkpoint",
    "Cursor",
    "Frontier",
    "Keyring",
    "Opened",
    "Retired",
    "SigningKey",
    "TlogProof",
    "Tree",
    "VerifyKey",
    "add_signatures",
    "canonical_json",
    "consistency_path",
    "decode_base64",
    "decode_tlog_proof",
    "digest_text",
    "encode_base64",
    "encode_tlog_proof",
    "example_key",
    "follow",
    "inclusion_path",
    "is_date",
    "leaf_hash",
    "leaf_hashes",
    "load_keyring",
    "load_signing_key",
    "load_verify_key",
    "node_hash",
    "open_checkpoint",
    "open_envelope",
    "open_signed",
    "parse_canonical",
    "parse_keyring",
    "path_bytes",
    "peek",
    "pre_authentication",
    "replace_file",
    "root_of",
    "seal",
    "sha256",
    "sign_checkpoint",
    "sign_keyring",
    "sized",
    "succeed",
    "verify_consistency",
    "verify_inclusion",
    "write_new",
]
