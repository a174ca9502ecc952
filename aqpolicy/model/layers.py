"""Gather the files that a policy stands on: what it imports, and the policy that it extends.

Reading files is the library's task; this module decides which are needed, and
that none leads back to itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from aqpolicy.diagnostics import Label, Source
from aqpolicy.errors import InputError
from aqpolicy.model.problems import Problems
from aqpolicy.syntax import Tree, parse
from aqpolicy.syntax import tree as t

SHARED: Final = (
    t.ImportDecl,
    t.TaxonomyDecl,
    t.BandsDecl,
    t.CourseDecl,
    t.EvidenceDecl,
    t.DepthDecl,
    t.DefineDecl,
    t.ProfileDecl,
)
"""Statements that a file of shared vocabulary may hold."""

MAX_LAYERS: Final = 16
"""How many files may lead to one another."""


class Library(Protocol):
    """Where imported and extended files come from."""

    def imported(self, text: str, near: Source) -> Source:
        """Return the file that an `import` names.

        Raises:
            InputError: There is none, or it cannot be read.
        """

    def extended(self, name: str, file: str | None, near: Source) -> Source:
        """Return the file of the policy that another extends, by its path or else by its name.

        Raises:
            InputError: There is none, or it cannot be read.
        """

    def refusal(self, source: Source) -> str | None:
        """Return why a file is not the one that was locked, or None."""


class Alone:
    """The library of a policy that has no other files."""

    def imported(self, text: str, near: Source) -> Source:
        """Find nothing."""
        raise InputError(f"`{near.name}` stands alone here, so `{text}` cannot be imported")

    def extended(self, name: str, file: str | None, near: Source) -> Source:  # noqa: ARG002 - the library's form
        """Find nothing."""
        raise InputError(f"`{near.name}` stands alone here, so `{name}` cannot be extended")

    def refusal(self, source: Source) -> str | None:  # noqa: ARG002 - the library's form
        """Accept everything."""
        return None


@dataclass(frozen=True, slots=True)
class Layer:
    """One file, parsed."""

    source: Source
    tree: Tree


@dataclass(frozen=True, slots=True)
class Stack:
    """A policy's own file, the files that it imports, and the stack of the policy that it extends."""

    own: Layer
    imports: tuple[Layer, ...]
    parent: Stack | None = None

    def layers(self) -> Iterator[Layer]:
        """Yield every file once: those of the extended policy first, the own file last."""
        seen: set[str] = set()
        above = self.parent.layers() if self.parent else ()
        for layer in (*above, *self.imports, self.own):
            if layer.source.name not in seen:
                seen.add(layer.source.name)
                yield layer

    def sources(self) -> Mapping[str, Source]:
        """Return the texts of all files by name."""
        return {layer.source.name: layer.source for layer in self.layers()}


@dataclass(slots=True)
class Gathering:
    """One search for the files of a policy."""

    library: Library
    problems: Problems
    path: list[str] = field(default_factory=list)
    """Names of the files that led here."""

    def stack(self, tree: Tree, source: Source) -> Stack:
        """Return all that a policy stands on; what cannot be found is a problem, and left out."""
        self.path.append(source.name)
        imports: dict[str, Layer] = {}
        self._import(tree, source, imports)
        parent = self._parent(tree, source)
        self.path.pop()
        return Stack(Layer(source, tree), tuple(imports.values()), parent)

    def _import(self, tree: Tree, near: Source, found: dict[str, Layer]) -> None:
        for decl in (statement for statement in tree.statements if isinstance(statement, t.ImportDecl)):
            source = self._open(decl, near)
            if source is None or source.name in found or self._is_circle(decl, source):
                continue
            layer = Layer(source, parse(source))
            self._check_shared(layer)
            self.path.append(source.name)
            self._import(layer.tree, source, found)
            self.path.pop()
            found[source.name] = layer

    def _check_shared(self, layer: Layer) -> None:
        for statement in layer.tree.statements:
            if not isinstance(statement, SHARED):
                label = Label(statement.span, "belongs into a policy")
                notes = ("a shared file holds taxonomies, bands, phases, evidence, depth, definitions and profiles",)
                self.problems.add("AQ224", "an imported file holds shared vocabulary only", label, notes=notes)

    def _parent(self, tree: Tree, near: Source) -> Stack | None:
        decl = next((statement for statement in tree.statements if isinstance(statement, t.ExtendsDecl)), None)
        source = None if decl is None else self._open(decl, near)
        if decl is None or source is None or self._is_circle(decl, source):
            return None
        above = parse(source)
        header = next((statement for statement in above.statements if isinstance(statement, t.PolicyDecl)), None)
        if header is not None and header.name.text != decl.name.text:
            labels = (Label(decl.name.span, "extended"), Label(header.name.span, "but the file holds this policy"))
            message = f"`{source.name}` does not hold policy `{decl.name.text}`"
            advice = f"write `extends {header.name.text}`, or name the file that holds `{decl.name.text}`"
            self.problems.add("AQ221", message, *labels, help=(advice,))
            return None
        return self.stack(above, source)

    def _open(self, decl: t.ImportDecl | t.ExtendsDecl, near: Source) -> Source | None:
        word = decl.name if decl.file is None else decl.file
        try:
            if isinstance(decl, t.ImportDecl):
                source = self.library.imported(decl.file.text, near)
            else:
                source = self.library.extended(decl.name.text, decl.file.text if decl.file else None, near)
        except InputError as error:
            self.problems.add("AQ221", str(error), Label(word.span, "needed here"), help=(_where(decl),))
            return None
        refusal = self.library.refusal(source)
        if refusal is not None:
            advice = ("review the file, then write its digest into the lock with `aqpolicy lock`",)
            self.problems.add("AQ223", refusal, Label(word.span, "needed here"), help=advice)
        return source

    def _is_circle(self, decl: t.ImportDecl | t.ExtendsDecl, source: Source) -> bool:
        if source.name not in self.path and len(self.path) < MAX_LAYERS:
            return False
        way = " -> ".join([*self.path, source.name])
        if source.name in self.path:
            message, label = "files lead back to themselves", "closes the circle"
        else:
            message, label = f"more than {MAX_LAYERS} files lead to one another", "one file too many"
        self.problems.add("AQ222", message, Label(decl.span, label), notes=(way,))
        return True


def _where(decl: t.ImportDecl | t.ExtendsDecl) -> str:
    """Say where the file of a statement is looked for."""
    if decl.file is not None:
        return f"a path is relative to the folder of the file that names it, here `{decl.span.file}`"
    name = decl.name.text
    return f'it is looked for by name, here and in `policy-roots`; to name its file, write `extends {name} from "PATH"`'
