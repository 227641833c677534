"""What processes may send together, event by event, without a clock: slots, leases, eras, and what is kept between."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_pipelines.annotators.limits import limiter
from annotation_pipelines.annotators.limits.lease import LEASE_SECONDS, Account, Lease, Outcome, Sent
from annotation_pipelines.annotators.limits.limiter import Terms
from annotation_pipelines.annotators.limits.state import State, dump, load
from tests.annotators.limits.simulation import Server, simulate

ANSWERED, THROTTLED = Outcome("answered", {}, status=200), Outcome("throttled", {}, status=429)
OVERLOADED, BROKEN = Outcome("overloaded", {}, status=503), Outcome("broken")


class Machine:
    """Processes that ask when they are told to; the state goes through JSON each time."""

    def __init__(self, *names: str, maximum: int = 64, **limits: int) -> None:
        self.now = 100.0
        self.terms = Terms(maximum, **limits)
        self.accounts = {name: Account() for name in names}
        self.sent: dict[str, list[Sent]] = {name: [] for name in names}
        self.document = "{}"

    @property
    def state(self) -> State:
        return load(json.loads(self.document), self.now)

    def ask(self, name: str, waiting: int = 0) -> Lease:
        """Report and get a new lease."""
        state = self.state
        account = self.accounts[name]
        lease = limiter.exchange(state, name, account.report(waiting, 100), self.terms, self.now)
        account.renew(lease)
        self.document = json.dumps(dump(state))
        return lease

    def send(self, name: str, count: int) -> int:
        """Send so many, or as many as are let through."""
        let_through = [self.accounts[name].admit(100, self.now) for _ in range(count)]
        self.sent[name] += [sent for sent in let_through if sent]
        return sum(sent is not None for sent in let_through)

    def end(self, name: str, outcome: Outcome, count: int) -> None:
        """So many requests end."""
        for _ in range(count):
            self.accounts[name].settle(outcome, self.sent[name].pop(0), self.now)

    def forget(self, name: str) -> None:
        state = self.state
        limiter.leave(state, name)
        self.document = json.dumps(dump(state))

    @property
    def in_flight(self) -> int:
        return sum(account.in_flight for account in self.accounts.values())


def test_the_first_request_goes_at_once() -> None:
    machine = Machine("a")
    machine.ask("a", waiting=1)
    assert machine.send("a", 1) == 1


def test_a_new_endpoint_is_met_with_sixteen_requests_and_no_more_than_the_maximum() -> None:
    for maximum, expected in ((64, 16), (3, 3)):
        machine = Machine("a", maximum=maximum)
        machine.ask("a", waiting=100)
        assert machine.send("a", 100) == expected


def test_a_lease_ends_so_that_others_get_their_turn() -> None:
    machine = Machine("a")
    machine.ask("a", waiting=1)
    machine.now += LEASE_SECONDS
    assert machine.send("a", 1) == 0
    assert machine.accounts["a"].may_ask(machine.now)


def test_one_process_leaves_room_for_another_and_then_shares_with_it() -> None:
    machine = Machine("a", "b")
    machine.ask("a", waiting=2)
    assert machine.send("a", 2) == 2
    machine.ask("b", waiting=2)
    assert machine.send("b", 2) == 2, "the first one leased all that there is"
    machine.ask("a", waiting=100)
    machine.send("a", 100)
    machine.ask("b", waiting=100)
    machine.send("b", 100)
    assert machine.in_flight <= 16
    for name in "ab":
        machine.end(name, ANSWERED, machine.accounts[name].in_flight)
    machine.now += LEASE_SECONDS
    for name in "ab":
        machine.ask(name, waiting=100)
    machine.now += LEASE_SECONDS
    for name in "ab":
        machine.ask(name, waiting=100)
    slots = [machine.accounts[name].lease.slots for name in "ab"]
    assert abs(slots[0] - slots[1]) <= 1


def test_with_fewer_slots_than_processes_each_gets_its_turn() -> None:
    seen = simulate(Server(latency=0.3), records=10_000, processes=6, workers=2, terms=Terms(2), until=30)
    assert min(seen.answers.values()) >= 0.5 * sum(seen.answers.values()) / 6


@pytest.mark.parametrize("maximum", [1, 7, 64])
def test_never_are_more_in_flight_than_the_maximum(maximum: int) -> None:
    server = Server(latency=0.07)
    simulate(server, records=1_000, processes=5, workers=20, terms=Terms(maximum), until=20)
    assert server.peak <= maximum


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_happens_the_maximum_holds_and_what_the_dead_held_comes_back(data: st.DataObject) -> None:
    names = ["a", "b", "c"]
    machine = Machine(*names, maximum=data.draw(st.integers(1, 20)))
    outcomes = st.sampled_from([ANSWERED, THROTTLED, OVERLOADED, BROKEN])
    for _ in range(data.draw(st.integers(1, 40))):
        name = data.draw(st.sampled_from(names))
        machine.now += data.draw(st.floats(0, 0.2))
        match data.draw(st.sampled_from(["ask", "send", "end"])):
            case "ask":
                machine.ask(name, data.draw(st.integers(0, 30)))
            case "send":
                machine.send(name, data.draw(st.integers(1, 30)))
            case "end" if machine.sent[name]:
                machine.end(name, data.draw(outcomes), data.draw(st.integers(1, len(machine.sent[name]))))
        assert machine.in_flight <= machine.terms.maximum
    for name in names[1:]:
        machine.forget(name)
        machine.accounts[name], machine.sent[name] = Account(), []
    machine.end("a", ANSWERED, len(machine.sent["a"]))
    machine.now += 3600  # what it has learned is forgotten
    for _ in range(3):
        machine.now += LEASE_SECONDS
        machine.ask("a", waiting=30)
    assert machine.send("a", 30) == min(machine.terms.maximum, 16)


def test_a_burst_of_overload_shrinks_the_window_once() -> None:
    machine = Machine("a")
    machine.ask("a", waiting=16)
    machine.send("a", 16)
    machine.end("a", OVERLOADED, 4)
    machine.ask("a")
    assert machine.state.window.size == 8
    machine.end("a", OVERLOADED, 3)
    machine.ask("a")
    assert machine.state.window.size == 8, "these were sent before it shrank"


def test_a_pause_that_the_endpoint_asks_for_holds_for_all() -> None:
    machine = Machine("a", "b")
    machine.ask("a", waiting=1)
    machine.ask("b", waiting=1)
    machine.send("a", 1)
    machine.end("a", Outcome("throttled", {"retry-after": "2"}, status=429), 1)
    assert machine.accounts["a"].urgent
    machine.ask("a")
    machine.ask("b", waiting=5)
    assert machine.send("b", 5) == 0
    machine.now += 2.01
    machine.ask("b", waiting=5)
    assert machine.send("b", 1) == 1


def test_what_was_leased_and_not_sent_is_given_back() -> None:
    machine = Machine("a", "b", requests_per_minute=1200)
    assert machine.ask("a", waiting=1).requests == 2
    assert machine.ask("b", waiting=2).requests == 0
    machine.now += LEASE_SECONDS
    machine.ask("a")
    assert machine.ask("b", waiting=2).requests >= 1


def test_a_reply_that_says_nothing_of_the_load_changes_nothing() -> None:
    machine = Machine("a")
    machine.ask("a", waiting=8)
    machine.send("a", 8)
    machine.end("a", Outcome("other", {}, status=400), 4)
    machine.end("a", Outcome("other"), 4)
    machine.ask("a", waiting=8)
    assert machine.in_flight == 0
    assert machine.state.window.size == 16
    assert machine.send("a", 8) == 8


def test_a_taken_back_request_is_not_counted() -> None:
    machine = Machine("a", maximum=1, requests_per_minute=60)
    machine.ask("a", waiting=1)
    sent = machine.accounts["a"].admit(100, machine.now)
    assert sent
    machine.accounts["a"].take_back(sent)
    assert machine.send("a", 1) == 1


def test_after_a_long_time_what_was_learned_is_learned_anew_and_what_was_said_is_kept() -> None:
    machine = Machine("a")
    machine.ask("a", waiting=16)
    machine.send("a", 16)
    machine.end("a", OVERLOADED, 15)
    machine.end("a", Outcome("answered", {"x-ratelimit-limit-requests": "600"}, status=200), 1)
    machine.ask("a")
    machine.now += 3600
    machine.ask("a", waiting=1)
    assert machine.state.window.size == 16
    assert machine.state.request_quota.limit == 600


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"version": 0},
        {"version": 2, "at": 1e12, "state": []},
        {"version": 2, "at": 0, "state": [1, 2]},
        {"version": 2, "at": 0, "state": "nonsense"},
        {"version": 2, "at": "x"},
    ],
)
def test_a_document_that_cannot_be_read_is_a_new_beginning(document: dict[str, Any]) -> None:
    assert load(document, 100.0) == State(100.0)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_damage_to_a_document_makes_a_new_beginning_and_no_error(data: st.DataObject) -> None:
    machine = Machine("a", "b")
    machine.ask("a", waiting=16)
    machine.send("a", 16)
    machine.end("a", THROTTLED, 10)
    machine.ask("a")
    document = json.loads(machine.document)
    part = document["state"]
    while isinstance(part, list) and part and data.draw(st.booleans()):
        index = data.draw(st.integers(0, len(part) - 1))
        if not isinstance(part[index], list) or not part[index]:
            part[index] = data.draw(st.sampled_from([None, "x", {}, [], [1]]))
            break
        part = part[index]
    state = load(document, machine.now)
    assert isinstance(state, State)


def test_the_state_survives_json() -> None:
    machine = Machine("a", "b", requests_per_minute=600, tokens_per_minute=10_000)
    for _ in range(10):
        machine.now += 0.1
        machine.ask("a", waiting=3)
        machine.end("a", THROTTLED, machine.send("a", 3))
    assert load(json.loads(json.dumps(dump(machine.state))), machine.now) == machine.state
