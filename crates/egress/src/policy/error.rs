//! What can be wrong with a policy, and where. Nothing is repaired here: a policy with one wrong rule is no
//! policy.

use crate::limits;
use crate::name::NameError;
use crate::path::PathError;

/// A policy is refused: where, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct PolicyError {
    /// The field, as `rules[2].to[0]`.
    pub path: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field of a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // each text says it
pub enum Problem {
    #[error("{text:?} is no host: {why}")]
    Host { text: String, why: NameError },
    #[error(
        "a wildcard stands alone (`*`) or for the first labels (`*.example.com`), not as in {text:?}"
    )]
    Wildcard { text: String },
    #[error("`*.{suffix}` would be all of a top-level domain; list `*.name.{suffix}`")]
    TopLevel { suffix: String },
    #[error("`*` is for the operator's rules and the sandbox's; use `unrestricted` networking")]
    Everything,
    #[error(transparent)]
    Range(dial::NetError),
    #[error("{text:?} is a URL; write the host alone, and ports in `ports`")]
    Url { text: String },
    #[error("{text:?} is no http or https URL with a host")]
    NoUrl { text: String },
    #[error("{text:?} is no port or range of ports such as 443 or \"8000-8080\"")]
    Port { text: String },
    #[error("{text:?} is no HTTP method in upper case")]
    Method { text: String },
    #[error("{text:?} is no path prefix: {why}")]
    Path { text: String, why: PathError },
    #[error("must name a tool")]
    Tool,
    #[error("has neither `to` nor `presets`; say `to = [\"*\"]` for everywhere")]
    NoTarget,
    #[error(
        "needs 1 to {} bytes of printable ASCII without quotes",
        limits::RULE_NAME
    )]
    RuleName,
    #[error("another rule has the name {name:?}")]
    SameName { name: String },
    #[error("{count} are more than the {limit} that a policy may have")]
    TooMany { count: usize, limit: usize },
    #[error("{target} stands in more than {} rules", limits::RULES_PER_TARGET)]
    RulesPerTarget { target: String },
}

pub(crate) fn at(path: impl Into<String>, problem: Problem) -> PolicyError {
    PolicyError {
        path: path.into(),
        problem,
    }
}

/// Refuses more than `limit`.
pub(crate) fn count(path: &str, count: usize, limit: usize) -> Result<(), PolicyError> {
    if count > limit {
        return Err(at(path, Problem::TooMany { count, limit }));
    }
    Ok(())
}
