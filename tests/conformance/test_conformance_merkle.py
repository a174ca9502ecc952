"""RFC 6962 proofs as transparency-dev/merkle judges them, many of them deliberately wrong."""

from __future__ import annotations

import base64
import json

from aqpolicy.errors import ProofError
from aqpolicy.trust import verify_consistency, verify_inclusion


def hashes(texts):
    return [base64.b64decode(text) for text in texts or []]


def accepts_inclusion(case):
    leaf, root = hashes([case["leafHash"] or "", case["root"] or ""])
    try:
        verify_inclusion(case["leafIdx"], case["treeSize"], leaf, hashes(case["proof"]), root)
    except ProofError:
        return False
    return True


def accepts_consistency(case):
    root1, root2 = hashes([case["root1"] or "", case["root2"] or ""])
    try:
        verify_consistency(case["size1"], case["size2"], root1, root2, hashes(case["proof"]))
    except ProofError:
        return False
    return True


def judged_otherwise(folder, accepts):
    files = sorted(folder.rglob("*.json"))
    cases = [json.loads(file.read_text()) for file in files]
    wrong = [file.name for file, case in zip(files, cases, strict=True) if accepts(case) == case["wantErr"]]
    return len(cases), wrong


def test_inclusion_proofs_are_judged_as_by_others(vectors):
    assert judged_otherwise(vectors("merkle/testdata/inclusion"), accepts_inclusion) == (98, [])


def test_consistency_proofs_are_judged_as_by_others(vectors):
    assert judged_otherwise(vectors("merkle/testdata/consistency"), accepts_consistency) == (98, [])
