"""Bytes that a stranger gives us raise the errors of bundles and nothing else."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqpolicy.bundle import (
    NO_LIMIT,
    AttributeTable,
    BudgetTable,
    Bundle,
    EvidenceTable,
    ObligationTable,
    Row,
    StageTable,
    Tables,
    decode_bundle,
    encode_bundle,
    open_bundle,
    seal_bundle,
)
from aqpolicy.errors import BundleError, BundleSignatureError, MalformedBundleError
from aqpolicy.trust import Keyring, SigningKey, canonical_json

KEY = SigningKey.from_seed("author", bytes(range(32)))
KEYRING = Keyring.of([("policy-author", KEY.verify_key)])
ERROR = Row("deny", "error", (0,), (NO_LIMIT,), (0,), (), "an attribute is missing")
SOME = Row("admit", "granted", (1_000_000,), (NO_LIMIT,), (1_000_000,), ("all",), "everything", (), (0, 2, 3))
SLOPED = Row(
    "modulate", "granted", (2_000_000,), (NO_LIMIT,), (2_000_000,), ("all",), "some", ((0, 0, 0, 1), (0, 0, 5, 0))
)
WAITS = Row("defer", "denied", (0,), (NO_LIMIT,), (0,), ("all",), "wait", (), (1,))
BUNDLE = Bundle(
    tables=Tables(
        groups=("head",),
        attributes=(
            AttributeTable("consensus", "numeric", (), (0, 500_000), 1_000_000, 1, (0, 1)),
            AttributeTable("phase", "category", ("warm", "main"), (), 0, 1, (0, 1), "run"),
        ),
        rows=(ERROR, SOME, SLOPED, WAITS),
        row_of_vector={1: 1, 2: 2, 3: 3},
        budgets=(
            BudgetTable("any", (0,), 6_000_000, NO_LIMIT, 10**9, NO_LIMIT, "halt", (("surprisal", "step", 10**9),)),
        ),
        obligations=(
            ObligationTable("frequency", "all", "seldom", {"groups": (0,), "steps": 10, "updates": 1}),
            ObligationTable("defer", "all", "wait", {"epochs": 3}),
            ObligationTable(
                "verify",
                "all",
                "look",
                {"amount": 1, "direction": "falls", "metric": "gold.auc", "remedy": "hold", "steps": 9},
            ),
            ObligationTable("promote", "all", "later", {"metric": "gold.auc", "op": ">=", "value": -1, "witnesses": 2}),
        ),
        requires=(
            "amplify",
            "deferral",
            "evidence weighting",
            "frequency limit",
            "linear share",
            "phases",
            "promotion",
            "stages",
            "surprisal per step",
            "verification",
        ),
        evidence=EvidenceTable((("authority", (("board", 1),)),), ("session",), 0, 9),
        phases=("warm", "main"),
        stages=(StageTable("basic"), StageTable("advanced", (("gold.auc", ">=", 900_000), ("harm", "<", 1)))),
    ),
    policy_name="p",
    policy_version="1.0.0",
    taxonomy="t@1",
    parameters=((("head.weight", (2, 8)),),),
    digests={"source": "sha256:00"},
    source_map={"all": "policy.aqp:3"},
    findings=(),
)
PAYLOAD = encode_bundle(BUNDLE)
FILE = seal_bundle(PAYLOAD, [KEY])


def test_the_bundle_that_is_spoiled_below_is_a_good_one() -> None:
    assert decode_bundle(PAYLOAD).tables == BUNDLE.tables


@pytest.mark.parametrize("position", range(0, len(FILE), 7))
def test_no_flipped_bit_is_accepted(position: int) -> None:
    data = bytearray(FILE)
    data[position] ^= 1
    with pytest.raises(BundleError):
        open_bundle(bytes(data), KEYRING)


@pytest.mark.parametrize("size", [0, 1, len(FILE) // 2, len(FILE) - 1])
def test_no_cut_file_is_accepted(size: int) -> None:
    with pytest.raises(BundleError):
        open_bundle(FILE[:size], KEYRING)


def test_no_file_without_signatures_is_accepted() -> None:
    envelope = json.loads(FILE)
    envelope["signatures"] = []
    with pytest.raises(BundleError):
        open_bundle(canonical_json(envelope), KEYRING)


def test_an_exchanged_payload_is_not_accepted() -> None:
    one, other = json.loads(FILE), json.loads(seal_bundle(PAYLOAD.replace(b'"p"', b'"q"'), [KEY]))
    one["payload"] = other["payload"]
    with pytest.raises(BundleSignatureError):
        open_bundle(canonical_json(one), KEYRING)


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_noise_is_refused_with_our_errors(noise: bytes) -> None:
    with pytest.raises(BundleError):
        open_bundle(noise, KEYRING)
    with pytest.raises(MalformedBundleError):
        decode_bundle(noise)


def places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every member and element."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


TREE = json.loads(PAYLOAD)
PLACES = list(places(TREE))


def changed(path: tuple[str | int, ...], change: Callable[[dict | list, str | int], None]) -> bytes:
    tree = copy.deepcopy(TREE)
    holder = tree
    for key in path[:-1]:
        holder = holder[key]
    change(holder, path[-1])
    return canonical_json(tree)


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ".".join(map(str, path)))
def test_a_value_of_another_type_is_refused(path: tuple[str | int, ...]) -> None:
    def spoil(holder: dict | list, key: str | int) -> None:
        holder[key] = True

    with pytest.raises(MalformedBundleError):
        decode_bundle(changed(path, spoil))


FIXED = [path for path in PLACES if isinstance(path[-1], str) and path[0] not in ("digests", "source_map")]


@pytest.mark.parametrize(
    "path",
    [path for path in FIXED if path[:2] != ("tables", "vectors") or len(path) == 2],
    ids=lambda p: ".".join(map(str, p)),
)
def test_a_missing_member_is_refused(path: tuple[str | int, ...]) -> None:
    def remove(holder: dict | list, key: str | int) -> None:
        del holder[key]

    with pytest.raises(MalformedBundleError):
        decode_bundle(changed(path, remove))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("tables", "vectors", "1"), 0),
        (("tables", "vectors", "1"), 4),
        (("tables", "rows", 1, "shares"), [1_000_001]),
        (("tables", "rows", 2, "shares"), [100_000_001]),
        (("tables", "rows", 1, "shares"), [-1]),
        (("tables", "rows", 1, "shares"), [0]),
        (("tables", "rows", 1, "shares"), [1_000_000, 1_000_000]),
        (("tables", "rows", 0, "shares"), [1_000_000]),
        (("tables", "rows", 0, "cause"), "granted"),
        (("tables", "rows", 1, "norms"), [-2]),
        (("tables", "rows"), []),
        (("tables", "budgets", 0, "groups"), [1]),
        (("tables", "budgets", 0, "on_exhaust"), "ignore"),
        (("tables", "attributes", 0, "breaks"), [500_000, 0]),
        (("tables", "attributes", 0, "high"), -1),
        (("tables", "attributes", 0, "step"), 0),
        (("tables", "attributes", 0, "vectors"), ["1"]),
        (("tables", "attributes", 0, "vectors"), ["0", "0x1"]),
        (("tables", "groups"), ["head", "head"]),
        (("parameters",), []),
        (("parameters",), [[["w", [1]], ["w", [1]]]]),
        (("language",), 99),
        (("format",), "aqpolicy bundle 1"),
        (("tables", "attributes"), []),
        (("tables", "attributes", 0, "origin"), "elsewhere"),
        (("tables", "attributes", 0, "origin"), "run"),
        (("tables", "rows", 0, "obligations"), [0]),
        (("tables", "rows", 1, "obligations"), [1]),
        (("tables", "rows", 1, "obligations"), [0, 1]),
        (("tables", "rows", 1, "obligations"), [2, 0]),
        (("tables", "rows", 1, "obligations"), [0, 0]),
        (("tables", "rows", 1, "obligations"), [4]),
        (("tables", "rows", 1, "obligations"), [-1]),
        (("tables", "rows", 1, "effect"), "modulate"),
        (("tables", "rows", 1, "effect"), "defer"),
        (("tables", "rows", 1, "charged"), [999_999]),
        (("tables", "rows", 1, "norms"), [5]),
        (("tables", "rows", 2, "effect"), "admit"),
        (("tables", "rows", 2, "linear"), [[1, 0, 0, 1]]),
        (("tables", "rows", 2, "linear"), [[-1, 0, 0, 1]]),
        (("tables", "rows", 2, "linear"), [[0, 1, 0, 1]]),
        (("tables", "rows", 2, "linear"), [[0, 2, 0, 1]]),
        (("tables", "rows", 2, "linear"), [[0, 0, 0]]),
        (("tables", "rows", 2, "linear"), [[0, 0, 5, 0], [0, 0, 0, 1]]),
        (("tables", "rows", 2, "linear"), [[0, 0, 0, 1], [0, 0, 0, 1]]),
        (("tables", "rows", 3, "linear"), [[0, 0, 0, 1]]),
        (("tables", "rows", 3, "obligations"), []),
        (("tables", "rows", 3, "obligations"), [0]),
        (("tables", "rows", 3, "obligations"), [1, 2]),
        (("tables", "rows", 3, "effect"), "deny"),
        (("tables", "rows", 3, "cause"), "default"),
        (("tables", "rows", 3, "shares"), [1_000_000]),
        (("tables", "budgets", 0, "groups"), [0, 0]),
        (("tables", "budgets", 0, "meters"), [["surprisal", "epoch", 1]]),
        (("tables", "budgets", 0, "meters"), [["surprisal", "step", 1], ["surprisal", "step", 2]]),
        (("tables", "budgets", 0, "meters"), [["surprisal", "step", 1], ["drift", "run", 2]]),
        (("tables", "budgets", 0, "meters"), [["patience", "step", 1]]),
        (("tables", "budgets", 0, "meters"), [["surprisal", "year", 1]]),
        (("tables", "budgets", 0, "meters"), [["surprisal", "step", -1]]),
        (("tables", "budgets", 0, "meters"), [["drift", "run", 1]]),
        (("tables", "evidence"), {}),
        (("tables", "evidence", "floor"), 10),
        (("tables", "evidence", "independent_by"), ["session", "session"]),
        (("tables", "evidence", "weights"), [["authority", [["board", -1]]]]),
        (("tables", "evidence", "weights"), [["authority", [["board", 1], ["board", 2]]]]),
        (("tables", "evidence", "weights"), [["authority", []], ["authority", []]]),
        (("tables", "obligations", 0, "kind"), "favour"),
        (("tables", "obligations", 0, "kind"), "defer"),
        (("tables", "obligations", 0, "parameters", "groups"), [1]),
        (("tables", "obligations", 0, "parameters", "groups"), [0, 0]),
        (("tables", "obligations", 0, "parameters", "steps"), 0),
        (("tables", "obligations", 1, "parameters", "epochs"), -1),
        (("tables", "obligations", 2, "parameters", "direction"), "sideways"),
        (("tables", "obligations", 2, "parameters", "remedy"), "ignore"),
        (("tables", "obligations", 2, "parameters", "steps"), 0),
        (("tables", "obligations", 3, "parameters", "op"), "!="),
        (("tables", "obligations", 3, "parameters", "witnesses"), -1),
        (("tables", "phases"), []),
        (("tables", "phases"), ["main", "warm"]),
        (("tables", "phases"), ["warm", "main", "late"]),
        (("tables", "phases"), ["warm", "warm"]),
        (("tables", "stages", 1, "name"), "basic"),
        (("tables", "stages", 1, "requires"), [["gold.auc", ">="]]),
        (("tables", "stages", 1, "requires"), [["gold.auc", "!=", 1]]),
        (("tables", "stages", 1, "requires"), [["gold.auc", ">=", "0.9"]]),
        (("tables", "stages", 1, "requires"), {"gold.auc": 1}),
        (("tables", "requires"), BUNDLE.tables.requires[::-1]),
        (("tables", "requires"), [*BUNDLE.tables.requires, "verification"]),
        *(
            (("tables", "requires"), [one for one in BUNDLE.tables.requires if one != left])
            for left in BUNDLE.tables.requires
        ),
    ],
    ids=str,
)
def test_an_impossible_value_is_refused(path: tuple[str | int, ...], value: object) -> None:
    def put(holder: dict | list, key: str | int) -> None:
        holder[key] = value

    with pytest.raises(MalformedBundleError):
        decode_bundle(changed(path, put))
