"""Which statements are a policy's own, and which it inherits from the policy that it extends.

An inherited rule, budget or proof that says nothing is a fault of the layer that wrote
it and was judged there: a layer that narrows may well leave it nothing to do. What is
unsafe is asked of all statements, whoever wrote them.
"""

from __future__ import annotations

from aqpolicy.model.policy import Budget, Policy, Prove, Rule


def own_rules(policy: Policy) -> list[Rule]:
    """Return the rules that the policy itself writes."""
    inherited = {rule.name for rule in policy.extends.rules} if policy.extends else set()
    return [rule for rule in policy.rules if rule.name not in inherited]


def own_budgets(policy: Policy) -> list[Budget]:
    """Return the budgets that the policy itself writes."""
    inherited = {budget.name for budget in policy.extends.budgets} if policy.extends else set()
    return [budget for budget in policy.budgets if budget.name not in inherited]


def is_own(policy: Policy, proof: Prove) -> bool:
    """Say whether the policy itself writes a proof."""
    return policy.extends is None or proof not in policy.extends.proofs
