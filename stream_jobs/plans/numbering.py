"""The numbers of operators over a job's life: the same operator keeps its own, and none is ever another's.

Flink names the state of an operator ``<number>_<what it is>``. An operator is the same when what it holds consists of
the same parts (:class:`~stream_jobs.plans.meaning.Holding`): then it can take its state over. One that holds something
else gets a number that no operator of the job has had, so that state can be left behind, and is never misread.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from stream_jobs.plans.graph import Operator, PlanGraph, read
from stream_jobs.plans.meaning import Holding, Names, holdings, same_names, stateful

_NODE = re.compile(r'("id"\s*:\s*)(\d+)(\s*,\s*"type"\s*:\s*"stream-exec-)')
_EDGE = re.compile(r'("source"\s*:\s*)(\d+)(\s*,\s*"target"\s*:\s*)(\d+)(\s*,\s*"shuffle")')


@dataclass(frozen=True, slots=True)
class Numbered:
    """A compiled plan whose operators have their numbers for good; ``highest`` is the greatest of the job so far."""

    compiled: str
    highest: int


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan with the versions of the users' functions that it was made with, by their names."""

    compiled: str
    functions: Mapping[str, str] = field(default_factory=dict)


def first_numbers(compiled: str) -> Numbered:
    """The plan of a job's first version: Flink's own numbers. Raises UnreadablePlan."""
    return Numbered(compiled, max(read(compiled).operators, default=0))


def renumbered(plan: Planned, before: Sequence[Planned], highest: int) -> Numbered:
    """The plan with the numbers of earlier ones, where an operator is the same; all others are new.

    ``before`` are plans of the job, those first whose state matters most. ``highest`` is the greatest number that the
    job has given so far. Raises UnreadablePlan.
    """
    new = read(plan.compiled)
    numbers: dict[int, int] = {}
    for one in before:
        old = read(one.compiled)
        highest = max(highest, *old.operators, 0)
        for number, was in counterparts(old, new, one.functions, plan.functions).items():
            if number not in numbers and was not in numbers.values():
                numbers[number] = was
    for number in new.operators:
        if number not in numbers:
            highest += 1
            numbers[number] = highest
    return Numbered(_with_numbers(plan.compiled, numbers), highest)


def counterparts(
    old: PlanGraph, new: PlanGraph, old_functions: Mapping[str, str], new_functions: Mapping[str, str]
) -> dict[int, int]:
    """The number in the old plan of each operator of the new one that is the same.

    Of several that hold the same, those are taken together that mean the same; else those whose rows come in by the
    same filters and joins, or end in the same tables, or follow one another.
    """
    before, after = compared(old, new, old_functions, new_functions)
    found: dict[int, int] = {}
    whole = _whole(old, before), _whole(new, after)
    for same in (
        lambda side, plan, number: (plan.sinks[number], whole[side][number]),
        lambda side, plan, number: whole[side][number],
        lambda side, plan, number: (before, after)[side][number].strict.whole,
        lambda side, plan, number: ((before, after)[side][number].strict.rows, plan.sinks[number]),
        lambda side, plan, number: (plan.sinks[number], plan.sources[number]),
        lambda side, plan, number: plan.sinks[number],
        lambda side, plan, number: None,
    ):
        _pair(old, new, before, after, found, same)
    return found


@dataclass(frozen=True, slots=True)
class Compared:
    """What an operator holds: as far as it can be taken over (``loose``), as far as it means the same (``strict``)."""

    loose: Holding
    strict: Holding


def compared(
    old: PlanGraph, new: PlanGraph, old_functions: Mapping[str, str], new_functions: Mapping[str, str]
) -> tuple[dict[int, Compared], dict[int, Compared]]:
    """What the operators of both plans hold, in words that can be compared."""
    names = same_names(old, new)
    before = Names(functions=_lower(old_functions))
    after = replace(names, functions=_lower(new_functions))
    return _compared(old, before), _compared(new, after)


def _compared(plan: PlanGraph, names: Names) -> dict[int, Compared]:
    loose, strict = holdings(plan, replace(names, strict=False)), holdings(plan, names)
    return {number: Compared(loose[number], strict[number]) for number in plan.operators}


def _lower(functions: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): version for name, version in functions.items()}


Same = Callable[[int, PlanGraph, int], Hashable]


def _pair(
    old: PlanGraph,
    new: PlanGraph,
    before: Mapping[int, Compared],
    after: Mapping[int, Compared],
    found: dict[int, int],
    same: Same,
) -> None:
    """Takes together, in their order, the operators left on both sides that hold the same and are alike by ``same``."""
    used = set(found.values())
    waiting: dict[Hashable, list[int]] = {}
    for number, operator in old.operators.items():
        if number not in used:
            waiting.setdefault(_key(operator, before[number], same(0, old, number)), []).append(number)
    for number, operator in new.operators.items():
        if number not in found and (left := waiting.get(_key(operator, after[number], same(1, new, number)))):
            found[number] = left.pop(0)


def _key(operator: Operator, holding: Compared, alike: Hashable) -> Hashable:
    # What holds nothing is only the same when all of it is.
    identity = holding.loose.identity if stateful(operator) or operator.kind == "sink" else holding.strict.whole
    return operator.kind, identity, alike


def _whole(plan: PlanGraph, holding: Mapping[int, Compared]) -> dict[int, int]:
    """What an operator means with all that lies behind it, so that of two equal ones each keeps its own place."""
    found: dict[int, int] = {}
    for number in reversed(list(plan.operators)):
        behind = tuple(sorted(found[reader] for reader in plan.readers[number]))
        found[number] = hash((holding[number].strict.whole, behind))
    return found


def _with_numbers(compiled: str, numbers: Mapping[int, int]) -> str:
    """The plan's own text with other numbers: what is read and written again would lose digits of decimals."""
    if all(number == given for number, given in numbers.items()):
        return compiled
    text = _NODE.sub(lambda found: f"{found[1]}{numbers[int(found[2])]}{found[3]}", compiled)
    text = _EDGE.sub(
        lambda found: f"{found[1]}{numbers[int(found[2])]}{found[3]}{numbers[int(found[4])]}{found[5]}", text
    )
    _check(compiled, text, numbers)
    return text


def _check(before: str, after: str, numbers: Mapping[int, int]) -> None:
    old, new = read(before), read(after)
    wanted = {numbers[one.number]: tuple(numbers[i] for i in one.inputs) for one in old.operators.values()}
    found: Iterable[Operator] = new.operators.values()
    if {one.number: one.inputs for one in found} != wanted:
        raise AssertionError(f"the plan's operators cannot be given the numbers {numbers}")
