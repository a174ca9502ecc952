"""Compare the writings of one meaning on one policy: evaluator, solver, mask tables, classifier, the gate's row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from aqpolicy.analysis import Prover
from aqpolicy.bundle import NO_LIMIT
from aqpolicy.bundle.classify import Classifier
from aqpolicy.compiler import Compilation, compile_with_examples
from aqpolicy.gate.accounts.decisions import Decisions
from aqpolicy.gate.accounts.state import RunState
from aqpolicy.gate.accounts.visits import Batch
from aqpolicy.model import Policy
from aqpolicy.semantics import evaluate
from aqpolicy.units import MICRO

Observation = Mapping[str, str | int]


class Signed:
    """A manifest that holds given attributes."""

    def __init__(self, observations: Sequence[Observation]) -> None:
        self._observations = observations

    @property
    def size(self) -> int:
        return len(self._observations)

    def index_of(self, example_id: str) -> int | None:
        return int(example_id)

    def attributes(self, index: int) -> Observation:
        return self._observations[index]


class Meanings:
    """One policy, written in every form."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.compilation: Compilation = compile_with_examples(policy)
        self.prover = Prover(policy)
        self.classifier = Classifier(self.compilation.tables)

    def disagreement(self, observations: Sequence[Observation]) -> str | None:
        """Return in words where two forms differ on one of the observations, or None."""
        gate = Decisions(self.compilation.tables, Signed(observations), refused=())
        for index, observation in enumerate(observations):
            said = self._said(observation, _decided(gate, index, observation))
            if len(set(said.values())) > 1:
                return f"{dict(observation)}: {said}"
        return None

    def _said(self, observation: Observation, visit: Batch) -> dict[str, object]:
        tables, decision = self.compilation.tables, evaluate(self.policy, observation)
        norms = tuple(NO_LIMIT if norm is None else norm for norm in decision.norms)
        number, route = tables.row_of(observation), int(visit.route)
        row, solved = tables.decide(observation), self.prover.decide(observation)
        values = [observation[table.name] for table in tables.attributes]
        if not number == self.classifier(values) == route:
            return {"table": number, "classifier": self.classifier(values), "gate": route}
        shares, charged = visit.shares.squeeze(0).tolist(), visit.charged.squeeze(0).tolist()
        if (tuple(shares), tuple(charged)) != (row.shares, row.charged):
            return {"table": (row.shares, row.charged), "gate": (shares, charged)}
        words = (decision.effect, decision.cause, decision.rules)
        if (row.effect, row.cause, row.rules) != words or row.reason != decision.reason:
            return {"evaluator": (*words, decision.reason), "tables": (row.effect, row.cause, row.rules, row.reason)}
        return {
            "evaluator": (decision.shares, norms, decision.charged, decision.obligations),
            "tables": (row.shares, row.norms, row.charged, row.obligations),
            "solver": (solved.shares, solved.norms, solved.charged, solved.obligations),
        }


def _decided(gate: Decisions, index: int, observation: Observation) -> Batch:
    """Return what the gate decides where the run is as the observation says."""
    numbers = {name: int(observation.get(name, 0)) // MICRO for name in ("step", "epoch", "today")}
    names = {name: str(observation.get(name, "")) for name in ("phase", "stage")}
    nats = [torch.tensor([observation.get(name, 0)]) for name in ("surprisal", "predictive_entropy")]
    return gate.decide(gate.schedule([str(index)]), RunState(**numbers, **names), *nats)
