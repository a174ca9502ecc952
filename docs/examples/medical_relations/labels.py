"""Turn opinions into labels that can be signed and taught, and split sentences by a seed.

An example, as the gate sees it, is one label of one sentence by one source. So a sentence that
all three sources labelled is three examples.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from sentences import Relation, Sentence

from aqpolicy.units import MICRO

Source = Literal["machine", "crowd", "expert"]

SOURCES: Final[tuple[Source, ...]] = ("machine", "crowd", "expert")
AGREED: Final = 0.8
"""From here on a crowd counts as agreed; the policies say the same."""
_EVEN: Final = 0.5
"""The crowd's score from which its label is positive: the threshold of the data's authors."""


@dataclass(frozen=True, slots=True)
class Label:
    """What one source says of one relation in one sentence."""

    sentence: int
    """Position of the sentence in the corpus."""
    example_id: str
    relation: Relation
    source: Source
    positive: bool
    agreement: float
    judgments: int

    @property
    def attributes(self) -> dict[str, str | int]:
        """What the policies may ask about; numbers in millionths."""
        return {
            "authority": self.source,
            "relation": self.relation,
            "agreement": round(self.agreement * MICRO),
            "judgments": self.judgments * MICRO,
        }


@dataclass(frozen=True, slots=True)
class Split:
    """What one seed makes of one relation: labels to learn from, and sentences to be tested on."""

    taught: tuple[Label, ...]
    tested: tuple[int, ...]
    """Positions of adjudicated sentences, none of which has a label in `taught`."""


def labels_of(sentences: Sequence[Sentence], relation: Relation) -> tuple[Label, ...]:
    """Return every label of a relation, sentence after sentence."""
    return tuple(label for at, sentence in enumerate(sentences) for label in _labels(at, sentence, relation))


def _labels(at: int, sentence: Sentence, relation: Relation) -> list[Label]:
    opinions = sentence.opinions[relation]
    crowd = opinions.crowd >= _EVEN
    agreement = opinions.crowd if crowd else 1 - opinions.crowd
    says: dict[Source, tuple[bool | None, float, int]] = {
        "machine": (opinions.machine, 1.0, 1),
        "crowd": (crowd, agreement, sentence.workers),
        "expert": (opinions.expert, 1.0, 1),
    }
    return [
        Label(at, f"{relation}/{sentence.name}/{source}", relation, source, positive, agreement, judgments)
        for source, (positive, agreement, judgments) in says.items()
        if positive is not None
    ]


def split(
    sentences: Sequence[Sentence], relation: Relation, seed: int, *, reviewed: int, unreviewed: int, most_tested: int
) -> Split:
    """Draw which sentences teach and which test.

    Args:
        sentences: The corpus.
        relation: Which question.
        seed: Decides the draw.
        reviewed: How many adjudicated sentences are moved from the test to the teaching; their expert labels teach,
            the adjudication itself never does.
        unreviewed: How many sentences teach that no expert has seen.
        most_tested: At most so many of the remaining adjudicated sentences are tested.
    """
    opinions = [sentence.opinions[relation] for sentence in sentences]
    adjudicated = [at for at, opinion in enumerate(opinions) if opinion.adjudicated is not None]
    unseen = [at for at, opinion in enumerate(opinions) if opinion.expert is None and not opinion.unclear]
    dice = random.Random(f"{relation}/{seed}")  # noqa: S311 - a draw that anybody can repeat, no secret
    dice.shuffle(adjudicated)
    dice.shuffle(unseen)
    same = _Texts(sentences)
    teaching = {*adjudicated[:reviewed], *unseen[:unreviewed]}
    tested = [at for at in adjudicated[reviewed:] if not same.shared(at, teaching)][:most_tested]
    labels = labels_of(sentences, relation)
    return Split(tuple(label for label in labels if label.sentence in teaching), tuple(tested))


class _Texts:
    """Finds sentences that have the same words: about a dozen stand in the corpus twice, with other terms."""

    def __init__(self, sentences: Sequence[Sentence]) -> None:
        self._keys = [" ".join(sentence.text.lower().split()) for sentence in sentences]

    def shared(self, at: int, others: set[int]) -> bool:
        """Return whether one of the others has the words of this sentence."""
        return self._keys[at] in {self._keys[other] for other in others}
