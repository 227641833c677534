"""The rate an endpoint allows, learned from its refusals (429) alone.

A refusal can mean that too much is sent, or that the server sheds load at random whatever is sent. What tells them
apart is whether sending less raises the accepted share:

- At the first refusals sending is held for a moment, until those under way have come in. Then the rate is cut to what
  was accepted, and cut again until it is clear which of the two it is (`explanations`).
- Below a limit the rate grows again, slowly around what was accepted (`cap`).
- Shedding is taken for background: the rate goes back to what it was before, and refusals up to that share are ignored
  for a while (`background`); then it is tried again.
- Where nothing is accepted even of a trickle, the quota is used up. The rate afterwards is what was accepted, averaged
  over all the time until something was accepted again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from annotation_pipelines.annotators.limits.background import Background
from annotation_pipelines.annotators.limits.cap import Cap
from annotation_pipelines.annotators.limits.counts import Counts, LongRun
from annotation_pipelines.annotators.limits.explanations import (
    STRAY,
    Trial,
    after_burst,
    more_than_strays,
    odds_of_shedding,
    refused_share,
)

Verdict = Literal["steady", "changed", "exhausted"]

_SETTLE, _REFILL = 0.1, 0.25
"""Seconds that sending is held at the first refusals; where there is a cap, a bucket that is empty fills a little."""
_EARLY = 3
"""Refusals that count while the rate is below what was accepted: fewer are chance."""
_FEWEST, _FEW, _MANY = 8, 24, 100
"""Replies to a trial: to say anything, to cut again, to cut again where hardly any is a refusal."""
_TRIAL_SECONDS, _LONG_TRIAL, _LONGEST_TRIAL = 0.25, 3.0, 10.0
"""Seconds of a trial: at least, to do with fewer replies, to do with those there are."""
_MOST_TRIALS = 6
_SURE, _LIKELY = 3.0, 1.0
"""Logarithms of odds: to take refusals for shedding, to take them for a limit, which what comes later may disprove."""
_HARDLY = 0.15
"""Where less is accepted it is a limit in any case: a server that sheds so much is not worth asking at full rate."""
_DEEPEST = 0.3
_CAUTIOUS = 100.0
"""Requests a second to try at most when what was accepted in less than a second may have been a burst."""
_SLOW = 8.0
"""Requests a second below which a trial would take too long: the likelier explanation is tried."""
_TRICKLE = 2.0
_SHORTEST_COUNT = 0.05


@dataclass(slots=True)
class Refusals:
    """What is believed of one endpoint and model.

    Attributes:
        on_trial: Whether it is to be seen yet what the last cut did.
        cuts: So many in a row.
        trials: What was seen before the last of them.
        before: The cap before the first of them.
        held_from, held_until: While sending is held.
        lag: Seconds from a request to its refusal.
        era: Only what was sent from this era on is counted.
        older, newer: Counts of the last seconds; with a cap, since it was cut.
    """

    cap: Cap = field(default_factory=Cap)
    background: Background = field(default_factory=Background)
    on_trial: bool = False
    cuts: int = 0
    trials: list[Trial] = field(default_factory=list)
    before: float | None = None
    held_from: float = 0.0
    held_until: float | None = None
    lag: float = 0.0
    era: int = 0
    older: Counts = field(default_factory=Counts)
    newer: Counts = field(default_factory=Counts)
    long_run: LongRun = field(default_factory=LongRun)

    @property
    def on_watch(self) -> bool:
        """Whether the next refusal would be news."""
        return not self.on_trial and not self.background.share and self.held_until is None

    def observe(self, sent: int, accepted: int, refused: int, lag: float, now: float) -> Verdict:
        """Take in what was sent in this era, and the replies to it.

        Args:
            lag: Seconds from a request to its refusal, on average; of no meaning without refusals.

        Returns:
            Whether a new era begins (changed), or nothing is accepted any more (exhausted).
        """
        self._roll(now)
        self.long_run.add(accepted, now)
        self.newer.sent += sent
        self.newer.accepted += accepted
        self.newer.refused += refused
        if refused:
            self.lag = 0.7 * self.lag + 0.3 * lag if self.lag else lag
        if self.background.share:
            return self._compare(now)
        if self.on_trial:
            return self._try(now)
        if refused and self.held_until is None and self._is_news(now):
            self.held_from = now
            self.held_until = now + (_SETTLE if self.cap.reference is None else _REFILL)
        if self.held_until is not None and now >= self.held_until:
            return self._settle(self.held_from, now)
        return "steady"

    def suspend(self, accepted: int, now: float) -> None:
        """Only probes go out: nothing is learned meanwhile."""
        self.long_run.add(accepted, now)
        self.held_until = None
        self._forget(now)

    def resume(self, now: float, until: float | None = None) -> None:
        """Something is accepted again, or will be at a time that the server named: take the average up to there."""
        until = until or now
        self.long_run.add(0, now)
        average = self.long_run.average(until)
        self._forget(now)
        self.on_trial, self.trials, self.held_until = False, [], None
        self.background.drop()
        if average:
            rate, seconds = average
            self.cap.set(rate, until, seconds / 2)
        else:
            self.cap.set(None, until)

    def _is_news(self, now: float) -> bool:
        reference, rate = self.cap.reference, self.cap.rate(now)
        if reference is None or rate is None:
            counts = self.older + self.newer
        elif rate < reference and self.newer.refused < _EARLY:
            return False
        else:
            counts = self.newer
        return more_than_strays(counts.refused, counts.replies)

    def _settle(self, until: float, now: float) -> Verdict:
        """The first refusals, all in: cut the rate, and try what that does.

        Args:
            until: When sending ended.
        """
        self.held_until = None
        counts, reference, cap = self.older + self.newer, self.cap.reference, self.cap.rate(now)
        replies, seconds = counts.settled(until, now, self.lag), until - counts.start
        if not counts.refused or (reference is None and replies < _FEWEST and counts.refused < _EARLY):
            return "steady"
        sent_rate = counts.sent / max(seconds, _SHORTEST_COUNT)
        rate = max(sent_rate * (1 - counts.refused / replies), 1.0)
        if reference is None or cap is None:
            self.before, self.trials = None, []
            rate = max(rate, min(_SLOW, sent_rate / 2))
            return self._cut(min(rate, _CAUTIOUS) if seconds < 1 else rate, now)
        if cap < reference:
            # What was accepted before is refused: the last cut was in vain, and what was seen before still counts.
            self.on_trial = True
            self.cap.growing = False
            return self._try(now)
        self.trials = []
        if self.cap.confirmed:
            self.before = cap
        # Since the last cut a bucket has filled and emptied again: what was accepted since is what it was filled with.
        return self._cut(max(rate, reference) if counts.refused <= STRAY * replies else rate, now)

    def _try(self, now: float) -> Verdict:
        """What the last cut did, as soon as it is clear."""
        counts, rate = self.older + self.newer, self.cap.rate(now) or _TRICKLE
        trial, age = Trial(rate, counts.settled(now, now, self.lag), counts.refused), now - counts.start
        if trial.replies < _FEWEST or trial.refused >= trial.replies:
            return self._all_refused(trial, age, now)
        share = 1 - trial.refused / trial.replies
        odds = odds_of_shedding([*self.trials, trial])
        clean = not more_than_strays(trial.refused, trial.replies) and (trial.replies >= _FEW or age >= _LONGEST_TRIAL)
        if clean and (not trial.refused or odds <= -_LIKELY or trial.replies >= _MANY):
            self.on_trial = False
            self.cap.keep(now)
            self.background.forget_doubts()
            if not trial.refused:
                self.trials = []
            return "steady"
        burst = after_burst(self.trials, trial)
        enough = trial.replies >= max(_FEW, _TRIAL_SECONDS * rate) or age >= _LONG_TRIAL
        if share >= _HARDLY and not burst and now >= self.background.disproved_until:
            sure = odds >= _SURE and (enough or trial.replies >= _FEW / 2)
            slow = enough and trial.refused >= _EARLY and rate * share < _SLOW and (odds > 0 or self.cuts == 1)
            if sure or slow:
                self.background.believe(refused_share([*self.trials, trial]), now)
                return self._go_on(self.before if sure else rate, now)
        if not enough or (trial.refused < _EARLY and trial.replies < _MANY and age < _LONGEST_TRIAL):
            return "steady"
        self.trials = [*([] if burst else self.trials[1 - _MOST_TRIALS :]), trial]
        return self._cut(rate * max(share, _DEEPEST), now)

    def _all_refused(self, trial: Trial, age: float, now: float) -> Verdict:
        """Nothing is accepted, or too little is known."""
        if not trial.refused or trial.refused < trial.replies:
            return "steady"
        if trial.rate <= _TRICKLE and age >= 5 and trial.replies >= _EARLY:
            return "exhausted"
        if trial.replies < _FEW and not (age >= 1 and trial.replies >= _FEWEST):
            return "steady"
        self.trials = []
        return self._cut(trial.rate * _DEEPEST, now)

    def _compare(self, now: float) -> Verdict:
        """Whether the refusals are still the background, and when the belief has had its time, try it again."""
        counts = self.older + self.newer
        replies, seconds = counts.settled(now, now, self.lag), max(now - counts.start, _SHORTEST_COUNT)
        trial = Trial(counts.sent / seconds, replies, counts.refused)
        share = 1 - trial.refused / replies if replies else 1.0
        if now >= self.background.until:
            self.background.drop()
            if not self.newer.refused or replies < _FEW:
                return "steady"
            self.before, self.trials = self.cap.rate(now), [trial]
            return self._cut(trial.rate * share, now)
        if self.background.explains(replies, trial.refused) is False:
            self.before = trial.rate * max(share, 0.1) / (1 - self.background.share)
            self.background.disprove(now)
            self.trials = [trial]
            return self._cut(min(trial.rate * max(share, _DEEPEST), _CAUTIOUS), now)
        return "steady"

    def _cut(self, rate: float, now: float) -> Verdict:
        self.cuts = self.cuts + 1 if self.on_trial else 1
        self.on_trial = True
        self.cap.cut(rate)
        self._forget(now)
        return "changed"

    def _go_on(self, rate: float | None, now: float) -> Verdict:
        self.on_trial, self.trials = False, []
        self.cap.set(rate, now)
        self._forget(now)
        return "changed"

    def _forget(self, now: float) -> None:
        self.older, self.newer = Counts(now), Counts(now)

    def _roll(self, now: float) -> None:
        age = now - self.newer.start
        if age < 1:
            return
        if self.cap.lift(self.newer.sent / age, now):
            self.before, self.older = None, Counts(self.newer.start)
        if self.cap.reference is not None and not self.background.share:
            self.older += self.newer
        else:
            self.older = self.newer if age < 10 else Counts(now)
        self.newer = Counts(now)
