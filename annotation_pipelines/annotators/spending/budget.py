"""Caps on what may be spent, and the account that keeps processes below them together. No file, no clock, no network.

Before a request goes out, an upper bound of what it may use is held in every scope with a cap: the run, the day, the
backfill. When its reply is there, the bound is let go, and what it used is spent. As long as bounds are true, spent and
held together never exceed a cap, whatever is killed in between: what a dead process held counts as spent, since a
request in flight may have been billed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Literal, TypeGuard

from annotation_pipelines import project

Kind = Literal["run", "day", "backfill"]
Answer = Literal["yes", "wait", "no"]

KEPT_DAYS = 7
"""A scope that nothing was spent in for so many days is dropped."""

KEPT_SCOPES = 12
"""So many scopes are kept when nothing is held in them: few enough for a turn of the document to take microseconds."""

_PLACES = 9
_BATCH = "batch:"
_WORDS: dict[Kind, str] = {"run": "a run", "day": "a day (UTC)", "backfill": "a backfill"}


@dataclass(frozen=True, slots=True)
class Amount:
    """Money and tokens.

    Attributes:
        usd: US dollars, to a billionth; None where a price is unknown, and what is added to it is unknown then, too.
        tokens: Read and written.
    """

    usd: float | None = 0.0
    tokens: int = 0

    def __add__(self, other: Amount) -> Amount:
        unknown = self.usd is None or other.usd is None
        return Amount(
            None if unknown else round((self.usd or 0) + (other.usd or 0), _PLACES), self.tokens + other.tokens
        )

    def __sub__(self, other: Amount) -> Amount:
        unknown = self.usd is None or other.usd is None
        return Amount(
            None if unknown else round((self.usd or 0) - (other.usd or 0), _PLACES), self.tokens - other.tokens
        )

    def __bool__(self) -> bool:
        return bool(self.usd) or bool(self.tokens)

    def larger(self, other: Amount) -> Amount:
        """Of each measure the larger one; a known sum of money over an unknown one."""
        known = [usd for usd in (self.usd, other.usd) if usd is not None]
        return Amount(max(known, default=None), max(self.tokens, other.tokens))


@dataclass(frozen=True, slots=True)
class Cap:
    """What may be spent in a scope.

    Attributes:
        usd: US dollars; None for no cap on money.
        tokens: Read and written; None for no cap on tokens.
    """

    kind: Kind
    usd: float | None
    tokens: int | None

    def fits(self, amount: Amount) -> bool:
        """Whether an amount is within the cap."""
        money = self.usd is None or (amount.usd or 0.0) <= self.usd
        return money and (self.tokens is None or amount.tokens <= self.tokens)

    @property
    def words(self) -> str:
        """Such as: 5 USD and 1,000,000 tokens a run."""
        measures = [f"{self.usd:g} USD"] if self.usd is not None else []
        measures += [f"{self.tokens:,} tokens"] if self.tokens is not None else []
        return f"{' and '.join(measures)} {_WORDS[self.kind]}"

    def exceeded_by(self, amount: Amount) -> str:
        """The key of the declaration that an amount exceeds."""
        money = self.usd is not None and (amount.usd or 0.0) > self.usd
        return f"per_{self.kind}_{'usd' if money else 'tokens'}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a bound may be held now.

    Attributes:
        answer: yes; wait (what others hold may come in below its bound, and make room); no.
        cap: The one in the way.
        spent: In its scope, with what batches hold; for wait with all that is held.
    """

    answer: Answer
    cap: Cap | None = None
    spent: Amount = Amount()


def declared_caps(budget: project.Budget) -> tuple[Cap, ...]:
    """The caps of a declared budget, those that cap nothing left out."""
    caps = (
        Cap("run", budget.per_run_usd, budget.per_run_tokens),
        Cap("day", budget.per_day_usd, budget.per_day_tokens),
        Cap("backfill", budget.per_backfill_usd, budget.per_backfill_tokens),
    )
    return tuple(cap for cap in caps if cap.usd is not None or cap.tokens is not None)


class Account:
    """What was spent and is held in each scope: a view of a JSON document, which it changes.

    A scope is run:ID, day:YYYY-MM-DD or backfill:ID. Holders are processes by name, or batch:ID for a batch that an
    endpoint works on. A scope that is missing, or whose entry makes no sense, counts as empty.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        scopes = document.get("scopes")
        if not isinstance(scopes, dict):
            scopes = document["scopes"] = {}
        self._scopes: dict[str, Any] = scopes
        self._checked: dict[str, dict[str, Any]] = {}

    @property
    def scopes(self) -> list[str]:
        """Those with an entry, the one that was changed last at the end."""
        return list(self._scopes)

    def spent(self, scope: str) -> Amount:
        """What was spent in a scope."""
        return Amount(*self._entry(scope)["spent"])

    def held(self, scope: str, holder: str | None = None) -> Amount:
        """What is held in a scope, by one holder or by all."""
        held = self._entry(scope)["held"]
        if holder is not None:
            return Amount(*held[holder]) if holder in held else Amount()
        return sum((Amount(*amount) for amount in held.values()), Amount())

    def answer(self, caps: Mapping[str, Cap], bound: Amount) -> Verdict:
        """Whether a bound may be held in these scopes, each with its cap.

        Raises:
            ValueError: There is a cap on money, and the bound has none.
        """
        verdict = Verdict("yes")
        for scope, cap in caps.items():
            if cap.usd is not None and bound.usd is None:
                raise ValueError("a cap on money needs a bound in money")
            entry = self._entry(scope)
            firm, loose = Amount(*entry["spent"]), Amount()
            for holder, amount in entry["held"].items():
                if holder.startswith(_BATCH):
                    firm += Amount(*amount)  # a batch takes hours: nobody waits for it
                else:
                    loose += Amount(*amount)
            if not cap.fits(firm + bound):
                return Verdict("no", cap, firm)
            if not cap.fits(firm + loose + bound):
                verdict = Verdict("wait", cap, firm + loose)
        return verdict

    def hold(self, scopes: Mapping[str, Cap] | tuple[str, ...], holder: str, bound: Amount, today: date) -> None:
        """Hold a bound in these scopes."""
        for scope in scopes:
            self._change(scope, today, holder, bound)

    def settle(self, scopes: tuple[str, ...], holder: str, bound: Amount, spent: Amount, today: date) -> None:
        """Let a bound go in these scopes, and count what was used as spent."""
        for scope in scopes:
            self._change(scope, today, holder, Amount() - bound, spent)

    def hand_to_batch(self, scopes: tuple[str, ...], holder: str, bound: Amount, batch_id: str, today: date) -> None:
        """Let a batch hold what a process held; it outlives the process."""
        for scope in scopes:
            self._change(scope, today, holder, Amount() - bound)
            self._change(scope, today, f"{_BATCH}{batch_id}", bound)

    def settle_batch(self, batch_id: str, spent: Amount | None, today: date) -> None:
        """Count what a batch used as spent, in all scopes where it holds something; None: what it held."""
        holder = f"{_BATCH}{batch_id}"
        for scope in self.scopes:
            held = self.held(scope, holder)
            if held:
                self._change(scope, today, holder, Amount() - held, held if spent is None else spent)

    def reclaim(self, is_alive: Callable[[str], bool]) -> bool:
        """Count as spent what dead processes hold; whether there was any. Batches do not die."""
        found = False
        for scope in self.scopes:
            entry = self._entry(scope)
            for holder in [h for h in entry["held"] if not h.startswith(_BATCH) and not is_alive(h)]:
                held = Amount(*entry["held"].pop(holder))
                entry["spent"] = _listed(Amount(*entry["spent"]) + held)
                found = True
        return found

    def restore(self, scope: str, spent: Amount, holder: str, held: Amount, today: date) -> None:
        """Make good what a damaged document has lost: at least so much was spent, and exactly so much is held."""
        known, holds = self.spent(scope), self.held(scope, holder)
        enough = known.larger(spent)
        if enough != known:
            self._entry(scope)["spent"] = _listed(enough)
        if enough != known or holds != held:
            self._change(scope, today, holder, held - holds)

    def drop_old(self, today: date) -> None:
        """Forget scopes that are not used any more."""
        oldest = (today - timedelta(days=KEPT_DAYS)).isoformat()
        free = [scope for scope in self.scopes if not self._entry(scope)["held"]]
        many = set(free[: max(0, len(free) - KEPT_SCOPES)])
        for scope in self.scopes:
            if self._entry(scope)["day"] < oldest or scope in many:
                del self._scopes[scope], self._checked[scope]

    def _entry(self, scope: str) -> dict[str, Any]:
        entry = self._checked.get(scope)
        if entry is None:
            found = self._scopes.get(scope)
            entry = found if _makes_sense(found) else {"spent": [0.0, 0], "held": {}, "day": ""}
            self._checked[scope] = entry
        return entry

    def _change(self, scope: str, today: date, holder: str, held: Amount, spent: Amount | None = None) -> None:
        entry = self._entry(scope)
        total = self.held(scope, holder) + held
        if total:
            entry["held"][holder] = _listed(total)
        else:
            entry["held"].pop(holder, None)
        if spent is not None:
            entry["spent"] = _listed(Amount(*entry["spent"]) + spent)
        entry["day"] = today.isoformat()
        self._scopes.pop(scope, None)
        self._scopes[scope] = entry  # at the end: the one that was changed last


def _listed(amount: Amount) -> list[float | int | None]:
    return [amount.usd, amount.tokens]


def _makes_sense(entry: object) -> TypeGuard[dict[str, Any]]:
    if not isinstance(entry, dict) or not isinstance(entry.get("day"), str) or not isinstance(entry.get("held"), dict):
        return False
    return all(map(_is_amount, (entry.get("spent"), *entry["held"].values())))


def _is_amount(value: object) -> bool:
    match value:
        case [None | int() | float(), int()]:
            return True
    return False
