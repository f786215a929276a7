//! The operator's own credentials (`[[egress.credentials]]`), from the configuration to what sandboxes' networks are told
//! of. It decides nothing about them.

use std::path::PathBuf;

use anyhow::{anyhow, bail};
use egress::inject::{Repository, Template};
use orchestrator::templates::{OperatorCredential, Place};
use serde::Deserialize;

/// `[[egress.credentials]]`: exactly one of `header`, `basic`, `query`, `repository` and `certificate`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressCredential {
    /// What it is called in the audit and in errors.
    pub name: String,
    /// The hosts that it is for, as names, addresses of IPv4 or `*.suffix`.
    pub hosts: Vec<String>,
    /// A header, as `X-Api-Key: {secret}`.
    pub header: Option<String>,
    /// `Authorization: Basic` with this user.
    pub basic: Option<String>,
    /// The parameter of the query of this name.
    pub query: Option<String>,
    /// The repository, as `owner/name`, that git and REST are shown it for, and for no other.
    pub repository: Option<String>,
    /// The hosts with REST about that repository.
    #[serde(default)]
    pub api_hosts: Vec<String>,
    /// The file with a certificate that servers are shown, and those between it and its root, as PEM; the secret is its
    /// key.
    pub certificate: Option<PathBuf>,
    /// The file with the secret, its owner's alone. It is read again when it changes.
    pub secret_file: PathBuf,
}

/// What the configuration says of the operator's own credentials, each looked at as it would be used.
///
/// # Errors
/// One of them cannot be used; the text names it and what is wrong.
pub fn read(settings: &[EgressCredential]) -> anyhow::Result<Vec<OperatorCredential>> {
    let mut all: Vec<OperatorCredential> = Vec::new();
    for one in settings {
        let read = operator_credential(one);
        let read = read.and_then(|read| read.check().map(|()| read));
        let read = read.map_err(|problem| anyhow!("`egress.credentials`: {problem}"))?;
        if all.iter().any(|other| other.name == read.name) {
            bail!("`egress.credentials`: {:?} is there twice", read.name);
        }
        all.push(read);
    }
    Ok(all)
}

fn operator_credential(one: &EgressCredential) -> Result<OperatorCredential, String> {
    let (repository, certificate) = (&one.repository, &one.certificate);
    if repository.is_none() && !one.api_hosts.is_empty() {
        return Err(format!("{:?}: `api_hosts` go with `repository`", one.name));
    }
    let place = match (&one.header, &one.basic, &one.query, repository, certificate) {
        (Some(header), None, None, None, None) => {
            let (name, value) = header.split_once(':').ok_or_else(|| {
                format!("{:?}: `header` must read as `Name: {{secret}}`", one.name)
            })?;
            Place::Request(Template::Header {
                name: name.trim().to_owned(),
                value: value.trim().to_owned(),
            })
        }
        (None, Some(user), None, None, None) => {
            Place::Request(Template::Basic { user: user.clone() })
        }
        (None, None, Some(name), None, None) => {
            Place::Request(Template::Query { name: name.clone() })
        }
        (None, None, None, Some(name), None) => Place::Request(Template::Repository(Repository {
            name: name.clone(),
            git: one.hosts.clone(),
            api: one.api_hosts.clone(),
        })),
        (None, None, None, None, Some(path)) => Place::Certificate(path.clone()),
        _ => {
            let name = &one.name;
            return Err(format!(
                "{name:?}: give exactly one of `header`, `basic`, `query`, `repository` and `certificate`"
            ));
        }
    };
    Ok(OperatorCredential {
        name: one.name.clone(),
        hosts: one.hosts.iter().chain(&one.api_hosts).cloned().collect(),
        place,
        secret_file: one.secret_file.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_goes_to_exactly_one_place() {
        let place = |line: &str| {
            let text = format!("name = 'one'\nhosts = ['a.test']\nsecret_file = '/secret'\n{line}");
            let one: EgressCredential = toml::from_str(&text).unwrap();
            operator_credential(&one).map(|one| format!("{:?}", one.place))
        };
        for (line, kind) in [
            ("header = 'X-Key: {secret}'", "Header"),
            ("basic = 'me'", "Basic"),
            ("query = 'key'", "Query"),
            (
                "repository = 'acme/tools'\napi_hosts = ['api.test']",
                "Repository",
            ),
            ("certificate = '/own.pem'", "Certificate"),
        ] {
            assert!(place(line).unwrap().contains(kind), "{line}");
        }
        for wrong in [
            "",
            "header = 'X-Key'",
            "basic = 'me'\nrepository = 'acme/tools'",
            "header = 'X: {secret}'\napi_hosts = ['api.test']",
            "basic = 'me'\ncertificate = '/own.pem'",
        ] {
            assert!(place(wrong).unwrap_err().contains("\"one\""), "{wrong}");
        }
    }
}
