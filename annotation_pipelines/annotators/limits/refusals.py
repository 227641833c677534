"""The rate an endpoint allows, learned from its refusals (429) alone.

A refusal can mean that too much is sent, or that the server sheds load at random whatever is sent. What tells them
apart is whether sending less raises the accepted share:

- At the first refusal sending is held for a moment, until refusals under way have come in; then the rate is cut to what
  was accepted, and cut again until it is clear which of the two it is (`explanations`).
- Below a limit the rate grows along a cubic, as TCP CUBIC does (RFC 9438): quickly back to what was accepted, long
  around it, then ever faster beyond, until the next refusal, or until the cap holds nothing back.
- Shedding is taken as background: the rate goes back to what it was before, and refusals up to that share are ignored
  for a while; then it is tried again.
- Where nothing is accepted the quota is used up. The rate afterwards is what was accepted, averaged over all the time
  until something was accepted again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from annotation_pipelines.annotators.limits.explanations import fallen, odds_of_shedding

Verdict = Literal["steady", "changed", "exhausted"]

_SETTLE = 0.1
"""Seconds that sending is held at the first refusal, for others under way to come in."""
_REFILL = 0.25
"""The same where the rate is limited already: a bucket that is empty must fill a little, or chance refuses more."""
_HEADROOM = 0.1
"""The share of the accepted rate that a cut stays below it at first."""
_SHORTEST, _LONGEST = 1.0, 60.0
_PLATEAU_REQUESTS = 300.0
_LIFT = 4.0
"""A cap that has grown to so many times what was accepted is lifted once it holds nothing back."""
_CONFIRMED = 1.33
"""Two estimates of one limit that differ by less confirm each other."""
_FEWEST, _FEW, _MANY = 8, 24, 100
"""Replies to a trial: to say anything, to cut again, to cut again where hardly any is a refusal."""
_TRIAL_SECONDS, _LONG_TRIAL, _LONGEST_TRIAL = 0.25, 3.0, 10.0
"""Seconds of trials: at least, to cut again, to be content."""
_MOST_TRIALS = 6
_CLEAR = 3.0
"""Logarithm of the odds at which shedding is taken for true."""
_LIKELY = 1.0
"""The same for a limit: what comes later may still tell."""
_CLEAN, _STRAY, _FEWEST_EARLY = 0.9, 0.02, 3
_HARDLY = 0.15
"""Where less is accepted it is a limit in any case: no server sheds so much and is worth asking at full rate."""
_SLOW = 8.0
"""Requests a second below which a trial would take too long: the likelier explanation is taken."""
_DEEPEST = 0.3
_TRICKLE = 2.0
"""Requests a second: when even of these all are refused, the quota is used up."""
_CONTRADICTED = 0.5
_FIRST_BELIEF, _LONGEST_BELIEF = 8.0, 16.0
_BELIEF_REPLIES = 64
_SHORTEST_COUNT = 0.05
_CAUTIOUS = 100.0
"""Requests a second to try at most when what was accepted in less than a second may have been a burst."""
_LOWEST = 0.1
_SLICE, _SLICES = 5.0, 18


@dataclass(slots=True)
class Counts:
    """What was sent since a time, and what became of it."""

    start: float = 0.0
    sent: int = 0
    accepted: int = 0
    refused: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            min(self.start, other.start),
            self.sent + other.sent,
            self.accepted + other.accepted,
            self.refused + other.refused,
        )

    @property
    def replies(self) -> int:
        """How many came."""
        return self.accepted + self.refused

    def settled(self, until: float, now: float, lag: float) -> float:
        """How many requests are known to be accepted or refused. What was not refused within the time that refusals
        take is accepted: servers are quick to refuse and slow to answer.

        Args:
            until: When sending ended.
            lag: Seconds from a request to its refusal.
        """
        share = (now - lag - self.start) / max(until - self.start, 0.001)
        return max(self.sent * min(share, 1.0), float(self.replies))


@dataclass(slots=True)
class Refusals:
    """What is believed of one endpoint and model.

    Attributes:
        reference: What was accepted a second when the rate was cut last; None without a cap.
        since: When it began to grow again.
        plateau: Seconds from there until it is again what was accepted; longer with each estimate that confirms the
            one before.
        good: The last reference that proved right.
        background: The share that is refused whatever the rate, up to `believed_until`.
        belief: Seconds that the next such belief holds.
        on_trial: Whether it is to be seen yet what the last cut did.
        trials: What was seen before: requests a second, replies, refusals among them.
        before: The cap before the first of the cuts.
        held_from, held_until: While sending is held.
        lag: Seconds from a request to its refusal.
        era: Only what was sent from this era on is counted.
        older, newer: Counts: of the last seconds, or since the last cut.
        slice: Number of the last slice in `accepted`.
        accepted: Answers in slices of five seconds, the last one last.
    """

    reference: float | None = None
    since: float = 0.0
    plateau: float = _SHORTEST
    good: float | None = None
    background: float = 0.0
    believed_until: float = 0.0
    belief: float = _FIRST_BELIEF
    on_trial: bool = False
    trials: list[list[float]] = field(default_factory=list)
    before: float | None = None
    held_from: float = 0.0
    held_until: float | None = None
    lag: float = 0.0
    era: int = 0
    older: Counts = field(default_factory=Counts)
    newer: Counts = field(default_factory=Counts)
    slice: int = 0
    accepted: list[int] = field(default_factory=lambda: [0] * _SLICES)

    def rate(self, now: float) -> float | None:
        """Requests a second; None without a cap."""
        if self.reference is None:
            return None
        passed = max(now - self.since, 0.0) if not self.on_trial else 0.0
        growth = 1 + _HEADROOM * ((passed - self.plateau) / self.plateau) ** 3
        return self.reference * growth

    @property
    def on_watch(self) -> bool:
        """Whether the next refusal would be news."""
        return not self.on_trial and not self.background and self.held_until is None

    def observe(self, sent: int, accepted: int, refused: int, lag: float, now: float) -> Verdict:
        """Take in what was sent in this era, and the replies to it.

        Args:
            lag: Seconds from a request to its refusal, on average; of no meaning without refusals.

        Returns:
            Whether a new era begins (changed), or nothing is accepted any more (exhausted).
        """
        self._roll(now)
        self.newer.sent += sent
        self.newer.accepted += accepted
        self.newer.refused += refused
        self.accepted[-1] += accepted
        if refused:
            self.lag = 0.7 * self.lag + 0.3 * lag if self.lag else lag
        if self.background:
            if now < self.believed_until:
                return self._compare(now)
            return self._doubt(now)
        if self.on_trial:
            return self._try(now)
        if refused and self.held_until is None and self._is_news(now):
            self.held_from = now
            self.held_until = now + (_SETTLE if self.reference is None else _REFILL)
        if self.held_until is not None and now >= self.held_until:
            return self._refused(self.held_from, now)
        return "steady"

    def suspend(self, answered: int, now: float) -> None:
        """Only probes go out for another reason: nothing is learned meanwhile."""
        self._roll(now)
        self.accepted[-1] += answered
        self.held_until = None
        self._forget(now)

    def _is_news(self, now: float) -> bool:
        """Whether refusals are more than strays."""
        rate = self.rate(now)
        if self.reference is None or rate is None:
            counts = self.older + self.newer
        else:
            counts = self.newer
            if rate < self.reference and counts.refused < _FEWEST_EARLY:
                return False
        return counts.refused > _STRAY * counts.replies

    def resume(self, now: float, until: float | None = None) -> None:
        """Something is accepted again, or will be at a time that the server named: take the average up to there."""
        until = until or now
        self._roll(now)
        first = next((n for n, count in enumerate(self.accepted) if count), None)
        self._forget(now)
        self.on_trial, self.trials, self.held_until, self.background = False, [], None, 0.0
        if first is None or sum(self.accepted) < 5:
            self.reference = None
            return
        start = (self.slice - (_SLICES - 1) + first) * _SLICE
        seconds = max(until - start, _SLICE)
        self.reference = sum(self.accepted) / seconds
        self.since, self.plateau = until, min(max(seconds / 2, _SHORTEST), _LONGEST)

    def _refused(self, until: float, now: float) -> Verdict:
        """The first refusals, all in: cut the rate, and try what that does.

        Args:
            until: When sending ended.
        """
        self.held_until = None
        counts, reference, cap = self.older + self.newer, self.reference, self.rate(now)
        seconds = until - counts.start
        replies = counts.settled(until, now, self.lag)
        if not counts.refused or (reference is None and replies < _FEWEST and seconds < 1):
            return "steady"
        sent_rate = counts.sent / max(seconds, _SHORTEST_COUNT)
        rate = max(sent_rate * (1 - counts.refused / replies), 1.0)
        if reference is None or cap is None:
            self.before = self.good = None
            self.trials = []
            rate = max(rate, min(_SLOW, sent_rate / 2))
            return self._cut(min(rate, _CAUTIOUS) if seconds < 1 else rate, now)
        if cap < reference:
            # The last cut was in vain, whatever it looked like: what was seen before still counts.
            return self._cut(reference, now)
        self.trials = []
        if self.plateau > _SHORTEST:
            self.before = cap
        # Since the last cut a bucket has filled and emptied again: what was accepted since is what it was filled with.
        return self._cut(max(rate, reference), now)

    def _try(self, now: float) -> Verdict:
        """What the last cut did, as soon as it is clear."""
        counts, rate = self.older + self.newer, self.rate(now) or 0.0
        replies, age, refused = counts.settled(now, now, self.lag), now - counts.start, counts.refused
        if replies < _FEWEST or refused >= replies:
            return self._all_refused(rate, replies, refused, age, now)
        share = 1 - refused / replies
        odds = odds_of_shedding([*self.trials, (rate, replies, refused)])
        if share >= _CLEAN and (replies >= _FEW or age >= _LONGEST_TRIAL):
            if refused <= _STRAY * replies or odds <= -_LIKELY:
                self._settle_on(now)
                if not refused:
                    self.trials = []
                return "steady"
        if odds >= _CLEAR and share >= _HARDLY and not fallen(self.trials, replies, refused):
            self._believe([*self.trials, (rate, replies, refused)], now)
            return "changed"
        if replies < max(_FEW, _TRIAL_SECONDS * rate) and age < _LONG_TRIAL:
            return "steady"
        if refused < 3 and replies < _MANY and age < _LONGEST_TRIAL:
            return "steady"
        if fallen(self.trials, replies, refused):
            self.trials = []
        self._note(rate, replies, refused)
        if rate * share < _SLOW and share >= _HARDLY and odds >= 0:
            self._believe(self.trials, now)
            return "changed"
        return self._cut(rate * max(share, _DEEPEST), now)

    def _all_refused(self, rate: float, replies: float, refused: int, age: float, now: float) -> Verdict:
        """Nothing is accepted, or too little is known."""
        if not refused or refused < replies:
            return "steady"
        if rate <= _TRICKLE and age >= 5 and replies >= 3:
            return "exhausted"
        if replies < _FEW and not (age >= 1 and replies >= _FEWEST):
            return "steady"
        self.trials = []
        return self._cut(rate * _DEEPEST, now)

    def _note(self, rate: float, replies: float, refused: int) -> None:
        self.trials = [*self.trials[1 - _MOST_TRIALS :], [rate, replies, refused]]

    def _cut(self, rate: float, now: float) -> Verdict:
        self.on_trial = True
        self._cap(rate, now)
        return "changed"

    def _settle_on(self, now: float) -> None:
        """The cut was right."""
        rate = self.reference or _LOWEST
        confirmed = self.good is not None and 1 / _CONFIRMED < rate / self.good < _CONFIRMED
        longest = min(max(_PLATEAU_REQUESTS / rate, 5.0), _LONGEST)
        self.plateau = min(2 * self.plateau, longest) if confirmed else _SHORTEST
        self.good, self.on_trial, self.since, self.belief = rate, False, now, _FIRST_BELIEF

    def _believe(self, trials: list[list[float]], now: float) -> None:
        self.background = sum(trial[2] for trial in trials) / sum(trial[1] for trial in trials)
        self.believed_until = now + self.belief
        self.belief = min(2 * self.belief, _LONGEST_BELIEF)
        self.reference, self.since, self.plateau = self.before, now, _SHORTEST
        self.on_trial, self.trials = False, []
        self._forget(now)

    def _doubt(self, now: float) -> Verdict:
        """A belief has had its time: is it still so?"""
        self.background = 0.0
        counts, cap = self.older + self.newer, self.rate(now)
        replies, seconds = counts.settled(now, now, self.lag), max(now - counts.start, _SHORTEST_COUNT)
        if not self.newer.refused or replies < _FEW:
            return "steady"
        self.before, self.trials = cap, []
        self._note(counts.sent / seconds, replies, counts.refused)
        return self._cut(max(counts.sent / seconds * (1 - counts.refused / replies), _LOWEST), now)

    def _compare(self, now: float) -> Verdict:
        """Whether the refusals are still those believed to be background."""
        counts = self.older + self.newer
        replies, seconds = counts.settled(now, now, self.lag), max(now - counts.start, _SHORTEST_COUNT)
        if replies < _BELIEF_REPLIES:
            return "steady"
        expected = replies * self.background
        noise = 4 * (expected * (1 - self.background)) ** 0.5
        share = 1 - counts.refused / replies
        if counts.refused > expected + noise and share <= _CONTRADICTED * (1 - self.background):
            rate = max(counts.sent * share / seconds, _LOWEST)
            self.before, self.background, self.trials = rate / (1 - self.background), 0.0, []
            self._note(counts.sent / seconds, replies, counts.refused)
            return self._cut(rate, now)
        if counts.refused < expected - noise:
            self.background = 1 - share
        return "steady"

    def _cap(self, rate: float, now: float) -> None:
        self.reference, self.since = max(rate, _LOWEST), now
        self._forget(now)

    def _forget(self, now: float) -> None:
        self.older, self.newer = Counts(now), Counts(now)

    def _roll(self, now: float) -> None:
        number = int(now // _SLICE)
        if number > self.slice:
            new = min(number - self.slice, _SLICES)
            self.accepted = self.accepted[new:] + [0] * new
            self.slice = number
        age, rate = now - self.newer.start, self.rate(now)
        if age < 1:
            return
        if self.reference is not None and rate is not None and rate > _LIFT * self.reference:
            if self.newer.sent < 0.5 * rate * age:  # it holds nothing back
                self.reference = self.before = self.good = None
                self.older = Counts(self.newer.start)
        if self.reference is not None and not self.background:
            self.older += self.newer
        else:
            self.older = self.newer if age < 10 else Counts(now)
        self.newer = Counts(now)

