"""Which source tensor becomes which target: rules as data, and the check that nothing is lost.

A rule's names are templates: ``{i}``-like fields stand for a number, ``{leaf}`` for ``weight`` or
``bias``, ``{path}`` for any dotted rest. Every source tensor must be used exactly once by one rule
(or listed by a Drop with its reason); a tensor may be shared between targets only by rules that
say so with ``shared=True``, as the two halves of a folded batch norm do.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mlx_audio_turbo.errors import ModelFolderError

from . import layout


@dataclass(frozen=True)
class Rule:
    """``sources``, taken through ``move``, make ``target``; all are templates."""

    target: str
    sources: tuple[str, ...]
    move: Callable[..., np.ndarray] = layout.copy
    shared: bool = False


@dataclass(frozen=True)
class Drop:
    """A source template that inference never reads, and why."""

    source: str
    reason: str


@dataclass(frozen=True)
class Step:
    """One target tensor of a plan."""

    target: str
    sources: tuple[str, ...]
    move: Callable[..., np.ndarray]


@dataclass(frozen=True)
class Plan:
    """Every target with its sources, and every dropped source with the reason."""

    steps: tuple[Step, ...]
    dropped: Mapping[str, str]


def rule(target: str, *sources: str, move: Callable[..., np.ndarray] = layout.copy) -> Rule:
    """A rule; without sources the name stays as it is."""
    return Rule(target, sources or (target,), move)


def prefixed(prefix: str, rules: Iterable[Rule | Drop], *, target: str = "") -> list[Rule | Drop]:
    """The same rules with ``prefix`` before each source and ``target`` before each target."""
    out: list[Rule | Drop] = []
    for item in rules:
        if isinstance(item, Drop):
            out.append(Drop(prefix + item.source, item.reason))
        else:
            sources = tuple(prefix + source for source in item.sources)
            out.append(Rule(target + item.target, sources, item.move, item.shared))
    return out


_FIELD = re.compile(r"\{(\w+)\}")


def _pattern(template: str) -> re.Pattern[str]:
    kinds = {"leaf": "weight|bias", "path": ".+"}
    out, end, seen = "", 0, set()
    for match in _FIELD.finditer(template):
        name = match[1]
        out += re.escape(template[end : match.start()])
        out += f"(?P={name})" if name in seen else f"(?P<{name}>{kinds.get(name, '[0-9]+')})"
        seen.add(name)
        end = match.end()
    return re.compile(out + re.escape(template[end:]))


def _matches(
    template: str, names: list[str], known: set[str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """The names that a template fits, with the values of its fields."""
    if not _FIELD.search(template):
        if template in known:
            yield template, {}
        return
    pattern = _pattern(template)
    for name in names:
        if match := pattern.fullmatch(name):
            yield name, match.groupdict()


def plan(rules: Sequence[Rule | Drop], names: Iterable[str]) -> Plan:
    """Match ``rules`` with the tensor ``names`` of a checkpoint.

    Raises:
        ModelFolderError: a name that no rule takes, two that take it, or a rule whose other
            sources are absent.
    """
    names = list(names)
    known = set(names)
    uses: Counter[str] = Counter()
    shares: Counter[str] = Counter()
    dropped: dict[str, str] = {}
    steps: list[Step] = []
    for item in rules:
        template = item.source if isinstance(item, Drop) else item.sources[0]
        for name, fields in _matches(template, names, known):
            if isinstance(item, Drop):
                dropped[name] = item.reason
                uses[name] += 1
                continue
            sources = tuple(source.format(**fields) for source in item.sources)
            absent = [source for source in sources if source not in known]
            if absent:
                raise ModelFolderError(
                    f"{name} is there but {absent[0]} is not; download the checkpoint again"
                )
            steps.append(Step(item.target.format(**fields), sources, item.move))
            for source in sources:
                (shares if item.shared else uses)[source] += 1
    unused = [name for name in names if not uses[name] and not shares[name]]
    if unused:
        raise ModelFolderError(
            f"{len(unused)} tensors have no place in this model, the first is {unused[0]!r}; "
            "is it another checkpoint?"
        )
    twice = [name for name in names if uses[name] + bool(shares[name]) > 1]
    twice += [name for name, n in Counter(step.target for step in steps).items() if n > 1]
    if twice:
        raise ModelFolderError(f"{twice[0]!r} is taken by two rules: an error in the mapping table")
    return Plan(tuple(steps), dropped)


def check_shapes(
    plan: Plan,
    shapes: Mapping[str, tuple[int, ...]],
    wanted: Mapping[str, tuple[int, ...]],
) -> None:
    """Compare a plan with the model without reading a tensor; folds are not computed.

    Args:
        shapes: of the source tensors.
        wanted: every tensor that the model has, with its shape.

    Raises:
        ModelFolderError: as for :func:`apply`.
    """
    moves = tuple(step for step in plan.steps if step.move in layout.MOVES)
    folds = {step.target for step in plan.steps} - {step.target for step in moves}
    empty = np.zeros((), np.float32)
    rest = {name: shape for name, shape in wanted.items() if name not in folds}
    for _ in apply(
        Plan(moves, plan.dropped), lambda name: np.broadcast_to(empty, shapes[name]), rest
    ):
        pass


def apply(
    plan: Plan, read: Callable[[str], np.ndarray], shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each target of ``plan`` in turn, one tensor's worth of memory at a time.

    Args:
        read: gives a source tensor by name.
        shapes: every tensor that the model wants, with its shape.

    Raises:
        ModelFolderError: a target that the model lacks, that it wants and the plan does not make,
            or of another shape; or source tensors of shapes that do not go together.
    """
    made = {step.target for step in plan.steps}
    extra, missing = sorted(made - set(shapes)), sorted(set(shapes) - made)
    if extra or missing:
        what = f"makes {extra[0]!r}, unknown to it" if extra else f"lacks {missing[0]!r}"
        raise ModelFolderError(
            f"the checkpoint does not fit the model: it {what}; is it another checkpoint?"
        )
    for step in plan.steps:
        arrays = [read(source) for source in step.sources]
        try:
            array = step.move(*arrays)
        except (ValueError, IndexError) as error:
            shapes_read = ", ".join(str(array.shape) for array in arrays)
            raise ModelFolderError(
                f"{step.sources[0]} of shape {shapes_read} does not make {step.target} ({error}); "
                "is it another checkpoint?"
            ) from None
        if tuple(array.shape) != tuple(shapes[step.target]):
            raise ModelFolderError(
                f"{step.target} has shape {tuple(array.shape)} where the model wants "
                f"{tuple(shapes[step.target])}; is it another checkpoint?"
            )
        yield step.target, array
