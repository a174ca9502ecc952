"""The layers that the gate computes exactly. Input: a module; output: its rule; entry: `rule_for`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from torch import nn

from aqpolicy.errors import UnsupportedLayerError
from aqpolicy.gate.layers.conv import ConvRule
from aqpolicy.gate.layers.embedding import EmbeddingRule
from aqpolicy.gate.layers.linear import LinearRule
from aqpolicy.gate.layers.norm import GroupNormRule, LayerNormRule
from aqpolicy.gate.layers.rule import Gradients, Rule, Use

__all__ = ["RULES", "Gradients", "Rule", "Use", "rule_for"]

RULES: Final[Mapping[type[nn.Module], Rule]] = {
    nn.Linear: LinearRule(),
    nn.Conv1d: ConvRule(1),
    nn.Conv2d: ConvRule(2),
    nn.Embedding: EmbeddingRule(),
    nn.LayerNorm: LayerNormRule(),
    nn.GroupNorm: GroupNormRule(),
}
"""Rule by exact type: a subclass may compute anything, so it is refused."""


def rule_for(module: nn.Module, name: str) -> Rule:
    """Return the rule of a module.

    Raises:
        UnsupportedLayerError: No rule is exact for this type or these options.
    """
    rule = RULES.get(type(module))
    if rule is None:
        known = ", ".join(kind.__name__ for kind in RULES)
        raise UnsupportedLayerError(
            f"module `{name}` of type `{type(module).__name__}` has trained parameters and cannot be gated exactly; "
            f"build it from {known}, or freeze it"
        )
    reason = rule.refusal(module)
    if reason is not None:
        raise UnsupportedLayerError(f"module `{name}` cannot be gated exactly: {reason}")
    return rule
