//! Events of a session as they are stored and served (api.md §9). The envelope (`id`, `type`,
//! `processed_at`) is written and read here and nowhere else; when an event happens is decided elsewhere.

mod body;
mod parts;
mod preview;
mod workflow;

pub use body::Body;
pub use parts::{
    AskReason, CacheCreation, DenyReason, Evaluation, Judgement, ModelUsage, Permission,
    RefusalDetails, RetryStatus, ServerToolUsage, SessionError, SessionErrorKind, SessionUsage,
    Speed, StopReason,
};
pub use preview::{Delta, Preview, Previewed};
pub use workflow::{Phase, WorkflowError, WorkflowResult};

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::ids::EventId;
use crate::time::Micros;

/// An event with its envelope, in the key order of the wire.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// Unique in the workspace, never reused.
    pub id: EventId,
    /// When the session took it; null while a client's event waits.
    pub processed_at: Option<Micros>,
    /// Its type and fields.
    #[serde(flatten)]
    pub body: Body,
}

/// The answer to a send: the events as they were accepted, in the order of the request.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub struct SentEvents<'e> {
    /// Each is one that a client sends, with its id; those that wait have a `processed_at` of null.
    #[schemars(schema_with = "crate::schema::sent::<Event>")]
    pub data: &'e [Event],
}

impl Event {
    /// Reads an event that was written by this type. It takes the text, not any deserializer: a
    /// `RawValue` does not survive serde's tagged enums (serde-rs/serde#1183), and a tool's input has to
    /// keep its bytes. Unknown fields are skipped, so that an older server reads what a newer one wrote.
    ///
    /// # Errors
    /// The text is no event: not JSON, an unknown type, a field that is missing or wrong.
    pub fn read(json: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Envelope<'e> {
            id: EventId,
            processed_at: Option<Micros>,
            #[serde(rename = "type", borrow)]
            kind: Cow<'e, str>,
        }
        let Envelope {
            id,
            processed_at,
            kind,
        } = serde_json::from_str(json)?;
        Ok(Self {
            id,
            processed_at,
            body: Body::read(&kind, json)?,
        })
    }
}

impl JsonSchema for Event {
    fn schema_name() -> Cow<'static, str> {
        "Event".into()
    }

    /// The body with the envelope in it. Only what clients send can wait, so only there the time is null.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Body::json_schema(generator);
        let id = generator.subschema_for::<EventId>();
        let (time, maybe) = (
            generator.subschema_for::<Micros>(),
            generator.subschema_for::<Option<Micros>>(),
        );
        let bodies = schema.get_mut("oneOf").and_then(|all| all.as_array_mut());
        for body in bodies.into_iter().flatten() {
            let waits = body["properties"]["type"]["const"]
                .as_str()
                .is_some_and(Body::can_wait);
            body["properties"]["id"] = id.clone().to_value();
            body["properties"]["processed_at"] =
                if waits { &maybe } else { &time }.clone().to_value();
            if let Some(required) = body["required"].as_array_mut() {
                required.extend(["id".into(), "processed_at".into()]);
            }
        }
        schema
    }
}
