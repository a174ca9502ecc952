"""From a typed policy to mask tables, and from depth groups to a model's parameters.

Input: a `Policy` that `aqpolicy.analysis` found nothing wrong with, and a model
description; output: `Tables` and a binding, ready for a bundle, and what the
policy demands of the gate. Start at `compile_tables`, `bind` and `demands`.
"""

from aqpolicy.compiler.binding import Binding, bind, parameter_counts, ties
from aqpolicy.compiler.demands import Demand, beyond_the_gate, demands, features, unenforceable
from aqpolicy.compiler.description import ModelDescription, ModuleEntry, ParameterEntry, parse_description
from aqpolicy.compiler.tabulate import Compilation, compile_tables, compile_with_examples

__all__ = [
    "Binding",
    "Compilation",
    "Demand",
    "ModelDescription",
    "ModuleEntry",
    "ParameterEntry",
    "beyond_the_gate",
    "bind",
    "compile_tables",
    "compile_with_examples",
    "demands",
    "features",
    "parameter_counts",
    "parse_description",
    "ties",
    "unenforceable",
]
