//! What is wrong with a request and where. It holds no part of a value, so that no secret can leave
//! through an error.

use std::fmt;

use serde::de::{Error, Expected, Unexpected};

/// A refusal that names its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Where: `events[0].content[1].text`, a query key, or empty for the whole body.
    pub path: String,
    /// What is wrong, as the rest of a sentence.
    pub problem: String,
}

impl Invalid {
    /// A refusal at a path.
    pub fn at(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            problem: problem.into(),
        }
    }

    /// A refusal of the whole body.
    pub fn body(problem: impl Into<String>) -> Self {
        Self::at("", problem)
    }

    /// The same refusal seen from the object that holds the place under `key`.
    #[must_use]
    pub fn under(mut self, key: &str) -> Self {
        self.path = join(key, &self.path);
        self
    }

    /// The same refusal seen from the array that holds the place at `index`.
    #[must_use]
    pub fn under_index(mut self, index: usize) -> Self {
        self.path = join(&format!("[{index}]"), &self.path);
        self
    }
}

fn join(head: &str, tail: &str) -> String {
    if tail.is_empty() {
        head.to_owned()
    } else if tail.starts_with('[') {
        format!("{head}{tail}")
    } else {
        format!("{head}.{tail}")
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.problem)
        } else {
            write!(f, "`{}`: {}", self.path, self.problem)
        }
    }
}

impl std::error::Error for Invalid {}

/// The kind of value that came, without the value itself.
fn kind(unexpected: &Unexpected<'_>) -> &'static str {
    match unexpected {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer",
        Unexpected::Float(_) => "a number with a fraction",
        Unexpected::Char(_) | Unexpected::Str(_) => "a string",
        Unexpected::Unit | Unexpected::Option => "null",
        Unexpected::Seq => "an array",
        Unexpected::Map => "an object",
        _ => "something else",
    }
}

fn allowed(names: &[&str]) -> String {
    match names {
        [] => "none is allowed here".to_owned(),
        names => format!("allowed: `{}`", names.join("`, `")),
    }
}

impl Error for Invalid {
    fn custom<T: fmt::Display>(problem: T) -> Self {
        Self::body(problem.to_string())
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::body(format!("expected {expected}, got {}", kind(&unexpected)))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::body(format!("the value is out of range: expected {expected}"))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::body(format!("unknown value; {}", allowed(expected)))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::at(field, format!("unknown field; {}", allowed(expected)))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::at(field, "is required")
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::at(field, "is there twice")
    }
}
