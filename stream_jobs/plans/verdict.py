"""What becomes of a job's state when it goes on with another plan: operator by operator, in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from stream_jobs.plans.graph import Operator, PlanGraph, options_of, read, table_name
from stream_jobs.plans.meaning import Holding, materializes, stateful
from stream_jobs.plans.numbering import Planned, compared

MAX_PARALLELISM = "pipeline.max-parallelism"
PARALLELISM = "parallelism.default"
BACKEND = "state.backend.type"
_LARGEST_PARALLELISM = 32_768
_UID = re.compile(r"(?:^|: )(\d+)_\S")


class Verdict(StrEnum):
    """What becomes of the state of one operator."""

    KEPT = "kept"
    OTHER_MEANING = "kept with another meaning"
    """It goes on, and what it has gathered so far was gathered by another rule, or from other rows."""
    INCOMPATIBLE = "incompatible"
    """What is in its place now cannot take it over: it is dropped."""
    LOST = "lost"
    """Nothing is in its place any more: it is dropped."""
    NEW = "new"
    """An operator that had no state before: it starts empty, with the rows that come from then on."""
    UNKNOWN = "unknown"
    """It is not known what it was made by."""


REFUSED = frozenset({Verdict.OTHER_MEANING, Verdict.INCOMPATIBLE, Verdict.LOST})
DROPPED = frozenset({Verdict.INCOMPATIBLE, Verdict.LOST})


@dataclass(frozen=True, slots=True)
class OperatorVerdict:
    """The verdict on one operator.

    ``operator`` says what it is; its rows come from the tables ``sources`` and end in ``sinks``. ``remedy`` is empty
    where nothing is to be done. ``number`` is that of the compiled plan.
    """

    number: int
    operator: str
    sources: tuple[str, ...]
    sinks: tuple[str, ...]
    verdict: Verdict
    reason: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.operator}: {self.verdict}: {self.reason}"


@dataclass(frozen=True, slots=True)
class SavedOperator:
    """An operator of a savepoint, as :class:`SavepointFiles` of the planner tells of it.

    ``number`` is that of the compiled plan that it ran from; None where the savepoint is of no plan.
    """

    number: int | None
    name: str
    size: int
    keyed: bool
    max_parallelism: int
    native: bool = False


@dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of all of a job's state."""

    operators: tuple[OperatorVerdict, ...]
    obstacle: str = ""
    """Why Flink cannot go on from this state at all, whatever is allowed; empty when it can."""
    unclaimed: bool = False
    """Whether there is state that no operator takes over, be it of no worth: Flink must be told that this is meant."""

    @property
    def restores(self) -> bool:
        """Whether all of it goes on and means what it meant."""
        return not self.obstacle and not self.refused

    @property
    def refused(self) -> tuple[OperatorVerdict, ...]:
        return tuple(one for one in self.operators if one.verdict in REFUSED)

    @property
    def words(self) -> str:
        """What keeps it from being restored, or what becomes of it against all advice; empty when it restores."""
        return " ".join(filter(None, (self.obstacle, *(f"{one}." for one in self.refused))))


@dataclass(frozen=True, slots=True)
class Setting:
    """A plan with the options that it runs with."""

    plan: Planned
    options: Mapping[str, str]


def saved_operators(found: Iterable[Mapping[str, object]]) -> tuple[SavedOperator, ...]:
    """The operators that hold something, of what the planner tells of a savepoint."""
    return tuple(
        SavedOperator(
            number=_number(str(one.get("uid") or "")),
            name=str(one.get("name") or one.get("uid") or one.get("id")),
            size=int(str(one.get("size") or 0)),
            keyed=bool(one.get("keyed")),
            max_parallelism=int(str(one.get("max_parallelism") or 0)),
            native=bool(one.get("native")),
        )
        for one in found
        if one.get("holds", True)
    )


def judge(before: Setting | None, after: Setting, saved: Sequence[SavedOperator] | None = None) -> Judgement:
    """What becomes of the state that ``before`` has gathered when ``after`` goes on from it.

    ``before`` is None when it is not known what made the savepoint. ``saved`` are the savepoint's operators; without
    them every operator is taken to hold something that may. Raises UnreadablePlan.
    """
    new = read(after.plan.compiled)
    obstacle = _obstacle(before, after, saved)
    if before is None:
        return _of_unknown(new, saved or (), obstacle)
    old = read(before.plan.compiled)
    held = None if saved is None else {one.number for one in saved}
    judged = _Comparison(old, new, before.plan, after.plan).verdicts(held)
    foreign = [one for one in saved or () if one.number is None or one.number not in old.operators]
    verdicts = (*judged, *(_foreign(one) for one in foreign))
    holding = {number for number, one in old.operators.items() if one.kind == "sink"} if saved is None else held
    unclaimed = (holding or set()) - set(new.operators)
    if not obstacle:
        mixed = [
            one
            for one in judged
            if one.verdict in DROPPED
            and (there := new.operators.get(one.number)) is not None
            # The kind is in the name, too.
            and there.kind == old.operators[one.number].kind
        ]
        if mixed:
            obstacle = (
                f"The state of {mixed[0].operator} would be read by another operator, which has its number "
                f"{mixed[0].number}: it can only be started without state."
            )
    return Judgement(verdicts, obstacle, bool(unclaimed))


def _number(uid: str) -> int | None:
    """Of ``4_group-aggregate``, and of ``Sink Committer: 5_sink``."""
    found = _UID.search(uid)
    return int(found[1]) if found else None


def _foreign(one: SavedOperator) -> OperatorVerdict:
    return OperatorVerdict(
        one.number or 0, one.name, (), (), Verdict.LOST,
        "no operator of the plan that it was made with has its name",
        "Give a savepoint of this job, or start it without state.",
    )  # fmt: skip


def _of_unknown(new: PlanGraph, saved: Sequence[SavedOperator], obstacle: str) -> Judgement:
    verdicts = []
    for one in saved:
        operator = new.operators.get(one.number) if one.number is not None else None
        if operator is None:
            verdicts.append(replace(_foreign(one), reason="the job has no operator of its name"))
        else:
            verdicts.append(
                _told(
                    operator, new, Verdict.UNKNOWN,
                    "the service does not know which version of the job made this state, so it cannot be compared",
                    "Make sure that it was made by the job as it is now.",
                )
            )  # fmt: skip
    unclaimed = any(one.verdict is Verdict.LOST for one in verdicts)
    return Judgement(tuple(verdicts), obstacle, unclaimed)


def _obstacle(before: Setting | None, after: Setting, saved: Sequence[SavedOperator] | None) -> str:
    """What Flink refuses whatever it is told, or fails over."""
    wanted = int(after.options.get(MAX_PARALLELISM, "-1"))
    parallelism = int(after.options.get(PARALLELISM, "1"))
    was = {one.max_parallelism for one in saved or () if one.keyed and one.max_parallelism > 0}
    if saved is None and before is not None:
        was = {int(before.options.get(MAX_PARALLELISM, "-1"))}
        if -1 in was:
            was = {default_max_parallelism(int(before.options.get(PARALLELISM, "1")))}
    for known in sorted(was):
        if wanted > 0 and wanted != known:
            return (
                f"State by key was divided into {known} groups ({MAX_PARALLELISM}), and {wanted} are asked for: Flink "
                "cannot divide it anew."
            )
        if parallelism > known:
            return (
                f"State by key was divided into {known} groups ({MAX_PARALLELISM}), and the parallelism is "
                f"{parallelism}: there would be tasks without any."
            )
    if before is not None and any(one.native for one in saved or ()):
        old, new = before.options.get(BACKEND, ""), after.options.get(BACKEND, "")
        if old != new:
            return (
                f"The state is in the native format of the state backend {old or 'of the cluster'}, and "
                f"{new or 'that of the cluster'} is asked for: only a savepoint in canonical format can change it."
            )
    return ""


def default_max_parallelism(parallelism: int) -> int:
    """Flink's own choice, of a job that does not say it."""
    wanted = parallelism + parallelism // 2
    return min(max(1 << (wanted - 1).bit_length() if wanted > 1 else 1, 128), _LARGEST_PARALLELISM)


class _Comparison:
    """Two plans of one job, the new one with the numbers that it has taken over."""

    def __init__(self, old: PlanGraph, new: PlanGraph, before: Planned, after: Planned) -> None:
        self._old, self._new = old, new
        self._before, self._after = compared(old, new, before.functions, after.functions)

    def verdicts(self, held: set[int | None] | None) -> tuple[OperatorVerdict, ...]:
        """On all operators of the old plan that hold something, and on those that are new."""
        judged: dict[int, OperatorVerdict] = {}
        for number, operator in self._old.operators.items():
            if stateful(operator) and (held is None or number in held):
                judged[number] = self._judged(operator)
        sound = self._sound(judged)
        for number, one in list(judged.items()):
            if (
                one.verdict is Verdict.KEPT
                and number not in sound
                and not _only_transactions(self._old.operators[number])
            ):
                judged[number] = self._behind(one)
        new = [
            _told(
                operator, self._new, Verdict.NEW, "it has no state yet and starts with the rows that come from then on"
            )
            for number, operator in self._new.operators.items()
            if stateful(operator) and not self._taken(number)
        ]
        return (*judged.values(), *new)

    def _taken(self, number: int) -> bool:
        """Whether an operator of the new plan takes over what the old one of its number holds."""
        return (
            number in self._old.operators
            and number in self._new.operators
            and self._before[number].loose.identity == self._after[number].loose.identity
        )

    def _judged(self, operator: Operator) -> OperatorVerdict:
        number = operator.number
        if not self._taken(number):
            return self._dropped(operator)
        before, after = self._before[number].strict, self._after[number].strict
        alike = before.whole == after.whole
        if _only_transactions(operator):
            # Which rows come to be written next is nothing to those that were written.
            alike = before.identity == after.identity
        if alike:
            return _told(operator, self._old, Verdict.KEPT, "it holds the same, of the same rows")
        return _told(
            operator, self._old, Verdict.OTHER_MEANING, self._other_meaning(operator, before, after), _TO_GO_ON
        )

    def _other_meaning(self, operator: Operator, before: Holding, after: Holding) -> str:
        new = self._new.operators[operator.number]
        if before.identity != after.identity:
            return (
                "what it has gathered came from a column of another name, from a function of another version, or by "
                "another prefix of transactions"
            )
        if before.rule != after.rule:
            return f"what it has gathered so far was gathered by {_quoted(operator)}, and it goes on by {_quoted(new)}"
        told = self._changed_upstream(operator.number)
        return f"what it has gathered so far is of other rows than those that come now: {told}"

    def _changed_upstream(self, number: int) -> str:
        """What is different between the sources and an operator, in Flink's words."""
        before, after = _above(self._old, number), _above(self._new, number)
        known = {self._before[one].strict.whole for one in before}
        came = {self._after[one].strict.whole for one in after}
        # An operator that only reads something else is not what was changed.
        gone = [self._old.operators[one] for one in before if self._before[one].strict.whole not in came]
        new = [self._new.operators[one] for one in after if self._after[one].strict.whole not in known]
        were, are = (
            [text for one in side if one.kind not in ("exchange",) and (text := _quoted(one))] for side in (gone, new)
        )
        were, are = [one for one in were if one not in are], [one for one in are if one not in were]
        if were or are:
            return f"before {' and '.join(were[:2]) or 'nothing'}, now {' and '.join(are[:2]) or 'nothing of that'}"
        return "a table that they come from has another place or format"

    def _dropped(self, operator: Operator) -> OperatorVerdict:
        number = operator.number
        if operator.kind == "table-source-scan":
            return self._dropped_source(operator)
        there = self._new.sinks
        rivals = [
            one
            for one in self._new.operators.values()
            if stateful(one)
            and one.kind != "table-source-scan"
            and (one.kind == "sink") == (operator.kind == "sink")
            and not self._taken(one.number)
            and (there[one.number] & self._old.sinks[number] or not self._old.sinks[number])
        ]
        same_kind = [one for one in rivals if one.kind == operator.kind]
        if not rivals:
            return _told(operator, self._old, Verdict.LOST, "nothing is in its place any more", _TO_DROP)
        rival = (same_kind or rivals)[0]
        return _told(
            operator, self._old, Verdict.INCOMPATIBLE,
            f"{_difference(self._before[number].loose, self._after[rival.number].loose)}: it was {_quoted(operator)}, "
            f"and {_quoted(rival)} is in its place",
            _TO_DROP,
        )  # fmt: skip

    def _dropped_source(self, operator: Operator) -> OperatorVerdict:
        alias, was = table_name(operator.spec), _place_of(operator)
        rival = next(
            (
                one
                for one in self._new.operators.values()
                if one.kind == operator.kind and table_name(one.spec) == alias and not self._taken(one.number)
            ),
            None,
        )
        if rival is None:
            return _told(
                operator, self._old, Verdict.LOST, f"the job does not read {was} any more: its offsets go", _TO_DROP
            )
        return _told(
            operator, self._old, Verdict.INCOMPATIBLE,
            f"it holds the offsets of {was}, and the table is {_place_of(rival)} now, which is read from where its "
            "startup mode says",
            _TO_DROP,
        )  # fmt: skip

    def _sound(self, judged: Mapping[int, OperatorVerdict]) -> set[int]:
        """The operators before which all state is kept: else what comes to them is not what they know."""
        found: set[int] = set()
        for number in self._new.operators:
            above = self._new.operators[number].inputs
            fresh = number not in judged and stateful(self._new.operators[number]) and not self._taken(number)
            if not fresh and all(one in found and not _spoiled(judged.get(one)) for one in above):
                found.add(number)
        return found

    def _behind(self, one: OperatorVerdict) -> OperatorVerdict:
        return replace(
            one,
            verdict=Verdict.OTHER_MEANING,
            reason="it holds the same, and an operator before it does not go on with its state, so that rows reach it "
            "twice or not at all",
            remedy=_TO_GO_ON,
        )


def _only_transactions(operator: Operator) -> bool:
    return operator.kind == "sink" and not materializes(operator)


def _spoiled(one: OperatorVerdict | None) -> bool:
    return one is not None and one.verdict in REFUSED


_TO_GO_ON = (
    "Start it without state to have it gathered anew by the new rule, or give allowNrs 1 to go on with what there is."
)
_TO_DROP = "Undo this part of the change to keep it, or give allowNrs 1 to go on without it: it then starts empty."

_PARTS = {
    "kind": "it is an operator of another kind",
    "key": "it holds its state by another key",
    "aggregates": "it holds other aggregates",
    "window": "its windows are others",
    "join": "the join is of another kind",
    "order": "its rows are in another order",
    "rank": "it ranks in another way",
    "columns": "the rows that it holds have other columns",
    "upsert key": "its rows come by another key",
    "transactions": "its transactions are of another topic",
    "table": "it writes another table",
    "definition": "it is defined in another way",
    "place": "it reads another place",
}


def _difference(before: Holding, after: Holding) -> str:
    return next(
        (text for part, text in _PARTS.items() if before.held.get(part) != after.held.get(part)),
        "it holds the same in another place of the statement",
    )


def _above(plan: PlanGraph, number: int) -> list[int]:
    """The operators that an operator's rows come through."""
    found: dict[int, None] = {}
    waiting = list(plan.operators[number].inputs)
    while waiting:
        one = waiting.pop()
        found.setdefault(one)
        waiting += plan.operators[one].inputs
    return sorted(found)


_NAMES = {
    "table-source-scan": "source",
    "group-aggregate": "aggregate",
    "global-group-aggregate": "aggregate",
    "incremental-group-aggregate": "aggregate",
    "window-aggregate": "window aggregate",
    "global-window-aggregate": "window aggregate",
    "group-window-aggregate": "window aggregate",
    "join": "join",
    "interval-join": "interval join",
    "temporal-join": "join with versions",
    "window-join": "window join",
    "rank": "Top-N",
    "window-rank": "window Top-N",
    "deduplicate": "deduplication",
    "window-deduplicate": "window deduplication",
    "over-aggregate": "OVER aggregate",
    "match": "MATCH_RECOGNIZE",
    "changelog-normalize": "newest rows by key",
    "temporal-sort": "sort by time",
    "sort-limit": "sort with a limit",
    "limit": "limit",
}
_KEY = re.compile(r"(?:groupBy|partitionBy|key|where)=\[(?P<key>[^\]]*)\]")


def _told(operator: Operator, plan: PlanGraph, verdict: Verdict, reason: str, remedy: str = "") -> OperatorVerdict:
    sinks, sources = plan.sinks[operator.number], plan.sources[operator.number]
    return OperatorVerdict(
        operator.number, _named(operator, sinks), tuple(sorted(sources)), tuple(sorted(sinks)), verdict, reason, remedy
    )


def _named(operator: Operator, sinks: frozenset[str]) -> str:
    """The operator as its user knows it: by table, by key, and by the statement that it is of."""
    if operator.kind == "table-source-scan":
        return f"source {table_name(operator.spec)}"
    if operator.kind == "sink":
        what = "newest rows by key" if materializes(operator) else "transactions"
        return f"sink {table_name(operator.spec)} ({what})"
    key = _KEY.search(operator.description)
    by = f" by {key['key']}" if key and key["key"] else ""
    of = " and ".join(sorted(sinks))
    return f"{_NAMES.get(operator.kind, operator.kind)}{by}{f' of the statement for {of}' if of else ''}"


def _quoted(operator: Operator) -> str:
    return operator.description.replace("default_catalog.default_database.", "").replace(
        "default_catalog, default_database, ", ""
    )


def _place_of(operator: Operator) -> str:
    options = options_of(operator.spec)
    if topic := options.get("topic") or options.get("topic-pattern"):
        return f"topic {topic} at {options.get('properties.bootstrap.servers', '')}"
    return options.get("table-name") or options.get("url") or options.get("connector", "")
