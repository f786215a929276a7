"""Confirmations, judgements, budgets, updates and system messages, with the orders of the recordings."""

import concurrent.futures

import anthropic
import pytest

import kit
from kit import IDLE, RUNNING

ASK = [{"type": "agent_toolset_20260401", "default_config": {"permission_policy": {"type": "always_ask"}}}]
JUDGED = [{"type": "agent_toolset_20260401", "default_config": {"permission_policy": {"type": "auto"}}}]
LOOKUP = {"type": "custom", "name": "lookup", "description": "d", "input_schema": {"type": "object"}}

PRICES = """
[[model]]
id = "claude-sonnet-5-5"
display_name = "Priced for tests"
prices = { input = "0.001", output = "0.001" }
"""


def confirm(call, result="allow", **more):
    return {"type": "user.tool_confirmation", "tool_use_id": call, "result": result} | more


def cents(amount):
    return {"type": "limit", "max_list_cost": {"amount": str(amount), "currency": "USD"}}


def asked(events):
    """The calls that an idle session waits for."""
    assert events[-1].stop_reason.type == "requires_action"
    return events[-1].stop_reason.event_ids


def test_a_call_that_must_be_confirmed_waits_and_runs_when_it_is_allowed(client):
    made = kit.session(client, agent_fields={"tools": ASK})
    events = kit.say(client, made.id, kit.bash("echo done > f && cat f"), {"text": "finished"})
    call = kit.of(events, "agent.tool_use")[0]
    assert (call.evaluated_permission, call.evaluation.type) == ("ask", "always_ask")
    assert asked(events) == [call.id]
    assert kit.kinds(events) == [*RUNNING, "user.message", *kit.request("agent.tool_use"), *IDLE]
    assert client.beta.sessions.retrieve(made.id).status == "idle"
    events = kit.turn(client, made.id, confirm(call.id))
    assert kit.kinds(events) == [
        "user.tool_confirmation",
        *RUNNING,
        "agent.tool_result",
        *kit.request("agent.message"),
        *IDLE,
    ]
    [(is_error, text)] = kit.results(events)
    assert (is_error, text.strip()) == (False, "done")


def test_a_call_that_is_denied_does_not_run_and_the_model_is_told_why(client):
    made = kit.session(client, agent_fields={"tools": ASK})
    events = kit.say(client, made.id, kit.bash("touch /workspace/ran"), {"echo_results": True})
    denied = confirm(asked(events)[0], "deny", deny_message="not here")
    events = kit.turn(client, made.id, denied)
    assert kit.kinds(events)[:4] == ["user.tool_confirmation", *RUNNING, "agent.tool_result"]
    text = "Permission to use bash has been rejected. Rejection message: not here"
    assert kit.results(events) == [(True, text)]


def test_some_answers_ask_for_the_rest_and_all_answers_resume(client):
    made = kit.session(client, agent_fields={"tools": [*ASK, LOOKUP]})
    two = {"tools": [{"name": "bash", "input": {"command": "echo one"}}, {"name": "lookup", "input": {"q": 1}}]}
    events = kit.say(client, made.id, two, {"text": "both"})
    first, second = asked(events)
    with pytest.raises(anthropic.BadRequestError, match="waiting on responses to events"):
        client.beta.sessions.events.send(made.id, events=[kit.message("and?")])
    events = kit.turn(client, made.id, confirm(first))
    assert kit.kinds(events) == ["user.tool_confirmation", *IDLE] and asked(events) == [second]
    answer = {"type": "user.custom_tool_result", "custom_tool_use_id": second, "content": [{"type": "text", "text": "42"}]}
    events = kit.turn(client, made.id, answer)
    assert kit.said(events) == ["both"] and len(kit.results(events)) == 1


def test_an_answer_to_no_call_and_a_second_answer_are_refused(client):
    made = kit.session(client, agent_fields={"tools": ASK})
    call = asked(kit.say(client, made.id, kit.bash("true"), {"text": "ok"}))[0]
    with pytest.raises(anthropic.BadRequestError, match="does not match any `agent.tool_use` event in this session"):
        client.beta.sessions.events.send(made.id, events=[confirm("sevt_" + "1" * 22)])
    kit.turn(client, made.id, confirm(call))
    with pytest.raises(anthropic.BadRequestError, match="has already been resolved"):
        client.beta.sessions.events.send(made.id, events=[confirm(call, "deny")])


def test_of_many_conflicting_confirmations_one_wins(client):
    made = kit.session(client, agent_fields={"tools": ASK})
    call = asked(kit.say(client, made.id, kit.bash("true"), {"text": "ok"}))[0]

    def answer(number):
        try:
            client.beta.sessions.events.send(made.id, events=[confirm(call, ("allow", "deny")[number % 2])])
            return True
        except anthropic.BadRequestError as refused:
            assert "has already been resolved" in str(refused)
            return False

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(answer, range(40))) == 1
    kit.idle(client, made.id)
    assert len(kit.of(kit.log(client, made.id), "user.tool_confirmation")) == 1


def test_an_interrupt_closes_what_waits_and_a_message_goes_on(client):
    made = kit.session(client, agent_fields={"tools": ASK})
    kit.say(client, made.id, kit.bash("true"), {"text": "never"})
    with client.beta.sessions.events.stream(made.id) as stream:
        redirect = [{"type": "user.interrupt"}, kit.message(kit.script({"text": "instead"}))]
        client.beta.sessions.events.send(made.id, events=redirect)
        stopped = kit.collect(stream)
        assert kit.results(stopped) == [(True, "Tool execution was interrupted before completion. Please retry.")]
        assert stopped[-1].stop_reason.type == "end_turn"
        assert kit.said(kit.collect(stream)) == ["instead"]


@pytest.mark.parametrize(
    ("verdict", "permission", "runs"), [("allow", "allow", True), ("deny", "deny", False), ("unclear", "ask", False)]
)
def test_a_judge_decides_calls_whose_policy_is_auto(client, verdict, permission, runs):
    made = kit.session(client, agent_fields={"tools": JUDGED})
    judge = {"on": "judge", "text": verdict}
    events = kit.say(client, made.id, judge, kit.bash("echo ran"), {"text": "done"})
    call = kit.of(events, "agent.tool_use")[0]
    assert call.evaluated_permission == permission
    assert call.evaluation.type == "auto" and call.evaluation.evaluated_permission.type == permission
    if permission == "deny":
        assert kit.results(events) == [(True, "Permission to use bash has been denied.")]
    assert (not kit.results(events)[0][0] if runs else True)
    assert events[-1].stop_reason.type == ("requires_action" if permission == "ask" else "end_turn")


def test_a_budget_stops_the_turn_between_requests_and_a_higher_one_resumes_it(launch, tmp_path):
    prices = tmp_path / "models.toml"
    prices.write_text(PRICES)
    with launch(LONGHAND_MODEL_CATALOG=str(prices)).client() as client:
        made = kit.session(client, budget=cents(1))
        assert made.budget.max_list_cost.amount == "1"
        events = kit.say(client, made.id, kit.bash("echo paid"), {"text": "later"})
        assert kit.kinds(events)[-4:] == ["agent.tool_result", *IDLE]
        thread, usage, idle = events[-3:]
        assert (thread.stop_reason.type, idle.stop_reason.type) == ("budget_reached", "budget_reached")
        assert usage.budget.max_list_cost.amount == "1" and int(usage.usage.list_cost.amount) >= 1
        with pytest.raises(anthropic.BadRequestError, match="user.tool_confirmation.*user.interrupt"):
            client.beta.sessions.events.send(made.id, events=[kit.message("more")])
        before = kit.log(client, made.id)
        client.beta.sessions.events.send(made.id, events=[{"type": "user.interrupt"}])
        assert kit.kinds(kit.log(client, made.id)) == kit.kinds(before), "an interrupt is accepted and not listed"
        with pytest.raises(anthropic.BadRequestError, match="must be greater than the session's consumed list cost"):
            client.beta.sessions.update(made.id, budget=cents(1))
        with client.beta.sessions.events.stream(made.id) as stream:
            client.beta.sessions.update(made.id, budget=cents(100_000))
            events = kit.collect(stream)
        assert kit.kinds(events) == ["session.updated", *RUNNING, *kit.request("agent.message"), *IDLE]
        assert kit.said(events) == ["later"]
        removed = client.beta.sessions.update(made.id, budget=None)
        assert removed.budget is None
        with pytest.raises(anthropic.BadRequestError, match="budget_create_only"):
            client.beta.sessions.update(made.id, budget=cents(5))


def test_a_model_without_a_price_runs_without_a_budget_and_only_so(client):
    unpriced = {"model": "house-model"}
    with pytest.raises(anthropic.BadRequestError, match="model_not_budgetable"):
        kit.session(client, agent_fields=unpriced, budget=cents(100))
    made = kit.session(client, agent_fields=unpriced)
    assert kit.said(kit.say(client, made.id, {"text": "fine"})) == ["fine"]


def test_tools_change_between_turns_and_only_what_changed_is_told(client):
    made = kit.session(client)
    with client.beta.sessions.events.stream(made.id) as stream:
        changed = client.beta.sessions.update(made.id, agent={"tools": [LOOKUP]}, title="new")
        assert [tool.type for tool in changed.agent.tools] == ["custom"]
        event = kit.collect(stream, "session.updated")[-1]
    assert event.agent.tools[0].name == "lookup" and event.title == "new"
    events = kit.say(client, made.id, kit.bash("echo no"), {"tool": "lookup", "input": {}}, {"text": "ok"})
    assert kit.of(events, "agent.tool_use")[0].evaluated_permission == "deny", "bash is gone"
    assert kit.of(events, "agent.custom_tool_use")[0].name == "lookup"


def test_a_system_message_goes_with_the_message_before_it(client):
    made = kit.session(client)
    system = {"type": "system.message", "content": [{"type": "text", "text": "It is late."}]}
    events = kit.turn(client, made.id, kit.message(kit.script({"text": "good night"})), system)
    assert kit.kinds(events)[:4] == [*RUNNING, "user.message", "system.message"]
    assert kit.said(events) == ["good night"]
    with pytest.raises(anthropic.BadRequestError, match=r"events\[0\]"):
        client.beta.sessions.events.send(made.id, events=[system])
