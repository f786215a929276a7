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
