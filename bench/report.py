"""What was measured, as ratios against the floor, the best peer and the goals: for a terminal, and as Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

OURS, FLOOR = "outrider", "floor"
PEERS = ("execnet", "mitogen", "rpyc", "asyncssh", "fabric", "plumbum")
BEST_PEER = "best peer"
LIMIT = "limit"


@dataclass(frozen=True)
class Goal:
    """`against`: "floor", "best peer" or a contender's name, then `reach` is a ratio; or "limit", then it is a value.

    `targets`: where it holds; all if empty.
    """

    against: str
    reach: float
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    name: str
    title: str
    unit: str
    higher: bool = False
    """Whether more is better, as of a rate."""
    goals: tuple[Goal, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """A goal at one target: `ratio` of ours to `reference` (for a limit: our value), and whether that is reached."""

    case: Case
    target: str
    goal: Goal
    reference: str
    ratio: float
    reached: bool


@dataclass
class Results:
    """Values by case, target and contender, and why others have none."""

    meta: dict[str, str] = field(default_factory=dict)
    cases: dict[str, Case] = field(default_factory=dict)
    values: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)
    missing: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def add(self, case: str, target: str, who: str, value: float | list[float]) -> None:
        found = self.values.setdefault((case, target, who), [])
        found.extend(value if isinstance(value, list) else [value])

    def miss(self, case: str, target: str, who: str, reason: str) -> None:
        self.missing[case, target, who] = reason

    def targets(self, case: str) -> list[str]:
        return list(
            dict.fromkeys(target for name, target, _ in [*self.values, *self.missing] if name == case)
        )

    def contenders(self, case: str, *, tried: bool = False) -> list[str]:
        """Ourselves, the floor, then all that have a value somewhere, or that have tried."""
        keys = [*self.values, *self.missing] if tried else [*self.values]
        found = dict.fromkeys(who for name, _, who in keys if name == case)
        return sorted(found, key=lambda who: (who != OURS, who != FLOOR))

    def median(self, case: str, target: str, who: str) -> float | None:
        values = self.values.get((case, target, who))
        return statistics.median(values) if values else None

    def ratio(self, case: str, target: str, who: str) -> float | None:
        """Ours to theirs: the median over rounds, so that what slows down a whole round slows down both of its sides."""
        ours, theirs = self.values.get((case, target, OURS)), self.values.get((case, target, who))
        if not ours or not theirs or not all(theirs):
            return None
        if len(ours) == len(theirs):
            return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        return statistics.median(ours) / statistics.median(theirs)

    def best_peer(self, case: Case, target: str) -> str | None:
        known = {who: value for who in PEERS if (value := self.median(case.name, target, who)) is not None}
        if not known:
            return None
        return max(known, key=known.__getitem__) if case.higher else min(known, key=known.__getitem__)

    def verdicts(self) -> Iterator[Verdict]:
        for case in self.cases.values():
            for target in self.targets(case.name):
                for goal in case.goals:
                    if (not goal.targets or target in goal.targets) and (
                        verdict := self.verdict(case, target, goal)
                    ):
                        yield verdict

    def verdict(self, case: Case, target: str, goal: Goal) -> Verdict | None:
        if (case.name, target, OURS) in self.missing:  # whatever the others have: that is no success
            return Verdict(case, target, goal, goal.against, math.nan, reached=False)
        if goal.against == LIMIT:
            reference, ratio = "", self.median(case.name, target, OURS)
        else:
            reference = goal.against
            if reference == BEST_PEER:
                reference = self.best_peer(case, target) or ""
            ratio = self.ratio(case.name, target, reference)
        if ratio is None:
            return None
        reached = ratio >= goal.reach if case.higher else ratio <= goal.reach
        return Verdict(case, target, goal, reference, ratio, reached)

    def plain(self) -> dict[str, Any]:
        """For JSON."""

        def rows(found: dict[tuple[str, str, str], Any], name: str) -> list[dict[str, Any]]:
            return [
                {"case": case, "target": target, "who": who, name: value}
                for (case, target, who), value in found.items()
            ]

        return {
            "meta": self.meta,
            "cases": [asdict(case) for case in self.cases.values()],
            "measured": rows(self.values, "values"),
            "missing": rows(self.missing, "reason"),
        }


def results_of(plain: dict[str, Any]) -> Results:
    """The results that `Results.plain` gave."""
    found = Results(meta=plain["meta"])
    for item in plain["cases"]:
        goals = tuple(Goal(goal["against"], goal["reach"], tuple(goal["targets"])) for goal in item["goals"])
        found.cases[item["name"]] = Case(**{**item, "goals": goals})
    for item in plain["measured"]:
        found.values[item["case"], item["target"], item["who"]] = item["values"]
    for item in plain["missing"]:
        found.missing[item["case"], item["target"], item["who"]] = item["reason"]
    return found


def number(value: float) -> str:
    """Three digits that matter, and no false precision."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def goal_text(verdict: Verdict) -> str:
    sign = "≥" if verdict.case.higher else "≤"
    if verdict.goal.against == LIMIT:
        return f"{sign} {number(verdict.goal.reach)} {verdict.case.unit}"
    return f"{sign} {verdict.goal.reach:.2f} × {verdict.reference}"


def verdict_rows(results: Results) -> Iterator[tuple[str, ...]]:
    """Case, target, ours, what it is measured against, ratio, goal, reached or missed."""
    for verdict in results.verdicts():
        case = verdict.case
        failed = math.isnan(verdict.ratio)
        ours = None if failed else results.median(case.name, verdict.target, OURS)
        other = results.median(case.name, verdict.target, verdict.reference)
        yield (
            case.title,
            verdict.target,
            "failed" if ours is None else f"{number(ours)} {case.unit}",
            f"{number(other)} {case.unit}" if other is not None else "",
            f"{verdict.ratio:.2f}" if other is not None and not failed else "",
            goal_text(verdict),
            "reached" if verdict.reached else "MISSED",
        )


def other_rows(results: Results) -> Iterator[tuple[str, ...]]:
    """The same of what has no goal there: ours against the floor."""
    judged = {(verdict.case.name, verdict.target) for verdict in results.verdicts()}
    for case in results.cases.values():
        for target in results.targets(case.name):
            ours, floor = (results.median(case.name, target, who) for who in (OURS, FLOOR))
            if (case.name, target) in judged or ours is None:
                continue
            ratio = results.ratio(case.name, target, FLOOR)
            other = "" if floor is None else f"{number(floor)} {case.unit}"
            yield (
                case.title,
                target,
                f"{number(ours)} {case.unit}",
                other,
                f"{ratio:.2f}" if ratio else "",
                "",
                "",
            )


HEADS = ("case", "target", "ours", "other", "ratio", "goal", "")


def table(rows: Sequence[Sequence[str]], heads: Sequence[str]) -> str:
    """For a terminal."""
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [heads, *rows]
    ]
    return "\n".join(lines)


def markdown_table(rows: Sequence[Sequence[str]], heads: Sequence[str]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [heads, ["---"] * len(heads), *rows])


def cell(results: Results, case: str, target: str, who: str, notes: list[str]) -> str:
    """Median, and the spread from the lowest to the highest; or a dash, with a note."""
    values = results.values.get((case, target, who))
    if values:
        middle = number(statistics.median(values))
        return middle if len(values) == 1 else f"{middle} ({number(min(values))}–{number(max(values))})"
    reason = results.missing.get((case, target, who))
    if reason is None:
        return "–"
    note = f"{who}: {reason}"
    if note not in notes:
        notes.append(note)
    return f"– [{notes.index(note) + 1}]"


def markdown(results: Results) -> str:
    """The whole of results.md."""
    lines = ["# Results of the bench", "", "![Medians](results.svg)", ""]
    lines += [f"- {name}: {value}" for name, value in results.meta.items()]
    lines += [
        "",
        "Ratios are ours to theirs, measured in turns in one run; absolute numbers hold for this machine only.",
        "",
    ]
    rows = list(verdict_rows(results))
    missed = [row for row in rows if row[-1] == "MISSED"]
    lines += [
        f"## Goals: {len(rows) - len(missed)} of {len(rows)} reached",
        "",
        markdown_table(rows, HEADS),
        "",
    ]
    lines += ["## All that was measured", "", "Median (lowest–highest)."]
    notes: list[str] = []
    for case in results.cases.values():
        whos = results.contenders(case.name, tried=True)
        if not results.contenders(case.name):
            continue
        rows = [
            (target, *(cell(results, case.name, target, who, notes) for who in whos))
            for target in results.targets(case.name)
        ]
        better = "more is better" if case.higher else "less is better"
        lines += ["", f"### {case.title}, {case.unit}", "", f"{better.capitalize()}.", ""]
        lines += [markdown_table(rows, ("", *whos))]
    lines += ["", *(f"[{i}] {note}  " for i, note in enumerate(notes, 1)), ""]
    return "\n".join(lines)
