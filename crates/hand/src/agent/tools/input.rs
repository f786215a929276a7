//! Owns reading a tool's input. Unknown fields are tolerated: models invent them.

use serde_json::{Map, Value};

pub(super) struct Input(Map<String, Value>);

impl Input {
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        match serde_json::from_slice(json) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err("input must be an object".to_owned()),
            Err(error) => Err(format!("input is not JSON: {error}")),
        }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn optional_text(&self, name: &str) -> Result<Option<&str>, String> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(format!("{name} must be a string")),
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<&str, String> {
        self.optional_text(name)?
            .ok_or_else(|| format!("{name} is required"))
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, String> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(format!("{name} must be true or false")),
        }
    }

    pub(super) fn count(&self, name: &str) -> Result<Option<u64>, String> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => {
                let count = value.as_u64();
                count
                    .map(Some)
                    .ok_or_else(|| format!("{name} must be a whole number, not negative"))
            }
        }
    }

    /// Two whole numbers, e.g. `[1, 20]`.
    pub(super) fn pair(&self, name: &str) -> Result<Option<(i64, i64)>, String> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let pair = value.as_array().and_then(|pair| match pair.as_slice() {
            [start, end] => Some((start.as_i64()?, end.as_i64()?)),
            _ => None,
        });
        pair.map(Some)
            .ok_or_else(|| format!("{name} must be an array of two whole numbers"))
    }
}
