"""Which examples a run may have kept: what was planted comes out, what was denied does not, and reports are exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.gating import tables
from support.tracing import KEYRING, LOG, Story, data_of, small_model, train
from torch import nn
from torch.nn import functional

from aqpolicy.errors import InputError, ProvenanceError, SignatureError, TraceError
from aqpolicy.provenance.memorization import MOST, REPORT_TYPE, Report, open_report, seal_report
from aqpolicy.trace import Run, open_run
from aqpolicy.trace.memorization_text import report_lines
from aqpolicy.trace.memorizing import EVERYBODY, kept_of, memorized, report_of
from aqpolicy.trust import SigningKey, canonical_json, parse_canonical, seal

NAMES = [f"{1 + number % 3}-{number}" for number in range(60)]


def clearest(kind: int, count: int) -> list[str]:
    """Return the examples of a kind that are the farthest from where the rule changes its mind."""
    own = NAMES[kind - 1 :: 3]
    return [own[at] for at in data_of(own)[:, 0].abs().argsort(descending=True)[:count].tolist()]


WRONG = (*clearest(1, 2), *clearest(2, 1))
"""Labelled against the rule that all others follow; of the first two kinds, which are admitted."""
OWNERS = {name: f"reader{number % 4}" for number, name in enumerate(NAMES)}
TABLE = tables([[1.0, 1.0], [0.0, 0.5], [0.0, 0.0]], norms=[[None, None], [None, 0.4], [None, None]])


def crossed(model: nn.Module, batch: Sequence[str]) -> torch.Tensor:
    x = data_of(batch)
    labels = (x[:, 0] > 0).long()
    flipped = torch.tensor([name in WRONG for name in batch])
    return functional.cross_entropy(model(x), torch.where(flipped, 1 - labels, labels), reduction="none")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    story = Story(OWNERS, TABLE, epochs=12, batch=10, record="norms", settings={"lr": 0.5})
    return open_run(train(tmp_path_factory.mktemp("run"), story, small_model(), crossed), KEYRING)


def test_wrong_labels_stand_out(run: Run) -> None:
    found = memorized(run, within="kind", quantile=0.9)
    assert {one.example for kind, one in found.over if kind == "1"} == set(WRONG[:2])
    assert [one.kind for one in found.thresholds] == ["1", "2", "3"]
    assert sum(one.examples for one in found.thresholds) == len(NAMES)


def test_a_norm_limit_bounds_what_is_kept_of_the_worst_label(run: Run) -> None:
    (wrong,) = (one for one in kept_of(run) if one.example == WRONG[2])
    others = [one.of("influence") for one in kept_of(run) if one.example.startswith("1")]
    assert 0 < wrong.of("influence") <= 12 * 0.5 / 10 * (0.5 * 0.4) ** 2 + 1e-12
    assert wrong.of("influence") < max(others) / 4
    assert wrong.loss > 1


def test_what_was_denied_has_no_signal_but_its_loss(run: Run) -> None:
    for one in kept_of(run):
        if one.example.startswith("3"):
            assert (one.exposures, one.norms, one.influences, one.retained) == (0, (0.0, 0.0), (0.0, 0.0), 0.0)
            assert one.loss > 0


def test_signals_are_sums_over_the_log(run: Run) -> None:
    found = {one.example: one for one in kept_of(run)}
    for name in ("1-0", "2-1"):
        rows = [(block, row) for block, row in run.rows if run.name_of(row) == name]
        share = [1.0, 1.0] if name == "1-0" else [0.0, 0.5]
        cut = [
            [norm if name == "1-0" else min(norm, (1e9, 0.4)[at]) for at, norm in enumerate(r.norms)] for _, r in rows
        ]
        for group in (0, 1):
            masses = [share[group] * line[group] for line in cut]
            assert found[name].norms[group] == pytest.approx(sum(masses))
            assert found[name].influences[group] == pytest.approx(sum(0.5 / 10 * mass**2 for mass in masses))
        assert found[name].exposures == found[name].visits == 12
        assert found[name].retained == pytest.approx((rows[0][1].surprisal - rows[-1][1].surprisal) / 1e6)


def test_a_report_says_the_same_twice_and_is_read_back(run: Run) -> None:
    first, second = (report_of(run, memorized(run, within="kind", quantile=0.9)) for _ in range(2))
    data = seal_report(first, [LOG])
    assert data == seal_report(second, [LOG])
    assert open_report(data, KEYRING) == first
    text = "\n".join(report_lines(first, 1))
    assert "within each value of `kind`" in text
    assert f"and {len(first.over) - 1} more" in text


def test_a_report_that_was_changed_is_refused(run: Run) -> None:
    report = report_of(run, memorized(run, quantile=0.9))
    data = seal_report(report, [LOG])
    for forged in (seal_report(report, [SigningKey.generate("log")]), with_another_payload(data)):
        with pytest.raises(SignatureError):
            open_report(forged, KEYRING)
    fewer = replace_over(report, report.over[1:])
    with pytest.raises(ProvenanceError, match="does not name those"):
        open_report(seal(REPORT_TYPE, fewer, [LOG]), KEYRING)


def with_another_payload(data: bytes) -> bytes:
    """Return the envelope with one character of its payload changed."""
    facts = parse_canonical(data)
    assert isinstance(facts, dict)
    payload = str(facts["payload"])
    return canonical_json({**facts, "payload": ("A" if payload[9] != "A" else "B").join([payload[:9], payload[10:]])})


def replace_over(report: Report, over: tuple[object, ...]) -> bytes:
    """Return the payload with other examples, signed as if by the log's key."""
    facts = parse_canonical(report.to_payload())
    assert isinstance(facts, dict)
    facts["over"] = facts["over"][len(report.over) - len(over) :]
    return canonical_json(facts)


def test_a_class_too_small_for_the_quantile_has_nobody_over(run: Run) -> None:
    found = memorized(run, quantile=0.99)
    assert [(one.kind, one.over) for one in found.thresholds] == [(EVERYBODY, 0)]
    assert "No example stands out" in "\n".join(report_lines(report_of(run, found), 3))


def test_mistakes_are_said(run: Run) -> None:
    with pytest.raises(InputError, match="no quantile"):
        memorized(run, quantile=1.0)
    with pytest.raises(InputError, match="no attribute `reader`; it has kind"):
        memorized(run, within="reader")
    found = memorized(run, quantile=0.9)
    with pytest.raises(InputError, match="higher --quantile"):
        report_of(run, replace(found, over=found.over * (MOST // len(found.over) + 1)))


def test_a_run_without_norms_has_no_signals(tmp_path: Path) -> None:
    story = Story({"1-0": "a", "1-1": "a"}, epochs=1, record="decisions")
    with pytest.raises(TraceError, match="decisions only"):
        memorized(open_run(train(tmp_path, story), KEYRING))
