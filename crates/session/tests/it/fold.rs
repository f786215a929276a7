//! The log folded event by event: status, spans, calls, usage. An event that may not stand where it
//! stands is a failure.

use contract::client_event::Confirmation;
use contract::event::{Body, Evaluation, Judgement, Permission, RetryStatus, StopReason};
use contract::ids::EventId;
use contract::patch::Patch;
use session::policy::ToolRule;
use session::{Command, Decision, Fact, Input, Placed, State, Status, Step, Webhook, limits};

use crate::check::{At, Checker, Open, fact_of};
use crate::graded::used_of;

impl Checker {
    pub fn event(&mut self, input: &Input, before: &State, decision: &Decision, placed: &Placed) {
        assert!(placed.on_primary && placed.thread == before.primary.id);
        self.envelope(&placed.event, placed.seq);
        let (id, seq) = (placed.event.id, placed.seq);
        if let Some(Fact::UsedInside { .. }) = fact_of(input) {
            return self.span_inside(input, decision, &placed.event.body);
        }
        match &placed.event.body {
            Body::UserMessage { .. }
            | Body::SystemMessage { .. }
            | Body::UserDefineOutcome { .. } => {
                self.outside_spans();
                self.not_graded(input, decision);
                let ends = matches!(input, Input::Command(Command::Archive));
                assert!(
                    ends || self.status == Status::Running,
                    "said to a session at rest"
                );
                assert!(
                    ends || self.open.is_empty(),
                    "said between a call and its result"
                );
                if let Body::UserDefineOutcome { .. } = &placed.event.body {
                    self.outcome_event(&placed.event.body, id, input, decision);
                }
            }
            body @ (Body::SpanOutcomeEvaluationStart { .. }
            | Body::SpanOutcomeEvaluationOngoing { .. }
            | Body::SpanOutcomeEvaluationEnd { .. }) => {
                self.outcome_event(body, id, input, decision);
            }
            Body::UserInterrupt { .. } => self.outside_spans(),
            Body::UserToolConfirmation {
                tool_use_id,
                result,
                deny_message,
                ..
            } => {
                let call = self.open.iter_mut().find(|c| c.id == *tool_use_id);
                let call = call.expect("a confirmation of a closed call");
                assert_eq!(
                    (call.at, call.custom),
                    (At::Asked, false),
                    "confirmed twice"
                );
                assert!(deny_message.is_none() || *result == Confirmation::Deny);
                call.at = match result {
                    Confirmation::Allow => At::Ready,
                    Confirmation::Deny => At::Denied,
                };
            }
            Body::UserCustomToolResult {
                custom_tool_use_id, ..
            } => {
                let (custom, _) = self.called[custom_tool_use_id];
                assert!(custom, "the client answered a call that is not its own");
                self.open.retain(|c| c.id != *custom_tool_use_id);
            }
            Body::AgentMessage { .. } | Body::AgentThinking {} => self.within_request(input),
            Body::AgentCustomToolUse { name, .. } => {
                self.within_request(input);
                let rule = before.primary.rules.0.get(name);
                assert_eq!(rule, Some(&ToolRule::Custom));
                self.opened(id, seq, true, At::Asked);
            }
            Body::AgentToolUse {
                name,
                evaluated_permission,
                evaluation,
                ..
            } => {
                self.within_request(input);
                let wanted = wanted(before, input, id, name);
                assert_eq!(
                    (*evaluated_permission, *evaluation),
                    wanted,
                    "policy of {name}"
                );
                let at = match evaluated_permission {
                    Permission::Allow => At::Ready,
                    Permission::Ask => At::Asked,
                    Permission::Deny => At::Denied,
                };
                self.opened(id, seq, false, at);
            }
            Body::AgentToolResult {
                tool_use_id,
                is_error,
                content,
            } => self.result(input, *tool_use_id, *is_error, &format!("{content:?}")),
            Body::ThreadContextCompacted {} => {
                assert!(matches!(fact_of(input), Some(Fact::Compacted { .. })));
                self.outside_spans();
                self.compacted = seq;
                self.failures = 0;
            }
            Body::SpanModelRequestStart {} => {
                self.outside_spans();
                assert_eq!(
                    self.status,
                    Status::Running,
                    "a request of a session at rest"
                );
                assert!(self.open.is_empty(), "the model is asked with calls open");
                assert!(
                    !self.sums.spent(self.now),
                    "the model is asked beyond the budget"
                );
                self.not_graded(input, decision);
                let compacting = matches!(decision.step, Step::Compact { .. });
                self.span = Some((id, compacting));
            }
            Body::SpanModelRequestEnd {
                model_request_start_id,
                is_error,
                model_usage,
            } => self.span_end(input, *model_request_start_id, *is_error, *model_usage),
            Body::SessionError { error } => {
                self.outside_spans();
                if error.retry_status == (RetryStatus::Retrying {}) {
                    self.retry();
                }
            }
            body => self.status_event(placed, body, input, decision),
        }
    }

    fn status_event(&mut self, placed: &Placed, body: &Body, input: &Input, decision: &Decision) {
        let hook = match body {
            Body::StatusRunning {} => {
                let anew = self.status == Status::Idle;
                assert!(
                    anew || self.status == Status::Rescheduling,
                    "two running pairs in one turn"
                );
                self.status = Status::Running;
                (self.stop, self.thread_stop) = (None, None);
                self.sums.since = Some(self.now);
                self.next = Some("session.thread_status_running");
                if anew {
                    self.failures = 0;
                }
                anew.then_some(Webhook::StatusRunStarted)
            }
            Body::ThreadStatusRunning { .. } | Body::ThreadStatusRescheduled { .. } => None,
            Body::StatusRescheduled {} => {
                self.outside_spans();
                assert_eq!(
                    self.status,
                    Status::Running,
                    "only what runs is rescheduled"
                );
                self.status = Status::Rescheduling;
                self.clock_stops();
                self.next = Some("session.thread_status_rescheduled");
                Some(Webhook::StatusRescheduled)
            }
            Body::ThreadStatusIdle { stop_reason, .. } => {
                self.thread_stop = Some(stop_reason.clone());
                self.next = Some("session.usage");
                None
            }
            Body::SessionUsage { usage, budget } => {
                self.shown_usage(usage);
                let cap = self.sums.cap.map(session::money::limit);
                assert_eq!(*budget, cap, "another budget is shown");
                self.next = Some("session.status_idle");
                None
            }
            Body::StatusIdle { stop_reason, .. } => self.idle(stop_reason),
            Body::ThreadStatusTerminated { .. } => {
                assert!(matches!(input, Input::Command(Command::Archive)));
                self.next = Some("session.status_terminated");
                None
            }
            Body::StatusTerminated {} => {
                assert_eq!(self.status, Status::Idle, "a running session was ended");
                self.status = Status::Terminated;
                self.open.clear();
                Some(Webhook::StatusTerminated)
            }
            Body::SessionUpdated { .. } => {
                assert!(matches!(input, Input::Command(Command::Update(_))));
                Some(Webhook::Updated)
            }
            Body::SessionDeleted {} => {
                assert!(decision.deleted && matches!(input, Input::Command(Command::Delete)));
                Some(Webhook::Deleted)
            }
            other => panic!("{} is not folded: {placed:?}", other.kind()),
        };
        self.hooks.extend(hook);
    }

    fn idle(&mut self, reason: &StopReason) -> Option<Webhook> {
        self.outside_spans();
        let thread = self
            .thread_stop
            .clone()
            .expect("the thread goes idle first");
        if let StopReason::RequiresAction { event_ids } = reason {
            assert_eq!(
                *event_ids,
                self.asked(),
                "the announced wait is not the real one"
            );
            assert!(!event_ids.is_empty(), "a wait for nothing");
            assert_eq!(thread, *reason);
            if let (Status::Idle, Some(StopReason::RequiresAction { event_ids: before })) =
                (self.status, &self.stop)
            {
                assert!(event_ids.len() < before.len(), "announced twice");
            } else {
                assert_eq!(self.status, Status::Running);
            }
        } else {
            assert!(self.status != Status::Idle || self.blocked(), "idle twice");
            assert!(self.open.is_empty(), "a call was left open");
            if self.sums.spent(self.now) {
                assert_eq!(
                    *reason,
                    StopReason::BudgetReached {},
                    "a spent budget outranks"
                );
            } else {
                assert_eq!(thread, *reason);
                assert_ne!(
                    thread,
                    StopReason::BudgetReached {},
                    "the budget is not spent"
                );
            }
        }
        self.clock_stops();
        self.status = Status::Idle;
        self.stop = Some(reason.clone());
        if *reason == (StopReason::BudgetReached {}) && !self.sums.told_cap {
            self.sums.told_cap = true;
            self.hooks.push(Webhook::BudgetReached);
        }
        Some(Webhook::StatusIdled)
    }

    fn clock_stops(&mut self) {
        self.sums.active = self.sums.active_at(self.now);
        self.sums.since = None;
    }

    fn outside_spans(&self) {
        assert!(self.span.is_none(), "in the middle of a model request");
    }

    fn within_request(&self, input: &Input) {
        assert!(matches!(fact_of(input), Some(Fact::Replied { .. })));
        assert!(
            self.span.is_some_and(|(_, compacting)| !compacting),
            "outside of a model request"
        );
    }

    fn opened(&mut self, id: EventId, seq: u64, custom: bool, at: At) {
        self.called.insert(id, (custom, at == At::Asked && !custom));
        self.open.push(Open {
            id,
            seq,
            custom,
            at,
        });
    }

    fn result(&mut self, input: &Input, id: EventId, is_error: bool, text: &str) {
        self.outside_spans();
        let at = self.open.iter().position(|c| c.id == id);
        let call = self.open.remove(at.expect("a result for a closed call"));
        let reported = match fact_of(input) {
            Some(Fact::Finished { call, .. }) => *call == id,
            _ => false,
        };
        if call.at == At::Started {
            // Given up with the whole turn, or by a runner that found out nothing.
            let given_up = matches!(input, Input::Claim)
                || matches!(fact_of(input), Some(Fact::Lost { call }) if *call == id);
            let lost = given_up && text.contains("unknown");
            let stopped = matches!(fact_of(input), Some(Fact::Interrupted { .. }))
                && text.contains("interrupted before completion");
            assert!(
                reported || lost || stopped,
                "a started call ended in silence: {text}"
            );
            assert!(reported || is_error, "a lost call counts as done");
        } else {
            assert!(
                is_error && !reported,
                "a call that never started has a result"
            );
        }
    }

    fn span_end(
        &mut self,
        input: &Input,
        start: EventId,
        is_error: bool,
        shown: contract::event::ModelUsage,
    ) {
        let (open, compacting) = self.span.take().expect("a span ended twice");
        assert_eq!(open, start);
        let done = match fact_of(input) {
            Some(Fact::Replied { .. }) => !compacting,
            Some(Fact::Compacted { .. }) => compacting,
            _ => false,
        };
        assert_eq!(is_error, !done, "a span tells its end wrongly");
        let used = used_of(input);
        assert_eq!(shown, used.usage, "a span shows another usage");
        self.sums.add(&used);
        if done && !compacting {
            self.failures = 0;
        }
    }

    /// What a program has used is a span of its own, and nothing else.
    fn span_inside(&mut self, input: &Input, decision: &Decision, body: &Body) {
        let [start, _end] = decision.events.as_slice() else {
            panic!("a span is two events: {:?}", decision.events)
        };
        if let Body::SpanModelRequestEnd {
            model_request_start_id,
            model_usage,
            ..
        } = body
        {
            let used = used_of(input);
            assert_eq!(
                (*model_request_start_id, *model_usage),
                (start.event.id, used.usage)
            );
            self.sums.add(&used);
        } else {
            assert!(matches!(body, Body::SpanModelRequestStart {}), "{body:?}");
        }
    }

    fn retry(&mut self) {
        self.next = Some("session.status_rescheduled");
        if self.failures == 0 {
            self.failing_since = self.now;
        }
        self.failures += 1;
        assert!(self.failures < limits::TRIES, "tried too often");
        assert!(
            self.now - self.failing_since < limits::TRYING,
            "tried for too long"
        );
    }

    fn shown_usage(&self, usage: &contract::event::SessionUsage) {
        let sums = &self.sums;
        assert_eq!(usage.input_tokens, sums.tokens.input_tokens);
        assert_eq!(usage.output_tokens, sums.tokens.output_tokens);
        assert_eq!(
            usage.cache_read_input_tokens,
            sums.tokens.cache_read_input_tokens
        );
        let created = usage.cache_creation.unwrap_or_default();
        assert_eq!(created.ephemeral_1h_input_tokens, sums.cache_1h);
        assert_eq!(
            created.ephemeral_1h_input_tokens + created.ephemeral_5m_input_tokens,
            sums.tokens.cache_creation_input_tokens
        );
        let micros = sums.active_at(self.now);
        assert!(
            (usage.active_seconds * 1e6 - micros as f64).abs() < 1.0,
            "active seconds"
        );
        let shown = usage.list_cost.as_ref().map(|cost| cost.amount.clone());
        let cents = (sums.priced && !sums.unpriced).then(|| sums.cents(self.now).to_string());
        assert_eq!(shown, cents, "another list cost is shown");
    }

    /// What an update changes is announced, and nothing else.
    pub fn updates(&mut self, input: &Input, decision: &Decision) {
        let Input::Command(Command::Update(update)) = input else {
            assert!(decision.profile.is_none() && decision.agent.is_none());
            return;
        };
        let mut after = self.profile.clone();
        after.title = update
            .title
            .clone()
            .apply(after.title)
            .filter(|t| !t.is_empty());
        for (key, value) in &update.metadata {
            match value {
                Some(value) => after.metadata.insert(key.clone(), value.clone()),
                None => after.metadata.remove(key),
            };
        }
        let cap = match update.budget {
            Patch::Absent => self.sums.cap,
            Patch::Null => None,
            Patch::Value(cents) => Some(cents),
        };
        let changed = (
            (after.title != self.profile.title).then(|| after.title.clone()),
            (after.metadata != self.profile.metadata && !after.metadata.is_empty())
                .then(|| after.metadata.clone()),
            (cap != self.sums.cap).then(|| cap.map(session::money::limit)),
            update.agent.is_some(),
        );
        let told = decision.events.iter().find_map(|p| match &p.event.body {
            Body::SessionUpdated {
                agent,
                budget,
                title,
                metadata,
            } => Some((
                title.clone(),
                metadata.clone(),
                budget.clone(),
                agent.is_some(),
            )),
            _ => None,
        });
        let any = after != self.profile || cap != self.sums.cap || update.agent.is_some();
        assert_eq!(
            told,
            any.then_some(changed),
            "only what changed is announced"
        );
        assert_eq!(decision.agent.is_some(), update.agent.is_some());
        let kept = (after != self.profile).then_some(&after);
        assert_eq!(
            decision.profile.as_ref(),
            kept,
            "the profile is not what was asked for"
        );
        self.profile = after;
        if cap != self.sums.cap {
            self.sums.cap = cap;
            self.sums.told_cap = false;
        }
    }
}

/// What a tool's policy makes of a call.
fn wanted(
    before: &State,
    input: &Input,
    id: EventId,
    name: &str,
) -> (Permission, Option<Evaluation>) {
    let Some(Fact::Replied { calls, .. }) = fact_of(input) else {
        panic!("a call out of nothing")
    };
    let call = calls.iter().find(|c| c.id == id);
    if call.is_some_and(|c| !c.input.get().starts_with('{')) {
        return (Permission::Deny, None);
    }
    let judged = call.and_then(|c| c.judgement);
    match before.primary.rules.0.get(name) {
        None => (Permission::Deny, None),
        Some(ToolRule::Team | ToolRule::Advisor) => panic!("an agent without a team"),
        Some(ToolRule::Allow) => (Permission::Allow, Some(Evaluation::AlwaysAllow {})),
        Some(ToolRule::Ask) => (Permission::Ask, Some(Evaluation::AlwaysAsk {})),
        Some(ToolRule::Custom) => panic!("a custom tool under a policy"),
        Some(ToolRule::Auto) => {
            let evaluated_permission = judged.unwrap_or(Judgement::UNKNOWN);
            let permission = match evaluated_permission {
                Judgement::Allow {} => Permission::Allow,
                Judgement::Ask { .. } => Permission::Ask,
                Judgement::Deny { .. } => Permission::Deny,
            };
            let evaluation = Evaluation::Auto {
                evaluated_permission,
            };
            (permission, Some(evaluation))
        }
    }
}
