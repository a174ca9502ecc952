"""From tree to typed policy: names, types, units.

Input: a `Tree` (or a `Source`); output: a `Policy` (`resolve`, `load_policy`).
`semantics` says what a policy means, `analysis` what follows from it.
"""

from aqpolicy.model.policy import (
    Admitted,
    All,
    Any,
    Atom,
    Attribute,
    AttributeType,
    Budget,
    Category,
    Condition,
    Deny,
    DepthGroup,
    Limit,
    LimitNorm,
    LimitShare,
    ModuleRange,
    Not,
    Numeric,
    Otherwise,
    Policy,
    Profile,
    Prove,
    Restriction,
    Rule,
    Taxonomy,
)
from aqpolicy.model.resolve import load_policy, resolve

__all__ = [
    "Admitted",
    "All",
    "Any",
    "Atom",
    "Attribute",
    "AttributeType",
    "Budget",
    "Category",
    "Condition",
    "Deny",
    "DepthGroup",
    "Limit",
    "LimitNorm",
    "LimitShare",
    "ModuleRange",
    "Not",
    "Numeric",
    "Otherwise",
    "Policy",
    "Profile",
    "Prove",
    "Restriction",
    "Rule",
    "Taxonomy",
    "load_policy",
    "resolve",
]
