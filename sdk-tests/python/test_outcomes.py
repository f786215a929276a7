"""Outcomes: define, work, grade, revise, with the events and the results of the contract."""

import json

import anthropic
import pytest

import kit
from kit import IDLE, RUNNING

END = "span.outcome_evaluation_end"
START = "span.outcome_evaluation_start"


def verdict(word, why, **more):
    return {"on": "grade", "text": json.dumps({"verdict": word, "explanation": why})} | more


def outcome(*steps, **more):
    """An outcome whose work and whose grader the scripted model plays."""
    rubric = {"type": "text", "content": "It has a title."}
    return {"type": "user.define_outcome", "description": kit.script(*steps), "rubric": rubric} | more


def results(events):
    return [event.result for event in kit.of(events, END)]


def evaluation(client, session_id):
    [found] = client.beta.sessions.retrieve(session_id).outcome_evaluations
    return found


def test_an_outcome_starts_the_work_and_a_satisfied_grader_ends_it(client):
    made = kit.session(client)
    wanted = outcome({"text": "a report"}, verdict("satisfied", "it has a title"))
    with client.beta.sessions.events.stream(made.id) as stream:
        [echo] = client.beta.sessions.events.send(made.id, events=[wanted]).data
        events = kit.collect(stream)
    assert echo.type == "user.define_outcome" and echo.outcome_id.startswith("outc_") and echo.processed_at
    work = kit.request("agent.message")
    assert kit.kinds(events) == [*RUNNING, "user.define_outcome", *work, START, END, *IDLE]
    [start], [end] = kit.of(events, START), kit.of(events, END)
    assert (start.outcome_id, start.iteration) == (echo.outcome_id, 0)
    assert (end.outcome_evaluation_start_id, end.outcome_id, end.iteration) == (start.id, echo.outcome_id, 0)
    assert (end.result, end.explanation) == ("satisfied", "it has a title")
    assert end.usage.output_tokens > 0
    found = evaluation(client, made.id)
    assert (found.outcome_id, found.result, found.iteration) == (echo.outcome_id, "satisfied", 0)
    assert found.explanation == "it has a title" and found.completed_at == end.processed_at


def test_a_revision_is_worked_on_until_the_iterations_are_used_up(client):
    made = kit.session(client)
    steps = [{"text": text} for text in ("one", "two", "the title is missing")]
    grades = [verdict("needs_revision", "no title"), verdict("needs_revision", "still none")]
    events = kit.turn(client, made.id, outcome(*steps, *grades, max_iterations=2))
    assert kit.said(events) == ["one", "two", "the title is missing"]
    assert results(events) == ["needs_revision", "max_iterations_reached"]
    found = evaluation(client, made.id)
    assert (found.result, found.iteration, found.explanation) == ("max_iterations_reached", 1, "still none")


def test_a_rubric_that_does_not_apply_fails_the_outcome(client):
    made = kit.session(client)
    events = kit.turn(client, made.id, outcome({"text": "x"}, verdict("failed", "another matter")))
    assert results(events) == ["failed"] and evaluation(client, made.id).result == "failed"


def test_an_interrupt_ends_the_outcome_before_and_while_it_is_graded(client, model):
    made, gates = kit.session(client), [kit.unique("gate"), kit.unique("gate")]
    before = outcome({"text": "x", "wait": gates[0]})
    during = outcome({"text": "x"}, verdict("satisfied", "late", wait=gates[1]))
    for gate, event, started in zip(gates, (before, during), (False, True), strict=True):
        with client.beta.sessions.events.stream(made.id) as stream:
            client.beta.sessions.events.send(made.id, events=[event])
            model.someone_waits_at(gate)
            shown = client.beta.sessions.retrieve(made.id).outcome_evaluations[-1]
            assert shown.result == ("evaluating" if started else "running") and shown.completed_at is None
            client.beta.sessions.events.send(made.id, events=[{"type": "user.interrupt"}])
            events = kit.collect(stream)
        [end] = kit.of(events, END)
        assert end.result == "interrupted" and bool(end.outcome_evaluation_start_id) == started
        assert events[-1].stop_reason.type == "end_turn"
        model.release(gate)
    found = client.beta.sessions.retrieve(made.id).outcome_evaluations
    assert [one.result for one in found] == ["interrupted", "interrupted"]


def test_one_outcome_at_a_time_and_the_next_after_the_last_evaluation(client, model):
    made, gate = kit.session(client), kit.unique("gate")
    client.beta.sessions.events.send(made.id, events=[outcome({"text": "x", "wait": gate})])
    with pytest.raises(anthropic.BadRequestError, match="one outcome at a time"):
        client.beta.sessions.events.send(made.id, events=[outcome({"text": "y"})])
    model.release(gate)
    kit.idle(client, made.id)
    kit.turn(client, made.id, outcome({"text": "y"}))
    found = client.beta.sessions.retrieve(made.id).outcome_evaluations
    assert [one.result for one in found] == ["satisfied", "satisfied"]


def test_a_session_may_start_on_an_outcome(client):
    made = kit.session(client, initial_events=[outcome({"text": "x"})])
    assert made.outcome_evaluations[0].result == "running"
    assert results(kit.idle(client, made.id)) == ["satisfied"]


def test_a_grader_reads_what_the_agent_wrote(client):
    made = kit.session(client)
    read = {"on": "grade", "tool": "read", "input": {"file_path": "/workspace/report"}}
    quote = {"on": "grade", "echo_results": True}
    steps = [kit.bash("echo Title > /workspace/report"), {"text": "done"}]
    events = kit.turn(client, made.id, outcome(*steps, read, quote, verdict("satisfied", "read it")))
    assert results(events) == ["satisfied"]
    # One for the reading, one for the answer that was no verdict.
    assert len(kit.of(events, "span.outcome_evaluation_ongoing")) == 2


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"rubric": {"type": "text", "content": ""}}, "rubric.content"),
        ({"rubric": {"type": "text", "content": "x" * 262_145}}, "rubric.content"),
        ({"rubric": {"type": "file", "file_id": "file_" + "1" * 22}}, "rubric.type"),
        ({"max_iterations": 0}, "max_iterations"),
        ({"max_iterations": 21}, "max_iterations"),
    ],
)
def test_a_bad_outcome_is_refused_naming_the_field(client, fields, path):
    made = kit.session(client)
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.sessions.events.send(made.id, events=[outcome({"text": "x"}, **fields)])
    assert f"events[0].{path}" in caught.value.body["error"]["message"]
    assert kit.log(client, made.id) == []


def test_a_session_s_budget_counts_its_grader(client):
    made = kit.session(client)
    events = kit.turn(client, made.id, outcome({"text": "x"}))
    [work], [end] = kit.of(events, "span.model_request_end"), kit.of(events, END)
    used = client.beta.sessions.retrieve(made.id).usage
    assert used.output_tokens == work.model_usage.output_tokens + end.usage.output_tokens
