"""What a reader would remark on in a policy that is right: unused names, grants without a reason, no test.

It looks at the syntax tree of one file and at nothing that is imported. A name counts
as used where the same word stands anywhere else, so that a remark is never wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from aqpolicy.diagnostics import Diagnostic, Label
from aqpolicy.syntax import Tree
from aqpolicy.syntax.tree import AdmitClause, DefineDecl, PolicyDecl, ProfileDecl, RuleDecl, TestDecl, Word


def style(tree: Tree) -> Iterator[Diagnostic]:
    """Yield the remarks on a tree."""
    yield from _unused(tree)
    yield from _untitled(tree)
    yield from _untested(tree)


def _unused(tree: Tree) -> Iterator[Diagnostic]:
    """Yield AQ401; a file without `policy` is a library, whose names are for others."""
    if not any(isinstance(statement, PolicyDecl) for statement in tree.statements):
        return
    declared = [each for each in tree.statements if isinstance(each, DefineDecl | ProfileDecl)]
    names = {each.name.span for each in declared}
    used = {word.text for word in _words(tree) if word.span not in names}
    for each in declared:
        if each.name.text not in used:
            kind = "definition" if isinstance(each, DefineDecl) else "profile"
            message = f"{kind} `{each.name.text}` is not used"
            label = Label(each.name.span, "no other statement names it")
            yield Diagnostic("AQ401", "warning", message, (label,), help=("delete it, or use it",))


def _untitled(tree: Tree) -> Iterator[Diagnostic]:
    """Yield AQ402."""
    for rule in tree.statements:
        if isinstance(rule, RuleDecl) and rule.title is None and _grants(rule):
            yield Diagnostic(
                "AQ402",
                "note",
                f"rule `{rule.name.text}` admits without a title",
                (Label(rule.name.span, "why may this teach?"),),
                notes=("the title is the reason that decisions and reports give",),
                help=(f'write it behind the name: `rule {rule.name.text} "..."`',),
            )


def _untested(tree: Tree) -> Iterator[Diagnostic]:
    """Yield AQ406."""
    header = next((each for each in tree.statements if isinstance(each, PolicyDecl)), None)
    if header is not None and not any(isinstance(each, TestDecl) for each in tree.statements):
        yield Diagnostic(
            "AQ406",
            "note",
            f"policy `{header.name.text}` has no test case",
            (Label(header.name.span, "nothing shows what it is meant to do"),),
            help=('write one: `test "title" { given CONDITION expect deny }`',),
        )


def _grants(rule: RuleDecl) -> bool:
    return any(isinstance(action, AdmitClause) for action in rule.actions)


def _words(tree: Tree) -> Iterator[Word]:
    """Yield every word below a node, whatever statements the language has."""
    pending: list[object] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, Word):
            yield node
        elif isinstance(node, tuple):
            pending.extend(node)
        elif is_dataclass(node):
            pending.extend(getattr(node, field.name) for field in fields(node))
