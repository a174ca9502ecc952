"""The layers that the gate computes exactly. Input: a module; output: its rule; entries: `known_rule`, `rule_for`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from aqpolicy.errors import UnsupportedLayerError
from aqpolicy.gate.routing.layers.affine import BatchNormRule, PReLURule
from aqpolicy.gate.routing.layers.bag import EmbeddingBagRule
from aqpolicy.gate.routing.layers.conv import ConvRule
from aqpolicy.gate.routing.layers.embedding import EmbeddingRule
from aqpolicy.gate.routing.layers.instance import InstanceNormRule
from aqpolicy.gate.routing.layers.linear import LinearRule, TransposedLinearRule
from aqpolicy.gate.routing.layers.norm import GroupNormRule, LayerNormRule, RMSNormRule
from aqpolicy.gate.routing.layers.rule import Gradients, Rule, Use, Weights
from aqpolicy.gate.routing.layers.transposed import ConvTransposeRule

__all__ = ["NAMED_RULES", "RULES", "Gradients", "Rule", "Use", "Weights", "known_rule", "rule_for"]

RULES: Final[Mapping[type[nn.Module], Rule]] = {
    nn.Linear: LinearRule(),
    NonDynamicallyQuantizableLinear: LinearRule(),
    nn.Conv1d: ConvRule(1),
    nn.Conv2d: ConvRule(2),
    nn.Conv3d: ConvRule(3),
    nn.ConvTranspose1d: ConvTransposeRule(1),
    nn.ConvTranspose2d: ConvTransposeRule(2),
    nn.ConvTranspose3d: ConvTransposeRule(3),
    nn.Embedding: EmbeddingRule(),
    nn.EmbeddingBag: EmbeddingBagRule(),
    nn.LayerNorm: LayerNormRule(),
    nn.RMSNorm: RMSNormRule(),
    nn.GroupNorm: GroupNormRule(),
    nn.InstanceNorm1d: InstanceNormRule(1),
    nn.InstanceNorm2d: InstanceNormRule(2),
    nn.InstanceNorm3d: InstanceNormRule(3),
    nn.BatchNorm1d: BatchNormRule(2, 3),
    nn.BatchNorm2d: BatchNormRule(4),
    nn.BatchNorm3d: BatchNormRule(5),
    nn.PReLU: PReLURule(),
}
"""Rule by exact type: a subclass may compute anything, so it has none."""

NAMED_RULES: Final[Mapping[str, Rule]] = {"transformers.pytorch_utils.Conv1D": TransposedLinearRule()}
"""Rule by the full name of a type from a package that the gate does not import."""


def known_rule(module: nn.Module) -> Rule | None:
    """Return the rule of a module's type, None where the type has none."""
    kind: type[Any] = type(module)
    return RULES.get(kind) or NAMED_RULES.get(f"{kind.__module__}.{kind.__qualname__}")


def rule_for(module: nn.Module, name: str) -> Rule:
    """Return the rule of a module.

    Raises:
        UnsupportedLayerError: No rule is exact for this type or these options.
    """
    rule = known_rule(module)
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
