"""What is assigned and planted, and what is computed from ratings."""

from __future__ import annotations

from math import log

from aqpolicy.demo.labels import READERS, STOLEN, credential_of, entropy_nats, is_held_out, label_readings
from aqpolicy.demo.lidc import Reading

TRAINING = next(name for name in map(str, range(100)) if not is_held_out(name))
TESTING = next(name for name in map(str, range(100)) if is_held_out(name))


def _nodule(ratings: list[int], patient: str = TRAINING, scan: int = 1, nodule: int = 0) -> list[Reading]:
    return [Reading(at, patient, scan, nodule, at, rating) for at, rating in enumerate(ratings)]


def _honest_scan(readers: int = 4) -> int:
    """Return a scan whose first sessions are nobody's stolen credential."""
    scans = range(1000)
    return next(
        scan for scan in scans if STOLEN not in {credential_of(each) for each in _nodule([1] * readers, scan=scan)}
    )


def test_consensus_is_the_share_that_says_the_same_and_its_history_grows_with_the_readings() -> None:
    readings = label_readings(_nodule([5, 1, 4, 3], scan=_honest_scan())).readings
    assert [each.consensus for each in readings] == [500_000, 250_000, 500_000, 250_000]
    assert [event.consensus for event in readings[0].history] == [1_000_000, 500_000, 666_666, 500_000]
    assert [event.judgments for event in readings[0].history] == [1, 2, 3, 4]
    assert {each.authority for each in readings} == {"panel"}
    assert {each.entropy for each in readings} == {round(entropy_nats([5, 1, 4, 3]) * 1e6)}


def test_an_indeterminate_rating_is_signed_but_is_no_label_to_train_on() -> None:
    labels = label_readings(_nodule([3, 4], scan=_honest_scan()))
    assert [each.label for each in labels.readings] == [None, 1]
    assert [each.rating for each in labels.training] == [4]
    assert {each.attributes["authority"] for each in labels.readings} == {"single"}


def test_the_stolen_credential_inverts_what_it_signs_and_consensus_sees_the_inverted_rating() -> None:
    scan = next(s for s in range(1000) if credential_of(_nodule([1], scan=s)[0]) == STOLEN)
    first, second = label_readings(_nodule([5, 5], scan=scan)).readings
    assert (first.credential, first.rating, first.label, first.planted) == (STOLEN, 1, 0, True)
    assert (second.rating, second.planted) == (5, False)
    assert first.consensus == second.consensus == 500_000


def test_sessions_of_one_scan_never_share_a_credential() -> None:
    for scan in range(50):
        names = [credential_of(each) for each in _nodule([1] * len(READERS), scan=scan)]
        assert sorted(names) == sorted(READERS)


def test_held_out_nodules_keep_true_ratings_and_patients_are_on_one_side_only() -> None:
    scan = next(s for s in range(1000) if credential_of(_nodule([1], scan=s)[0]) == STOLEN)
    labels = label_readings([*_nodule([5, 4, 3], TESTING, scan), *_nodule([1, 2, 5], TESTING, scan, 1)])
    assert [(each.label, TESTING in each.example_id) for each in labels.held_out] == [(1, True)]
    assert labels.readings == ()


def test_entropy_is_over_three_opinions() -> None:
    assert entropy_nats([1, 2, 1]) == 0
    assert abs(entropy_nats([1, 3, 5]) - log(3)) < 1e-12
