"""A11: a good manifest is used for something else, after a newer one, or by another run than the one it decided."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.attacking import begun, denied, refused, rows_of, take, take_away, unnoticed
from support.resuming import KEYRING as GATED
from support.resuming import begin, make_net, write_inputs
from support.tracing import ISSUER as ISSUER_OF_RUN
from support.tracing import KEYRING as TRACED
from support.tracing import Story, train

from aqpolicy.errors import CorruptLogError, MalformedManifestError, ManifestSignatureError, ProvenanceError
from aqpolicy.lineage.verify_entries import Entries
from aqpolicy.provenance import (
    Credential,
    Field,
    Manifest,
    Observation,
    Session,
    decode_manifest,
    encode_manifest,
    load,
)
from aqpolicy.provenance.header import HEADER_TYPE
from aqpolicy.provenance.load import refuse_other_use
from aqpolicy.trace import open_run, run
from aqpolicy.trace.run import _pin
from aqpolicy.trust import Keyring, SigningKey, canonical_json, open_envelope, parse_canonical, seal, sized

ISSUER = SigningKey.from_seed("issuer", bytes(32))
READER = SigningKey.from_seed("reader", bytes([1]) * 32)
KEYS = Keyring.of([("manifest-issuer", ISSUER.verify_key)])


def encoded(name: str = "m", tier: str = "gold", **more: Any) -> bytes:
    labels = [Observation("e", bytes(32), bytes(32), "r", 0, {"tier": tier})]
    session = Session(Credential("r", READER.verify_key.text), READER, labels)
    return encode_manifest(name, "t@1", [Field("tier", "category", ("gold", "hint"))], [session], ISSUER, **more)


def made(**more: Any) -> Manifest:
    return decode_manifest(encoded(**more), KEYS)


OLD = made()
DATA = encoded(tier="hint", serial=2, supersedes=OLD.root)
NEW = decode_manifest(DATA, KEYS)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"purpose": "evaluation"}, "the manifest `m` is for `training`, not for `evaluation`"),
        ({"least_serial": 3}, "the manifest `m` is number 2; number 3 was seen before"),
    ],
    ids=["purpose", "serial"],
)
def test_a_manifest_for_something_else_or_older_than_one_seen(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], said: str
) -> None:
    assert decode_manifest(DATA, KEYS, purpose="training", least_serial=2).serial == 2
    denied(lambda: decode_manifest(DATA, KEYS, **asked), ProvenanceError, said)
    take_away(monkeypatch, refuse_other_use, "}` is for" if "purpose" in asked else "}` is number")
    assert decode_manifest(DATA, KEYS, **asked).serial == 2


def test_a_gate_takes_no_manifest_that_is_for_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_inputs(tmp_path)
    said = "the manifest `labels` is for `training`, not for `evaluation`"
    denied(lambda: begin(tmp_path, make_net(), purpose="evaluation"), ProvenanceError, said)
    assert not (tmp_path / "run").exists()
    take_away(monkeypatch, refuse_other_use, "}` is for")
    begin(tmp_path, make_net(), purpose="evaluation", keyring=GATED).close()


def test_an_issuer_cannot_give_signed_labels_another_purpose(monkeypatch: pytest.MonkeyPatch) -> None:
    head: Any = parse_canonical(open_envelope(NEW.head, HEADER_TYPE, [ISSUER.verify_key]))
    other = seal(HEADER_TYPE, canonical_json({**head, "purpose": "evaluation"}), [ISSUER])
    data = DATA.replace(sized(NEW.head, 4), sized(other, 4))
    asked = {"purpose": "evaluation"}
    said = "session 0 is not signed under its credential `r`"
    denied(lambda: decode_manifest(data, KEYS, **asked), ManifestSignatureError, said)
    with monkeypatch.context() as without:
        take_away(without, load._verify_sessions, "is not signed under its credential")
        denied(lambda: decode_manifest(data, KEYS, **asked), MalformedManifestError, "does not cover its sessions")
    monkeypatch.setattr(load, "_verify_sessions", lambda _: None)
    assert decode_manifest(data, KEYS, **asked).purpose == "evaluation"


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            {"name": "n", "serial": 3, "supersedes": NEW.root},
            "`n` for `training` cannot take the place of `m`",
        ),
        (
            {"purpose": "evaluation", "serial": 3, "supersedes": NEW.root},
            "`m` for `evaluation` cannot take",
        ),
        ({"serial": 2, "supersedes": NEW.root}, "number 2 does not take the place of number 2"),
        ({"serial": 1}, "number 1 does not take the place of number 2"),
        ({"serial": 3}, "number 3 does not take the place of number 2"),
        ({"serial": 3, "supersedes": OLD.root}, "number 3 does not take the place of number 2"),
    ],
    ids=["name", "purpose", "same number", "older", "names none", "names an older one"],
)
def test_a_manifest_that_does_not_follow(monkeypatch: pytest.MonkeyPatch, other: dict[str, Any], said: str) -> None:
    NEW.refuse_unless_after(OLD)
    made(serial=3, supersedes=NEW.root).refuse_unless_after(NEW)
    wrong = made(**other)
    denied(lambda: wrong.refuse_unless_after(NEW), ProvenanceError, said)
    take_away(monkeypatch, Manifest.refuse_unless_after, "cannot take" if "cannot" in said else "does not take")
    wrong.refuse_unless_after(NEW)


# ---- in a log


def test_the_manifest_of_another_run_in_the_folder_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (train(tmp_path / name, Story({"1-0": name, "1-1": name}, epochs=1)) for name in ("a", "b"))
    open_run(one, TRACED)
    (one / "manifest.aqm").write_bytes((two / "manifest.aqm").read_bytes())
    assert load.load_manifest(one / "manifest.aqm", TRACED, purpose="training").size == 2  # it is a good one
    denied(
        lambda: open_run(one, TRACED), CorruptLogError, "the log was not written with this `manifest`", where="entry 0"
    )
    take_away(monkeypatch, _pin, "the log was not written with this")
    denied(lambda: open_run(one, TRACED), CorruptLogError, "the step names another bundle or manifest")
    take_away(monkeypatch, open_run, "the step names another bundle or manifest")
    assert run.open_run(one, TRACED).manifest.credentials.keys() == {"b"}


def test_the_same_labels_under_another_head_are_another_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = train(tmp_path, Story({"1-0": "a"}, epochs=1))
    file = folder / "manifest.aqm"
    own = load.load_manifest(file, TRACED)
    head: Any = parse_canonical(open_envelope(own.head, HEADER_TYPE, TRACED.keys("manifest-issuer")))
    later = seal(HEADER_TYPE, canonical_json({**head, "serial": 7}), [ISSUER_OF_RUN])
    file.write_bytes(file.read_bytes().replace(sized(own.head, 4), sized(later, 4)))
    assert load.load_manifest(file, TRACED).root == own.root
    denied(lambda: open_run(folder, TRACED), CorruptLogError, "the log was not written with this `manifest`")
    take_away(monkeypatch, _pin, "the log was not written with this")
    assert open_run(folder, TRACED).manifest.serial == 7


def test_a_step_under_a_manifest_that_is_not_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = begun(tmp_path)
    take(writer, rows_of(0, 2))
    replaced = writer._manifest_root
    writer.append_manifest(NEW.root, NEW.digest)
    writer._manifest_root = replaced  # a writer that goes back to what was in force before
    take(writer, rows_of(2, 2))
    writer._manifest_root = NEW.root
    writer.close()
    said = "the step belongs to another run, policy or manifest"
    refused(tmp_path, CorruptLogError, said, where="entry 5")
    take_away(monkeypatch, Entries._step, said)
    unnoticed(tmp_path)


def test_a_manifest_that_takes_the_place_of_one_that_was_not_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = begun(tmp_path)
    take(writer, rows_of(0, 2))
    writer._manifest_root = OLD.root
    place = writer.append_manifest(NEW.root, NEW.digest)
    take(writer, rows_of(2, 2))
    writer.close()
    refused(tmp_path, CorruptLogError, "the manifest is not that of the run", where=f"entry {place}")
    take_away(monkeypatch, Entries._ground, "is not that of the run")
    unnoticed(tmp_path)
