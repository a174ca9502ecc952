"""From text to tree, and nothing about meaning.

Input: a `Source`; output: a `Tree` (`parse`). The grammar is the shipped
`grammar/aqpolicy.lark`. `model.resolve` reads the tree next.
"""

from aqpolicy.syntax.parser import parse
from aqpolicy.syntax.tree import Tree

__all__ = ["Tree", "parse"]
