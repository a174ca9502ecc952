"""Promotion: what a run owes, where its model goes, and that nobody but enough trusted witnesses carries it further."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.candidates import ANN, BEN, CAT, MODEL, STRANGER, TRUSTED, write_candidate
from support.lineage_runs import KEY, KEYRING
from support.promises import policy, promote, verify

from aqpolicy.errors import (
    CanonicalError,
    CorruptLogError,
    IllegalTrainingSetupError,
    InputError,
    LineageError,
    SignatureError,
)
from aqpolicy.gate.records.promotion import Promotions, Verdict, candidate_file, model_file, publish
from aqpolicy.gate.records.witnesses import PAYLOAD_TYPE, ROLE, Candidate, open_candidate
from aqpolicy.lineage import LineageReader, LineageWriter, verify_log
from aqpolicy.trust import Keyring, SigningKey, digest_text, seal, sha256
from aqpolicy.units import MICRO

VALUES = {"gold": 900_000, "harm": 10_000}


def promotions(*obligations: Any, ask: tuple[int, ...] = ()) -> Promotions:
    found = Promotions(policy((), obligations))
    found.ask(ask)
    return found


def judged(*obligations: Any, ask: tuple[int, ...] = (0,), **more: Any) -> Verdict:
    return promotions(*obligations, ask=ask).judge(VALUES.__getitem__, **more)


def test_a_run_that_owes_nothing_publishes_without_looking() -> None:
    verdict = promotions(promote()).judge(lambda _: pytest.fail("a metric was looked at"))
    assert verdict == Verdict("published")
    assert verdict.event("model", b"", 1) is None
    assert verdict.file("model") == "model.pt"


def test_what_an_admitted_update_asked_for_is_owed_to_the_end() -> None:
    found = promotions(verify(), promote(), promote("harm", "<=", 0.01))
    found.ask({0})
    assert found.owed == frozenset()
    found.ask({1})
    found.ask(())
    assert found.owed == {1}


@pytest.mark.parametrize(("value", "stage"), [(0.9, "executed"), (0.900001, "refused"), (0.899999, "executed")])
def test_a_metric_must_hold_when_the_model_is_published(value: float, stage: str) -> None:
    verdict = judged(promote(value=value))
    assert verdict.stage == stage
    assert verdict.checks[0]["now"] == 900_000
    assert verdict.file("model") == ("model.pt" if stage == "executed" else "model.candidate.pt")


def test_every_obligation_must_hold_and_the_most_witnesses_count() -> None:
    both = (promote(witnesses=1), promote("harm", "<", 0.02, witnesses=3))
    assert judged(*both, ask=(0, 1)) == Verdict("tentative", 3, judged(*both, ask=(0, 1)).checks)
    assert judged(*both, ask=(0,)).witnesses == 1
    assert judged(promote(), promote("harm", ">", 0.02), ask=(0, 1)).stage == "refused"


@pytest.mark.parametrize("owed", [(), (0,)])
def test_what_still_waits_for_a_verification_is_refused(owed: tuple[int, ...]) -> None:
    verdict = judged(promote(), ask=owed, unverified={7, 3})
    assert verdict.stage == "refused"
    event = verdict.event("model", bytes(32), 5)
    assert event is not None
    assert event["unverified"] == [3, 7]


def test_a_saved_state_goes_on_and_one_of_other_obligations_is_refused() -> None:
    found = promotions(promote(), ask=(0,))
    again = promotions(promote())
    again.load_state_dict(found.state_dict())
    assert again.owed == {0}
    for wrong in ({}, {"obligations": [0], "owed": [1]}, promotions(verify(), promote()).state_dict()):
        with pytest.raises(IllegalTrainingSetupError, match="other obligations to promote"):
            again.load_state_dict(wrong)


@pytest.mark.parametrize("name", ["", "../model", "a/b", "model.candidate", ".hidden", "-x", "a\n", "é", "x" * 65])
def test_a_name_that_could_lead_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot name a model"):
        model_file(name)
    with pytest.raises(InputError, match="cannot name a model"):
        publish(tmp_path, name, MODEL, Verdict("published"), log=pytest.fail, step=1, facts={})
    assert list(tmp_path.iterdir()) == []


def test_no_file_is_there_that_the_log_does_not_tell_of(tmp_path: Path) -> None:
    class Full:
        def append_event(self, _: Any) -> None:
            pass

        def append_model(self, *_: Any) -> None:
            raise LineageError("no space")

    for stage in ("published", "tentative", "refused", "executed"):
        with pytest.raises(LineageError):
            publish(tmp_path, "model", MODEL, Verdict(stage), log=Full(), step=1, facts={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("verdict", "file"),
    [
        (Verdict("published"), "model.pt"),
        (Verdict("executed"), "model.pt"),
        (Verdict("tentative", 1), "model.candidate.pt"),
        (Verdict("refused", 1), "model.candidate.pt"),
    ],
)
def test_the_log_tells_of_the_model_and_of_its_stage(tmp_path: Path, verdict: Verdict, file: str) -> None:
    run = write_candidate(tmp_path / "run", verdict)
    assert (run / file).read_bytes() == MODEL
    assert {path.name for path in run.glob("*.pt")} == {file}
    assert verify_log(run, TRUSTED).ended
    with LineageReader(run, TRUSTED) as reader:
        assert reader.models[0]["model"] == sha256(MODEL).hex()
        stages = [event["state"] for event in reader.statuses]
    assert stages == ([] if verdict.stage == "published" else [verdict.stage])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_candidate(tmp_path / "run")


def opened(run: Path, name: str = "model") -> Candidate:
    return open_candidate(run, TRUSTED, name)


def stages(run: Path) -> list[str]:
    with LineageReader(run, TRUSTED) as reader:
        return [event["state"] for event in reader.statuses]


def test_enough_witnesses_and_the_key_of_the_log_publish_the_model(run: Path) -> None:
    candidate = opened(run)
    assert (candidate.stage, candidate.witnesses, candidate.digest) == ("tentative", 2, digest_text(sha256(MODEL)))
    candidate.sign(ANN, TRUSTED)
    with pytest.raises(SignatureError, match="1 of 2 witnesses have signed"):
        candidate.execute(KEY, TRUSTED)
    opened(run).sign(CAT, TRUSTED)
    assert opened(run).execute(KEY, TRUSTED) == run / "model.pt"
    assert (run / "model.pt").read_bytes() == MODEL
    assert not (run / candidate_file("model")).exists()
    assert stages(run) == ["tentative", "witnessed", "executed"]
    verify_log(run, TRUSTED)


def test_the_signatures_stand_in_the_log(run: Path) -> None:
    for key in (ANN, BEN):
        opened(run).sign(key, TRUSTED)
    opened(run).execute(KEY, TRUSTED)
    with LineageReader(run, TRUSTED) as reader:
        (witnessed,) = [event for event in reader.statuses if event["state"] == "witnessed"]
    assert witnessed["signed_by"] == [ANN.verify_key.label, BEN.verify_key.label]
    assert witnessed["envelope"].encode() == (run / "model.witnesses.json").read_bytes()


def test_nobody_witnesses_twice(run: Path) -> None:
    opened(run).sign(ANN, TRUSTED)
    with pytest.raises(InputError, match="has witnessed this candidate already"):
        opened(run).sign(ANN, TRUSTED)
    assert opened(run).signers(TRUSTED) == (ANN.verify_key,)


@pytest.mark.parametrize("key", [STRANGER, KEY])
def test_a_key_that_is_no_trusted_witness_signs_nothing(run: Path, key: Any) -> None:
    with pytest.raises(InputError, match="is not trusted as `witness`"):
        opened(run).sign(key, TRUSTED)
    assert not (run / "model.witnesses.json").exists()
    with pytest.raises(InputError, match="is not trusted as `witness`"):
        opened(run).sign(ANN, KEYRING)


def test_strangers_count_for_nothing(run: Path) -> None:
    candidate = opened(run)
    (run / "model.witnesses.json").write_bytes(seal(PAYLOAD_TYPE, candidate.statement, [ANN, STRANGER, KEY]))
    assert candidate.signers(TRUSTED) == (ANN.verify_key,)
    with pytest.raises(SignatureError, match="1 of 2"):
        candidate.execute(KEY, TRUSTED)
    (run / "model.witnesses.json").write_bytes(seal(PAYLOAD_TYPE, candidate.statement, [STRANGER, KEY]))
    with pytest.raises(SignatureError, match="no trusted key signed"):
        candidate.execute(KEY, TRUSTED)
    assert stages(run) == ["tentative"]


def _other_digest(candidate: Candidate) -> bytes:
    return candidate.statement.replace(candidate.digest.encode(), b"sha256:" + b"0" * 64)


def _other_log(candidate: Candidate) -> bytes:
    return candidate.statement.replace(candidate.origin.encode(), b"aqpolicy.local/run/" + b"0" * 32)


def _other_name(candidate: Candidate) -> bytes:
    return candidate.statement.replace(b'"model"', b'"merged"')


@pytest.mark.parametrize("other", [_other_digest, _other_log, _other_name])
def test_signatures_over_another_digest_log_or_name_are_worth_nothing(
    run: Path, other: Callable[[Candidate], bytes]
) -> None:
    candidate = opened(run)
    assert other(candidate) != candidate.statement
    (run / "model.witnesses.json").write_bytes(seal(PAYLOAD_TYPE, other(candidate), [ANN, BEN]))
    with pytest.raises(SignatureError, match="speaks of another candidate"):
        candidate.execute(KEY, TRUSTED)
    assert stages(run) == ["tentative"]
    candidate.sign(CAT, TRUSTED)  # begins anew, with this candidate
    assert candidate.signers(TRUSTED) == (CAT.verify_key,)


def test_a_signature_for_another_purpose_is_worth_nothing(run: Path) -> None:
    candidate = opened(run)
    (run / "model.witnesses.json").write_bytes(seal("application/other", candidate.statement, [ANN, BEN]))
    with pytest.raises(CanonicalError, match="not of the type"):
        candidate.execute(KEY, TRUSTED)


def test_a_forged_signature_of_a_trusted_witness_condemns_the_envelope(run: Path) -> None:
    candidate = opened(run)
    envelope = seal(PAYLOAD_TYPE, candidate.statement, [ANN])
    forged = seal(PAYLOAD_TYPE, candidate.statement, [STRANGER]).replace(
        STRANGER.verify_key.label.encode(), BEN.verify_key.label.encode()
    )
    for data in (forged, envelope[:-1], b"{}", b"\xff"):
        (run / "model.witnesses.json").write_bytes(data)
        for act in (lambda: candidate.execute(KEY, TRUSTED), lambda: candidate.sign(CAT, TRUSTED)):
            with pytest.raises((SignatureError, CanonicalError)):
                act()
    assert stages(run) == ["tentative"]


def test_a_candidate_that_was_changed_is_neither_signed_nor_published(run: Path) -> None:
    for key in (ANN, BEN):
        opened(run).sign(key, TRUSTED)
    (run / "model.candidate.pt").write_bytes(MODEL + b"!")
    with pytest.raises(CorruptLogError, match="not the one whose digest is in the log"):
        opened(run).sign(CAT, TRUSTED)
    with pytest.raises(CorruptLogError, match="not the one whose digest is in the log"):
        opened(run).execute(KEY, TRUSTED)
    assert not (run / "model.pt").exists()
    assert stages(run) == ["tentative"]


def test_an_aborted_candidate_is_never_published(run: Path) -> None:
    for key in (ANN, BEN):
        opened(run).sign(key, TRUSTED)
    early = opened(run)
    opened(run).abort(KEY, TRUSTED)
    candidate = opened(run)
    assert candidate.stage == "aborted"
    for act in (candidate.execute, candidate.sign, candidate.abort):
        with pytest.raises(LineageError, match="was aborted"):
            act(KEY, TRUSTED)
    assert candidate.finish() is None
    with pytest.raises(LineageError, match="has grown since it was read"):
        early.execute(KEY, TRUSTED)  # it was read before the abortion
    assert opened(run).stage == "aborted"
    assert not (run / "model.pt").exists()


@pytest.mark.parametrize("stage", ["refused", "executed"])
def test_a_candidate_that_has_ended_is_not_witnessed(tmp_path: Path, stage: Any) -> None:
    candidate = opened(write_candidate(tmp_path / "run", Verdict(stage, 1)))
    with pytest.raises(LineageError, match=f"was {stage}"):
        candidate.sign(ANN, TRUSTED)


def test_only_the_key_of_the_log_executes_or_aborts(run: Path) -> None:
    for key in (ANN, BEN):
        opened(run).sign(key, TRUSTED)
    for act in (opened(run).execute, opened(run).abort):
        with pytest.raises(LineageError, match="is not the key of this log"):
            act(ANN, TRUSTED)
    assert stages(run) == ["tentative"]


def test_an_interrupted_execution_is_completed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in (ANN, BEN):
        opened(run).sign(key, TRUSTED)
    monkeypatch.setattr(Candidate, "_take_name", lambda *_: pytest.fail("the power went"))
    with pytest.raises(pytest.fail.Exception):
        opened(run).execute(KEY, TRUSTED)
    monkeypatch.undo()
    candidate = opened(run)
    assert candidate.stage == "executed"
    assert candidate.finish() == run / "model.pt"
    assert (run / "model.pt").read_bytes() == MODEL
    assert candidate.finish() is None


def test_a_later_candidate_replaces_an_earlier_one_and_its_signatures(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_candidate(run)
    opened(run).sign(ANN, TRUSTED)
    opened(run).abort(KEY, TRUSTED)
    writer = LineageWriter.open_for_status(run, KEY, TRUSTED)
    event = Verdict("tentative", 1).event("model", sha256(b"better"), 1)
    writer.append_status(event or {})
    writer.close()
    (run / "model.candidate.pt").write_bytes(b"better")
    candidate = opened(run)
    assert (candidate.stage, candidate.witnesses) == ("tentative", 1)
    with pytest.raises(SignatureError, match="another candidate"):
        candidate.signers(TRUSTED)
    candidate.sign(BEN, TRUSTED)
    candidate.execute(KEY, TRUSTED)
    assert (run / "model.pt").read_bytes() == b"better"


def test_candidates_of_other_names_are_apart(run: Path) -> None:
    with pytest.raises(InputError, match="tells of no candidate `merged`"):
        opened(run, "merged")
    with pytest.raises(InputError, match="cannot name a model"):
        opened(run, "../model")


def test_a_log_that_is_not_what_was_signed_promotes_nothing(run: Path) -> None:
    with pytest.raises(SignatureError):
        open_candidate(run, Keyring.of([("log", STRANGER.verify_key)]), "model")


def test_metrics_are_told_in_millionths() -> None:
    (check,) = judged(promote(value=0.5)).checks
    assert check == {
        "obligation": 0,
        "metric": "gold",
        "op": ">=",
        "value": MICRO // 2,
        "now": 900_000,
        "holds": True,
    }


def test_a_keyring_may_ask_for_more_witnesses_than_the_policy(run: Path) -> None:
    root = SigningKey.from_seed("root", bytes([91]) * 32)
    strict = Keyring({**TRUSTED.roles, "root": (root.verify_key,)}, 1, "2999-12-31", {ROLE: 3})
    for key in (ANN, BEN):
        opened(run).sign(key, strict)
    with pytest.raises(SignatureError, match="2 of 3 witnesses have signed"):
        opened(run).execute(KEY, strict)
    opened(run).sign(CAT, strict)
    assert opened(run).execute(KEY, strict) == run / "model.pt"
