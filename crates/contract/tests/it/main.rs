//! The contract against what SDKs send: shapes accepted and echoed, and every refusal at its path.
#![allow(clippy::unwrap_used, clippy::panic)]

mod agents;
mod bad_agents;
mod credentials;
mod deployments;
mod environments;
mod errors;
mod event_types;
mod events;
mod files;
mod memories;
mod objects;
mod parsing;
mod properties;
mod queries;
mod queries_of_resources;
mod schemas;
mod sessions;
mod teams;
mod work;

use contract::parse::{Invalid, parse};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Parses a value as if it were a body.
fn read<T: DeserializeOwned>(body: &Value) -> Result<T, Invalid> {
    parse(&serde_json::to_vec(body).unwrap())
}

/// `base` with the value at a JSON pointer replaced or added; `None` removes it.
fn with(base: &Value, pointer: &str, value: Option<Value>) -> Value {
    let mut out = base.clone();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = out.pointer_mut(parent).unwrap();
    match (parent, value) {
        (Value::Object(fields), Some(value)) => {
            fields.insert(key.to_owned(), value);
        }
        (Value::Object(fields), None) => {
            fields.remove(key).unwrap();
        }
        (Value::Array(items), Some(value)) => match key.parse::<usize>() {
            Ok(index) if index < items.len() => items[index] = value,
            _ => items.push(value),
        },
        (Value::Array(items), None) => {
            items.remove(key.parse().unwrap());
        }
        (other, _) => panic!("{pointer} is in {other}"),
    }
    out
}

#[test]
fn every_file_of_this_folder_is_a_module() {
    let listed = include_str!("main.rs");
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs");
        assert!(
            module == "main" || listed.contains(&format!("mod {module};")),
            "{name}"
        );
    }
}
