"""Keys, signed labels and signed bundles: what a gate is attached with.

Every source signs its own labels of both relations, an issuer signs the whole, and each policy is
proved, bound to the encoder and signed by its author. The keys are made here and mean nothing
outside of the folder; with a labelling platform they are the platform's and the annotators'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from encoder import RelationModel
from labels import SOURCES, Label, labels_of
from sentences import RELATIONS, Relation, Sentence

from aqpolicy.bundle import Bundle, load_bundle, seal_bundle
from aqpolicy.gate import describe_model
from aqpolicy.library import Files, find_lock, load_lock, read_source
from aqpolicy.pipeline import Pipeline
from aqpolicy.provenance import (
    Credential,
    Field,
    Manifest,
    Observation,
    Session,
    example_digest,
    issue_manifest,
    label_digest,
    load_manifest,
)
from aqpolicy.trust import Keyring, SigningKey, canonical_json, load_keyring, replace_file

HERE: Final = Path(__file__).resolve().parent
TAXONOMY: Final = "medrel.labels@1"
SCHEMA: Final = (
    Field("authority", "category", SOURCES),
    Field("relation", "category", RELATIONS),
    Field("agreement", "numeric"),
    Field("judgments", "numeric"),
)
HOLDERS: Final = {
    "machine": "distant supervision from UMLS",
    "crowd": "fifteen workers, taken together",
    "expert": "one medical student",
}
_PUBLISHED: Final = 1_521_504_000
"""The labels carry no dates of their own; all are dated to the year of the publication."""


@dataclass(frozen=True, slots=True)
class Papers:
    """The folder with all that a gate asks for."""

    folder: Path

    @property
    def manifest(self) -> Path:
        """The signed labels."""
        return self.folder / "labels.aqm"

    @property
    def keyring(self) -> Path:
        """The public keys, by role."""
        return self.folder / "keyring.json"

    @property
    def log_key(self) -> Path:
        """The private key that signs logs."""
        return self.folder / "keys" / "log.key"

    def bundle(self, relation: Relation) -> Path:
        """The signed policy of a relation."""
        return self.folder / f"{relation}.aqb"

    def load(self, relation: Relation) -> tuple[Bundle, Manifest]:
        """Return policy and labels, verified."""
        keyring = load_keyring(self.keyring)
        return load_bundle(self.bundle(relation), keyring), load_manifest(self.manifest, keyring)


def prepare(folder: Path, sentences: Sequence[Sentence], model: RelationModel) -> Papers:
    """Make keys, sign all labels, and prove, bind and sign both policies.

    Raises:
        AqpolicyError: A policy is not proved, or does not fit the encoder.
    """
    papers = Papers(folder)
    (folder / "keys").mkdir(parents=True, exist_ok=True)
    roles = {"author": "policy-author", "issuer": "manifest-issuer", "log": "log"}
    keys = {name: SigningKey.generate(f"medical/{name}") for name in (*roles, *SOURCES)}
    keys["log"].save(papers.log_key)
    Keyring.of((roles.get(name, "annotator"), key.verify_key) for name, key in keys.items()).save(papers.keyring)
    labels = [label for relation in RELATIONS for label in labels_of(sentences, relation)]
    sessions = [
        Session(
            Credential(source, keys[source].verify_key.text, holder=HOLDERS[source]),
            keys[source],
            [_observation(label, sentences[label.sentence]) for label in labels if label.source == source],
        )
        for source in SOURCES
    ]
    issue_manifest(papers.manifest, "medical-relations", TAXONOMY, SCHEMA, sessions, keys["issuer"])
    description = canonical_json(describe_model(model))
    for relation in RELATIONS:
        payload = pipeline(relation).payload(description)
        replace_file(papers.bundle(relation), seal_bundle(payload, [keys["author"]]))
    return papers


def pipeline(relation: Relation) -> Pipeline:
    """Return the way from a relation's policy to its bundle, with the lock that pins the shared vocabulary."""
    path = HERE / f"{relation}.aqp"
    lock = find_lock(path)
    return Pipeline(read_source(path), Files(None if lock is None else load_lock(lock)))


def _observation(label: Label, sentence: Sentence) -> Observation:
    says = f"{label.relation} {'yes' if label.positive else 'no'}"
    return Observation(
        example_id=label.example_id,
        example_digest=example_digest(repr((sentence.text, sentence.first, sentence.second)).encode()),
        label_digest=label_digest(label.example_id, says.encode()),
        credential=label.source,
        observed_at=_PUBLISHED,
        attributes=label.attributes,
    )


def flat_weights(bundle: Bundle, labels: Sequence[Label]) -> torch.Tensor:
    """Return for each label the mean of its shares over the depth groups: the same policy without its depth."""
    rows = [bundle.tables.rows[bundle.tables.row_of(label.attributes)] for label in labels]
    return torch.tensor([sum(row.shares) / len(row.shares) / 1_000_000 for row in rows])
