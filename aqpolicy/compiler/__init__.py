"""From a typed policy to mask tables, and from depth groups to a model's parameters.

Input: a `Policy` that `aqpolicy.analysis` found nothing wrong with, and a model
description; output: `Tables` and a binding, ready for a bundle. Start at
`compile_tables` and `bind`.
"""

from aqpolicy.compiler.binding import Binding, bind
from aqpolicy.compiler.description import ModelDescription, ModuleEntry, ParameterEntry, parse_description
from aqpolicy.compiler.tabulate import Compilation, compile_tables, compile_with_examples

__all__ = [
    "Binding",
    "Compilation",
    "ModelDescription",
    "ModuleEntry",
    "ParameterEntry",
    "bind",
    "compile_tables",
    "compile_with_examples",
    "parse_description",
]
