"""A keyring says how many policy authors must have signed a bundle."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.bundles import ALICE, BOB, compiled

from aqpolicy.bundle import load_bundle
from aqpolicy.bundle.sealed import add_signatures
from aqpolicy.errors import BundleSignatureError
from aqpolicy.trust import Keyring, Retired, SigningKey, VerifyKey

ROOT = SigningKey.from_seed("root", bytes([77]) * 32)
AUTHORS = (ALICE.verify_key, BOB.verify_key)


def demanding(count: int) -> Keyring:
    return Keyring({"root": (ROOT.verify_key,), "policy-author": AUTHORS}, 1, "2999-12-31", {"policy-author": count})


def test_a_bundle_with_too_few_signatures_is_refused_however_it_is_opened(tmp_path: Path) -> None:
    path = Path(compiled(tmp_path))
    with pytest.raises(BundleSignatureError, match="2 trusted keys must sign"):
        load_bundle(path, demanding(2))
    assert load_bundle(path, demanding(1)) == load_bundle(path, Keyring({"policy-author": AUTHORS}))
    path.write_bytes(add_signatures(path.read_bytes(), [BOB])[0])
    assert load_bundle(path, demanding(2)) == load_bundle(path, demanding(1))


def test_the_bundle_of_an_old_run_is_opened_by_an_author_who_was_retired_since(tmp_path: Path) -> None:
    path = Path(compiled(tmp_path))
    old = VerifyKey(ALICE.name, ALICE.verify_key.public, Retired("", (("a/log", 9),)))
    keyring = Keyring({"policy-author": (BOB.verify_key, old)})
    with pytest.raises(BundleSignatureError, match="no trusted key"):
        load_bundle(path, keyring)
    assert load_bundle(path, keyring.within("a/log")).policy_name == "test.small"
    with pytest.raises(BundleSignatureError, match="no trusted key"):
        load_bundle(path, keyring.within("another/log"))
