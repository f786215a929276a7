//! JSON Schemas of types whose reading is written by hand. Whatever derives its reading derives its schema;
//! a schema never decides what is accepted.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::parse::StringOr;
use crate::patch::Patch;
use crate::secret::Secret;
use crate::time::Micros;

/// Types that the wire spells as a text.
macro_rules! text {
    ($($name:ty: $title:literal, $schema:expr;)*) => {$(
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                $title.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )*};
}

text! {
    Micros: "Micros", json_schema!({"type": "string", "format": "date-time"});
    Secret: "Secret", json_schema!({"type": "string", "writeOnly": true});
}

/// Defines the constant `type` of an object that is served.
macro_rules! constants {
    ($($name:ident = $variant:ident;)*) => {$(
        /// A constant.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            /// The only value.
            #[default]
            $variant,
        }
    )*};
}
pub(crate) use constants;

/// The schema of an id.
pub(crate) fn id(prefix: &str) -> Schema {
    json_schema!({"type": "string", "pattern": format!("^{prefix}[1-9A-HJ-NP-Za-km-z]{{22}}$")})
}

/// One variant of a union that `type` tells apart, without other fields.
pub(crate) fn unit(_: &mut SchemaGenerator, tag: &str) -> Schema {
    let nothing = json_schema!({"type": "object", "additionalProperties": false});
    variant(tag, nothing)
}

/// One variant of a union that `type` tells apart; `schema` has its other fields.
pub(crate) fn variant(tag: &str, mut schema: Schema) -> Schema {
    let object = schema.ensure_object();
    let properties = object
        .entry("properties")
        .or_insert_with(|| serde_json::json!({}));
    properties["type"] = serde_json::json!({"type": "string", "const": tag});
    let required = object
        .entry("required")
        .or_insert_with(|| serde_json::json!([]));
    if let Some(required) = required.as_array_mut() {
        required.insert(0, "type".into());
    }
    schema
}

impl<T: JsonSchema> JsonSchema for StringOr<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("StringOr{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"type": "string"}, generator.subschema_for::<T>()]})
    }
}

impl<T: JsonSchema> JsonSchema for Patch<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Patch{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        <Option<T>>::json_schema(generator)
    }
}

/// The schema of a union of which only some variants stand here. What is said here has a check that says the
/// same: no schema decides what is accepted.
fn only<T: JsonSchema>(generator: &mut SchemaGenerator, tags: &[&str]) -> Schema {
    fn keep(schema: &mut serde_json::Value, tags: &[&str]) {
        for union in ["oneOf", "anyOf"] {
            let Some(variants) = schema.get_mut(union).and_then(|it| it.as_array_mut()) else {
                continue;
            };
            variants.retain(|variant| {
                let tag = variant["properties"]["type"]["const"].as_str();
                tag.is_none_or(|tag| tags.contains(&tag))
            });
            variants.iter_mut().for_each(|variant| keep(variant, tags));
        }
    }
    let mut schema = T::json_schema(generator).to_value();
    keep(&mut schema, tags);
    schema.try_into().unwrap_or_default()
}

/// Defines schemas of lists, or of single values, of which only some variants stand in one place.
macro_rules! places {
    ($($(#[$doc:meta])* $name:ident = [$($tag:literal),+];)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
            let items = only::<T>(generator, &[$($tag),+]);
            json_schema!({"type": "array", "items": items})
        }
    )*};
}

places! {
    /// What a user says, in a request.
    message = ["text", "image", "document"];
    /// What a user said, and threads say to each other.
    said = ["text", "image", "document", "redacted"];
    /// What a model said.
    reply = ["text", "redacted"];
    /// What a tool answers.
    result = ["text", "image", "document", "search_result"];
    /// What an operator says.
    system = ["text"];
    /// What a session begins with.
    initial = ["user.message", "user.define_outcome"];
    /// What a client sends, as it is answered.
    sent = ["user.message", "user.interrupt", "user.tool_confirmation", "user.custom_tool_result",
        "user.tool_result", "user.define_outcome", "system.message"];
    /// What each session of a deployment begins with.
    deployed = ["user.message", "user.define_outcome", "system.message"];
    /// Whom a coordinator has, as served.
    roster = ["agent", "advisor"];
    /// Whom subagents and workflows may run, as served.
    predefined = ["agent"];
    /// Whom subagents and workflows may run, in a request.
    predefined_params = ["agent", "self"];
}

/// As [`predefined_params`], in an update.
pub(crate) fn predefined_patch<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let list = predefined_params::<T>(generator);
    json_schema!({"anyOf": [list, {"type": "null"}]})
}

/// Where an image may come from.
pub(crate) fn image_source<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    only::<T>(generator, &["base64", "url", "file"])
}

/// What the user wrote is one source: all of it, or nothing.
pub(crate) fn user_input<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let source = only::<T>(generator, &["all", "none"]);
    json_schema!({"anyOf": [source, {"type": "null"}]})
}

/// A field of an update that cannot be cleared.
pub(crate) fn value<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// A field that must be there and may be null.
pub(crate) fn nullable<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    <Option<T>>::json_schema(generator)
}
