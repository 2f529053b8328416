"""Which tensor of an artifact is which tensor of its float model.

Quantizers keep names, add suffixes, or (another converter) give quite other ones; they add
operators that only change a tensor's type, and put others together. So a tensor is known by its
name first, else by the operator that writes it: one of the same kind, with an output of the same
shape, whose inputs are known to be the same.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgeq.core.graph import Graph, Op, fixed, present, producers
from edgeq.core.macs import elements

Likeness = Callable[[Op, Op], float]
"""How alike the constants of two operators are, 1 is equal; parts candidates that look the same."""

_ALIKE = 0.5
_RESHAPING = frozenset(
    {"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "Reshape", "Flatten", "Squeeze", "Unsqueeze"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What both models have.

    Attributes:
        pairs: Tensors of the artifact to the float model's: of one shape, or of one size where
            only an operator that changes the shape stands between them.
        operators: Places of the artifact's operators, to the float model's.
        unmatched: Tensors of the artifact's operators without a counterpart.
    """

    pairs: dict[int, int]
    operators: dict[int, int]
    unmatched: tuple[int, ...]


def match(raw: Graph, artifact: Graph, plain: Graph, likeness: Likeness) -> Match:
    """Pair what both have.

    Args:
        raw: The artifact's graph as it stands in the file.
        artifact: The same as it is computed (``fusion.fused``); its tensors have raw's numbers.
        plain: The float model's.
        likeness: Asked only where several operators fit.
    """
    finder = _Finder(raw, artifact, plain, likeness)
    finder.by_inputs()
    finder.by_names()
    finder.by_structure()
    return finder.result()


class _Finder:
    def __init__(self, raw: Graph, artifact: Graph, plain: Graph, likeness: Likeness) -> None:
        self._artifact = artifact
        self._plain = plain
        self._likeness = likeness
        self._root = _aliases(raw, raw.conversions)
        self._loose_root = _aliases(raw, raw.conversions | _RESHAPING)
        self._plain_root = _aliases(plain, plain.conversions | _RESHAPING)
        self._raw = raw
        self._fixed, self._plain_fixed = fixed(artifact), fixed(plain)
        self._plain_producers = producers(plain)
        self._known: dict[int, int] = {}  # roots of the artifact to tensors of the float model
        self._operators: dict[int, int] = {}

    def by_inputs(self) -> None:
        """The models' own inputs, in their order."""
        if len(self._artifact.inputs) == len(self._plain.inputs):
            for ours, theirs in zip(self._artifact.inputs, self._plain.inputs, strict=True):
                if self._same_shape(ours, theirs):
                    self._known[self._root[ours]] = theirs

    def by_names(self) -> None:
        """Tensors of the same name and shape, where a name stands once."""
        theirs = _unique(
            (tensor.name, number)
            for number, tensor in enumerate(self._plain.tensors)
            if number not in self._plain_fixed
        )
        names: dict[int, set[str]] = {}
        for number, tensor in enumerate(self._raw.tensors):
            names.setdefault(self._root[number], set()).add(tensor.name)
        for place, number in self._written():
            found = {theirs[name] for name in names[self._root[number]] if name in theirs}
            fitting = [other for other in found if self._same_shape(number, other)]
            if len(fitting) == 1:
                self._known.setdefault(self._root[number], fitting[0])
                self._note_operator(place, fitting[0])

    def by_structure(self) -> None:
        """Operators of one kind behind inputs that are known."""
        taken = set(self._known.values())
        loose = {self._loose_root[root]: other for root, other in self._known.items()}
        for place, op in enumerate(self._artifact.ops):
            number = next(present(op.outputs), None)
            if number is None or op.kind in self._artifact.conversions:
                continue
            if self._root[number] in self._known:
                continue
            fitting = [
                (other, self._plain.ops[other])
                for other in range(len(self._plain.ops))
                if self._fits(op, self._plain.ops[other], taken, loose)
            ]
            best = self._best(op, fitting)
            if best is not None:
                for ours, theirs in zip(op.outputs, self._plain.ops[best].outputs, strict=False):
                    self._known[self._root[ours]] = theirs
                    loose.setdefault(self._loose_root[ours], theirs)
                    taken.add(theirs)
                self._operators[place] = best

    def result(self) -> Match:
        loose = {self._loose_root[root]: other for root, other in self._known.items()}
        pairs, unmatched = {}, []
        for number in dict.fromkeys((*(n for _, n in self._written()), *self._sources())):
            found = self._known.get(self._root[number])
            if found is None and self._same_size(number, loose.get(self._loose_root[number])):
                found = loose[self._loose_root[number]]
            if found is not None:
                pairs[number] = found
            else:
                unmatched.append(number)
        return Match(pairs=pairs, operators=self._operators, unmatched=tuple(unmatched))

    def _written(self) -> Iterator[tuple[int, int]]:
        for place, op in enumerate(self._artifact.ops):
            if op.kind not in self._artifact.conversions:
                for number in present(op.outputs):
                    if number not in self._fixed:
                        yield place, number

    def _sources(self) -> Iterator[int]:
        """The models' inputs, and what conversions make of anything."""
        yield from self._artifact.inputs
        for op in self._artifact.ops:
            yield from (n for n in present(op.inputs) if n not in self._fixed)

    def _note_operator(self, place: int, theirs: int) -> None:
        """The operator behind a tensor; an activation that was fused is stepped over."""
        kind = self._artifact.ops[place].kind
        for _ in range(3):
            other = self._plain_producers.get(theirs)
            if other is None:
                return
            if self._plain.ops[other].kind == kind:
                self._operators.setdefault(place, other)
                return
            theirs = self._plain.ops[other].inputs[0]

    def _fits(self, op: Op, other: Op, taken: set[int], loose: dict[int, int]) -> bool:
        target = next(present(other.outputs), None)
        if other.kind != op.kind or target is None or target in taken:
            return False
        if len(op.outputs) != len(other.outputs) or not self._same_shape(op.outputs[0], target):
            return False
        ours = [n for n in present(op.inputs) if n not in self._fixed]
        theirs = [n for n in present(other.inputs) if n not in self._plain_fixed]
        if len(ours) != len(theirs):
            return False
        known = [loose.get(self._loose_root[number]) for number in ours]
        roots = [self._plain_root[number] for number in theirs]
        behind = all(one is not None and self._plain_root[one] in roots for one in known)
        return behind and self._same_constants(op, other)

    def _same_constants(self, op: Op, other: Op) -> bool:
        """Weights of one shape, where both have them at one place."""
        return all(
            self._artifact.tensors[ours].shape == self._plain.tensors[theirs].shape
            for ours, theirs in zip(op.inputs, other.inputs, strict=False)
            if ours in self._fixed and theirs in self._plain_fixed
        )

    def _best(self, op: Op, fitting: list[tuple[int, Op]]) -> int | None:
        if len(fitting) == 1:
            return fitting[0][0]
        scored = [(self._likeness(op, other), -place) for place, other in fitting]
        best = max(scored, default=(0.0, 0))
        return -best[1] if best[0] >= _ALIKE else None

    def _same_size(self, ours: int, theirs: int | None) -> bool:
        if theirs is None:
            return False
        size = elements(self._artifact.tensors[ours].shape)
        return size is not None and size == elements(self._plain.tensors[theirs].shape)

    def _same_shape(self, ours: int, theirs: int) -> bool:
        shape = self._artifact.tensors[ours].shape
        return shape is not None and shape == self._plain.tensors[theirs].shape


def _aliases(graph: Graph, through: frozenset[str]) -> list[int]:
    """For each tensor the first one that holds the same values, behind operators of some kinds."""
    roots = list(range(len(graph.tensors)))
    for op in graph.ops:
        if op.kind in through and op.inputs and op.inputs[0] >= 0 and op.outputs:
            roots[op.outputs[0]] = roots[op.inputs[0]]
    return roots


def _unique(items: Iterator[tuple[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    double = set()
    for name, number in items:
        if name in found:
            double.add(name)
        found[name] = number
    return {name: number for name, number in found.items() if name not in double}
