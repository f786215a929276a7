//! The offline test of a policy: cases with what is expected, each taken through the same steps as traffic.
//! It must never decide anything itself, so that what it reports is what traffic gets.

use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;

use super::compile::Policy;
use super::decide::{Attempt, Decision, Mcp, Request, Seen, Verdict};
use super::explain::Explanation;
use super::file::{FileError, from_toml, read_policy};
use crate::name::Authority;
use crate::path::Path;

/// One case, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseReport {
    /// Its name, or what it is about.
    pub name: String,
    /// Whether all that is expected was found.
    pub passed: bool,
    /// What was found, with the rule and the reason.
    pub found: Found,
    /// What is wrong, if anything is: one line.
    pub problem: Option<String>,
}

/// What a case ends in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A decision.
    Decided {
        /// What is done: allowed, refused.
        decision: Decision,
        /// Why.
        explanation: Explanation,
    },
    /// It was refused before any policy: the text says why.
    Malformed(String),
}

/// All cases of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// In the order of the file.
    pub cases: Vec<CaseReport>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    cases: Vec<Case>,
}

/// One attempt and what is expected of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(default)]
    name: Option<String>,
    /// `https://…`, `http://…`, or `tcp://host:port`.
    to: String,
    #[serde(default)]
    method: Option<String>,
    /// The tool that an MCP request calls.
    #[serde(default)]
    mcp_tool: Option<String>,
    /// The address that the name resolves to.
    #[serde(default)]
    resolves_to: Option<IpAddr>,
    expect: Expected,
    /// The rule that is expected to decide.
    #[serde(default)]
    rule: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Expected {
    Allow,
    Deny,
}

/// Tests the policy of one file with the cases of another (`longhand egress test POLICY.toml CASES.toml`).
///
/// # Errors
/// [`FileError`] if one of the files cannot be read. A case that fails is no error: see [`Report::passed`].
pub fn test_policy(policy: &str, cases: &str) -> Result<Report, FileError> {
    let policy = read_policy(policy)?;
    let cases: Cases = from_toml(cases)?;
    let run = |case: &Case| case.run(&policy);
    Ok(Report {
        cases: cases.cases.iter().map(run).collect(),
    })
}

impl Policy {
    /// Takes one URL through every step that traffic takes: the connection, its first bytes, the request,
    /// and the address if one is given. `tcp` stands for a connection that is neither TLS nor HTTP.
    ///
    /// # Errors
    /// A line that says why the URL or its path is refused before any policy.
    pub fn judge_url(
        &self,
        url: &str,
        method: &str,
        tool: Option<&str>,
        resolves_to: Option<IpAddr>,
    ) -> Result<(Decision, Explanation), String> {
        let url = Parts::read(url)?;
        let request = Request {
            method,
            path: &url.path,
            mcp: tool.map_or(Mcp::No, Mcp::Call),
        };
        let (bytes, whole) = match url.scheme {
            Scheme::Https => (Seen::Tls, Seen::RequestInTls(request)),
            Scheme::Http => (Seen::Http, Seen::Request(request)),
            Scheme::Tcp => (Seen::Opaque, Seen::Opaque),
        };
        let mut attempt = Attempt {
            target: &url.authority.host,
            port: url.port,
            seen: Seen::Nothing,
        };
        let mut decision = self.decide(&attempt);
        if decision.verdict == Verdict::Look {
            attempt.seen = bytes;
            decision = self.decide(&attempt);
        }
        if decision.verdict == Verdict::Inspect {
            attempt.seen = whole;
            decision = self.decide(&attempt);
        }
        if let Some(ip) = resolves_to.filter(|_| decision.verdict == Verdict::Allow) {
            decision = self.judge_address(&attempt, &decision, ip);
        }
        let explanation = self.explanation(&attempt, &decision);
        Ok((decision, explanation))
    }

    /// Where a URL leads.
    ///
    /// # Errors
    /// As [`Policy::judge_url`].
    pub(crate) fn target_of(url: &str) -> Result<crate::name::Target, String> {
        Ok(Parts::read(url)?.authority.host)
    }
}

enum Scheme {
    Https,
    Http,
    Tcp,
}

struct Parts {
    scheme: Scheme,
    authority: Authority,
    port: u16,
    path: Path,
}

impl Parts {
    /// Reads a URL without the repairs of the URL standard: what is judged is what a client would send.
    fn read(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| format!("{text:?} has no scheme: https, http or tcp"))?;
        let (scheme, default) = match scheme {
            "https" => (Scheme::Https, Some(443)),
            "http" => (Scheme::Http, Some(80)),
            "tcp" => (Scheme::Tcp, None),
            other => return Err(format!("the scheme {other:?} is not https, http or tcp")),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let authority = Authority::parse(authority).map_err(|e| format!("{text:?}: {e}"))?;
        let port = authority.port.or(default);
        let path = rest
            .split(['?', '#'])
            .next()
            .filter(|path| !path.is_empty());
        Ok(Self {
            scheme,
            port: port.ok_or_else(|| format!("{text:?} needs a port"))?,
            path: Path::parse(path.unwrap_or("/")).map_err(|e| format!("{text:?}: {e}"))?,
            authority,
        })
    }
}

impl Case {
    fn run(&self, policy: &Policy) -> CaseReport {
        let name = self.name.clone().unwrap_or_else(|| self.to.clone());
        let method = self.method.as_deref().unwrap_or("GET");
        let judged = policy.judge_url(&self.to, method, self.mcp_tool.as_deref(), self.resolves_to);
        let (found, problem) = match judged {
            Err(why) => {
                let problem = match (self.expect, &self.rule) {
                    (Expected::Deny, None) => None,
                    _ => Some(format!("refused before any policy: {why}")),
                };
                (Found::Malformed(why), problem)
            }
            Ok((decision, explanation)) => {
                let problem = self.problem(&decision, &explanation);
                let found = Found::Decided {
                    decision,
                    explanation,
                };
                (found, problem)
            }
        };
        CaseReport {
            name,
            passed: problem.is_none(),
            found,
            problem,
        }
    }

    fn problem(&self, decision: &Decision, explanation: &Explanation) -> Option<String> {
        let found = match decision.verdict {
            Verdict::Allow => Expected::Allow,
            // What ends undecided lets nothing through.
            Verdict::Deny | Verdict::Look | Verdict::Inspect => Expected::Deny,
        };
        if found != self.expect {
            let expected = match self.expect {
                Expected::Allow => "allow",
                Expected::Deny => "deny",
            };
            return Some(format!("expected {expected}; {}", explanation.reason));
        }
        let rule = self.rule.as_ref()?;
        (*rule != explanation.rule)
            .then(|| format!("expected the rule `{rule}`; {}", explanation.reason))
    }
}

impl Report {
    /// Whether every case was as expected.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.cases.iter().all(|case| case.passed)
    }
}

impl fmt::Display for Report {
    /// A line a case, then a summary: for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for case in &self.cases {
            let reason = match (&case.problem, &case.found) {
                (Some(problem), _) => problem,
                (None, Found::Decided { explanation, .. }) => &explanation.reason,
                (None, Found::Malformed(why)) => why,
            };
            let mark = if case.passed { "ok    " } else { "FAILED" };
            writeln!(f, "{mark} {}: {reason}", case.name)?;
        }
        let failed = self.cases.iter().filter(|case| !case.passed).count();
        write!(f, "{} cases, {failed} failed", self.cases.len())
    }
}
