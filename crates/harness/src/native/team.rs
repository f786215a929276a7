//! What `native` offers a coordinator: tools for its threads, and an advisor. A call becomes a fact here; what comes of
//! it is the session core's to say.

use std::fmt::Write as _;
use std::time::Instant;

use contract::content::Block;
use contract::ids::{EventId, ThreadId};
use model::{Client, Message, Request, Thinking, ToolSpec, UserBlock};
use serde::Deserialize;
use serde_json::{Value, json};
use session::policy::{ASK_ADVISOR, LIST_AGENTS, Leads, SEND_TO_AGENT, SEND_TO_NEW_AGENT};
use session::{Fact, Order, Used};

use crate::bill::Bill;
use crate::brief::Team;
use crate::causes::chain;
use crate::limits::BYTES_PER_TOKEN;
use crate::native::compact;
use crate::native::conversation::{Conversation, Wanted};
use crate::native::text_of;
use crate::plane::{MadeUp, Plane, PlaneError, Spent};

/// Tokens of an advisor's answer, at most.
const ADVICE_TOKENS: u32 = 4_096;

/// Tokens of the conversation that an advisor is shown, at most.
const SHOWN_TOKENS: u32 = 100_000;

/// What an advisor is told to be.
const ADVISOR: &str = "You advise an agent that is in the middle of its work. You see its conversation so far and its \
question. Answer the question; say what it overlooks and what it should do next. You cannot act yourself.\n";

/// Bytes of a made-up agent's name, at most.
const NAME: usize = 256;

/// The tools that come with a team.
pub(crate) fn offered(team: &Team) -> Vec<ToolSpec> {
    let leads = Leads {
        roster: !team.roster.is_empty(),
        inline: team.inline,
        advisor: team.advisor.is_some(),
    };
    leads.tools().map(|(name, _)| spec(name, team)).collect()
}

/// Whether `name` is one of them.
pub(crate) fn leads(plane: &dyn Plane, name: &str) -> bool {
    let team = plane.brief().team.as_ref();
    team.is_some_and(|team| offered(team).iter().any(|tool| tool.name == name))
}

fn spec(name: &str, team: &Team) -> ToolSpec {
    let text = |description: &str| json!({"type": "string", "description": description});
    let (description, properties, required): (String, Value, &[&str]) = match name {
        LIST_AGENTS => (
            "List the agents you can put to work, and the threads that are there with what each does.".to_owned(),
            json!({}),
            &[],
        ),
        SEND_TO_AGENT => (
            format!(
                "Give an agent something to do. With agent, a new thread of that agent begins, with a context of its own: tell it everything it needs. With thread_id, a thread that is there goes on. It works while you do, in the same sandbox and files; its answer comes to you as a message. Agents:{}",
                roster(team)
            ),
            json!({
                "agent": text("The name of the agent, for a new thread."),
                "thread_id": text("The id of a thread that is there."),
                "message": text("What it is to do, or what you have to say to it."),
            }),
            &["message"],
        ),
        SEND_TO_NEW_AGENT => (
            "Make up an agent for one purpose and give it something to do in a new thread. It has your model and your other tools.".to_owned(),
            json!({
                "name": text("A short name."),
                "description": text("What it is for, in a sentence."),
                "system": text("Its system prompt: who it is and how it works."),
                "message": text("What it is to do."),
            }),
            &["name", "message"],
        ),
        _ => (
            "Ask another model for advice. It sees this conversation and your question, and answers once.".to_owned(),
            json!({"question": text("What you want to know.")}),
            &["question"],
        ),
    };
    let input_schema = json!({
        "type": "object", "properties": properties, "required": required, "additionalProperties": false,
    });
    ToolSpec {
        name: name.to_owned(),
        description,
        input_schema,
    }
}

/// Who may be put to work, a line each.
fn roster(team: &Team) -> String {
    let mut text = String::new();
    for member in &team.roster {
        let _ = write!(text, "\n- {}", member.name);
        if let Some(description) = member.description.as_ref().filter(|d| !d.is_empty()) {
            let _ = write!(text, ": {description}");
        }
    }
    if team.roster.is_empty() {
        text.push_str(" none");
    }
    text
}

/// Carries a call out as far as that is not the core's.
pub(crate) async fn carry_out(
    client: &Client,
    plane: &dyn Plane,
    call: EventId,
    wanted: &Wanted,
    conversation: &Conversation,
) -> Result<Fact, PlaneError> {
    if wanted.name == ASK_ADVISOR {
        return ask(client, plane, call, wanted, conversation).await;
    }
    let order = match wanted.name.as_str() {
        LIST_AGENTS => plane.brief().team.as_ref().map_or_else(
            || Err("This agent has no team.".to_owned()),
            |team| {
                let roster = format!("Agents:{}", roster(team));
                Ok(Order::List { roster })
            },
        ),
        SEND_TO_NEW_AGENT => made_up(plane, &wanted.input),
        _ => sent(plane, &wanted.input),
    };
    Ok(match order {
        Ok(order) => Fact::Delegated { call, order },
        Err(text) => Fact::Finished {
            call,
            content: vec![Block::text(text)],
            is_error: true,
        },
    })
}

fn read<T: for<'de> Deserialize<'de>>(input: &Value) -> Result<T, String> {
    serde_json::from_value(input.clone())
        .map_err(|e| format!("Not sent: the input does not fit: {e}."))
}

fn message(text: String) -> Result<Vec<Block>, String> {
    if text.trim().is_empty() {
        return Err("Not sent: `message` must say something.".to_owned());
    }
    Ok(vec![Block::text(text)])
}

fn sent(plane: &dyn Plane, input: &Value) -> Result<Order, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Send {
        #[serde(default)]
        agent: Option<String>,
        #[serde(default)]
        thread_id: Option<String>,
        message: String,
    }
    let send: Send = read(input)?;
    let content = message(send.message)?;
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    match (given(send.agent), given(send.thread_id)) {
        (_, Some(thread)) => {
            let thread: ThreadId = thread
                .parse()
                .map_err(|_| format!("Not sent: `thread_id` \"{thread}\" is no id of a thread. Use list_agents to see which there are."))?;
            Ok(Order::Tell { thread, content })
        }
        (Some(name), None) => match plane.newcomer(&name) {
            Some(agent) => Ok(Order::Begin {
                agent: Box::new(agent),
                content,
            }),
            None => {
                let team = plane.brief().team.as_ref();
                let known = team.map(roster).unwrap_or_default();
                Err(format!(
                    "Not sent: there is no agent \"{name}\". Agents:{known}"
                ))
            }
        },
        (None, None) => Err(
            "Not sent: name an `agent` for a new thread, or the `thread_id` of one that is there."
                .to_owned(),
        ),
    }
}

fn made_up(plane: &dyn Plane, input: &Value) -> Result<Order, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Make {
        name: String,
        #[serde(default)]
        description: Option<String>,
        #[serde(default)]
        system: Option<String>,
        message: String,
    }
    let make: Make = read(input)?;
    let content = message(make.message)?;
    if make.name.is_empty() || make.name.len() > NAME {
        return Err(format!("Not sent: `name` must have 1 to {NAME} bytes."));
    }
    let made_up = MadeUp {
        name: make.name,
        description: make.description,
        system: make.system.filter(|system| !system.is_empty()),
    };
    match plane.made_up(made_up) {
        Some(agent) => Ok(Order::Begin {
            agent: Box::new(agent),
            content,
        }),
        None => Err("Not sent: this agent may not make up others.".to_owned()),
    }
}

/// Asks the advisor. That it fails is advice too: the turn goes on without it.
async fn ask(
    client: &Client,
    plane: &dyn Plane,
    call: EventId,
    wanted: &Wanted,
    conversation: &Conversation,
) -> Result<Fact, PlaneError> {
    let advisor = plane
        .brief()
        .team
        .as_ref()
        .and_then(|team| team.advisor.clone());
    let question = wanted.input["question"]
        .as_str()
        .filter(|q| !q.trim().is_empty());
    let (Some(model), Some(question)) = (advisor, question) else {
        return Ok(no_advice(
            call,
            "The advisor was not asked: `question` must say something.",
            Used::default(),
        ));
    };
    let cancel = plane.cancelled();
    let limit = SHOWN_TOKENS.min(plane.brief().max_input_tokens / 2) as usize * BYTES_PER_TOKEN;
    let shown = compact::written(&conversation.messages(), limit);
    let request = question_of(&model, shown, question);
    let began = Instant::now();
    let mut unseen = |_| {};
    let answer = client
        .stream(plane.endpoint(), &request, &cancel, &mut unseen)
        .await;
    plane.spent(Spent::Advisor, began.elapsed());
    let mut bill = Bill::default();
    let usage = match &answer {
        Ok(reply) => &reply.usage,
        Err(failure) => &failure.partial_usage,
    };
    bill.add_of(plane, &model, usage);
    let used = bill.used();
    match answer {
        Err(_) if cancel.is_cancelled() && plane.interrupted() => Ok(Fact::Interrupted { used }),
        Err(_) if cancel.is_cancelled() => Err(PlaneError::Stopping),
        Err(failure) => {
            let text = format!("The advisor could not be asked: {}", chain(&failure.error));
            Ok(no_advice(call, &text, used))
        }
        Ok(reply) => {
            let advice = text_of(&reply);
            if advice.trim().is_empty() {
                return Ok(no_advice(call, "The advisor had nothing to say.", used));
            }
            Ok(Fact::Advised {
                call,
                content: vec![Block::text(advice)],
                is_error: false,
                used,
            })
        }
    }
}

fn question_of(model: &str, conversation: String, question: &str) -> Request {
    let text = |text: String| UserBlock::Text { text };
    Request {
        model: model.to_owned(),
        system: ADVISOR.to_owned(),
        tools: Vec::new(),
        messages: vec![Message::User(vec![
            text(conversation),
            text("The agent asks:".to_owned()),
            text(question.to_owned()),
        ])],
        max_tokens: ADVICE_TOKENS,
        effort: None,
        thinking: Thinking::Unset,
    }
}

fn no_advice(call: EventId, text: &str, used: Used) -> Fact {
    Fact::Advised {
        call,
        content: vec![Block::text(text)],
        is_error: true,
        used,
    }
}
