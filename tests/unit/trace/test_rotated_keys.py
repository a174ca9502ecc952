"""Keys end and are rotated: what was signed stays verified, and nothing is learned under an ended keyring."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from support.gating import tables
from support.tracing import AUTHOR, ISSUER, KEYRING, LOG, Story, train

from aqpolicy.cli.main import main
from aqpolicy.errors import BundleSignatureError, InputError, LineageError, ProvenanceError, SignatureError
from aqpolicy.gate import attach
from aqpolicy.lineage import LineageReader, LineageWriter, verify_log
from aqpolicy.trace import open_run
from aqpolicy.trust import Keyring, Retired, SigningKey, VerifyKey, parse_keyring, sign_keyring

NEXT = SigningKey.from_seed("next", bytes([55]) * 32)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return train(tmp_path, Story({"1-a": "reader0", "1-b": "reader1"}, tables([[1.0, 1.0], [1.0, 1.0]])))


def rotated(run: Path) -> Keyring:
    """Return a keyring in which every key that the run knew was retired with what its log holds."""
    with LineageReader(run, KEYRING) as reader:
        bound = Retired("", ((reader.checkpoint.origin, reader.checkpoint.size),))
    old = {"policy-author": AUTHOR, "manifest-issuer": ISSUER, "log": LOG}
    kept = {role: VerifyKey(key.name, key.verify_key.public, bound) for role, key in old.items()}
    fresh = SigningKey.from_seed("fresh", bytes([56]) * 32).verify_key
    return Keyring({role: (key, NEXT.verify_key if role == "log" else fresh) for role, key in kept.items()})


def test_a_run_whose_keys_were_all_rotated_is_opened(run: Path) -> None:
    keyring = rotated(run)
    assert open_run(run, keyring).blocks == open_run(run, KEYRING).blocks
    strangers = {role: keys[1:] for role, keys in keyring.roles.items() if role != "log"}
    with pytest.raises(BundleSignatureError, match="no trusted key"):
        open_run(run, Keyring({**keyring.roles, **strangers}))


def test_a_rotated_log_key_signs_no_more_and_its_successor_goes_on(run: Path) -> None:
    keyring = rotated(run)
    with pytest.raises(LineageError, match="is not the key of this log"):
        LineageWriter.open_for_status(run, LOG, keyring)
    writer = LineageWriter.open_for_status(run, NEXT, keyring)
    index = writer.append_status({"event": "seen"})
    writer.close()
    assert verify_log(run, keyring).entries == index + 1
    with pytest.raises(SignatureError):
        verify_log(run, KEYRING)


def test_nothing_is_learned_under_a_keyring_that_has_ended(run: Path) -> None:
    root = SigningKey.from_seed("root", bytes([57]) * 32).verify_key
    ended = Keyring({**KEYRING.roles, "root": (root,)}, 1, "2026-01-31")
    files = {"bundle": run / "bundle.aqb", "manifest": run / "manifest.aqm", "keyring": ended}
    with pytest.raises(SignatureError, match="ended on 2026-01-31"):
        attach(None, None, **files, unsafe_without_lineage=True, today=date(2026, 2, 1))  # type: ignore[arg-type]  # not reached
    assert open_run(run, ended).blocks  # what was signed before is verified regardless


def test_verifying_tells_of_what_revocations_reach(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writer = LineageWriter.open_for_status(run, LOG, KEYRING)
    told = {"event": "revoked", "credential": "reader0", "kind": "compromised", "reason": "compromised: x", "time_s": 9}
    index = writer.append_status(told)
    writer.close()
    KEYRING.save(run.parent / "k.json")
    assert main(["log", "verify", str(run), "--keyring", str(run.parent / "k.json")]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("revoked"))
    assert "labels of `reader0` came up 2 times in 2 steps" in line
    assert f"(entry {index})" in line


def test_a_keyring_that_ends_soon_is_told_and_still_used(run: Path) -> None:
    root = SigningKey.from_seed("root", bytes([57]) * 32)
    draft = Keyring({**KEYRING.roles, "root": (root.verify_key,)}, 1, "2026-02-03")
    ending = parse_keyring(sign_keyring(draft, [root]))
    files = {"bundle": run / "nowhere.aqb", "manifest": run / "manifest.aqm", "keyring": ending}
    with pytest.warns(UserWarning, match="the keyring ends on 2026-02-03"), pytest.raises(InputError):
        attach(None, None, **files, unsafe_without_lineage=True, today=date(2026, 2, 1))  # type: ignore[arg-type]  # not reached


def test_a_manifest_for_another_purpose_teaches_nothing(run: Path) -> None:
    files = {"bundle": run / "bundle.aqb", "manifest": run / "manifest.aqm", "keyring": KEYRING}
    with pytest.raises(ProvenanceError, match="is for `training`, not for `evaluation`"):
        attach(None, None, **files, unsafe_without_lineage=True, purpose="evaluation")  # type: ignore[arg-type]  # not reached
