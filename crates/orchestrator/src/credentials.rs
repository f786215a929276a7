//! The credentials that a session's programs use without holding them: what stands in the sandbox, and what the egress
//! process is handed. It opens no secret.

use std::collections::BTreeSet;

use contract::credential::{
    Auth, EnvironmentVariable, McpOauth, Networking, StaticBearer, normal_url,
};
use contract::ids::CredentialId;
use egress::inject::{CredentialFile, CredentialsFile, Template};
use egress::policy::{NetworkingFile, Policy, PolicyFile, Verdict};
use session::Fact;
use store::Store;
use store::sessions::SessionRow;
use store::vaults::{CredentialKind, CredentialRow};
use vault::refresh::Named;
use vault::{OpenError, Vault};

use crate::network;

/// What becomes of a session's credentials.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// For the egress process.
    pub(crate) file: CredentialsFile,
    /// For the sandbox: each variable with its placeholder.
    pub(crate) variables: Vec<(String, String)>,
}

/// Why they are not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unknown {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("a credential in the store cannot be read")]
    Definition(#[from] serde_json::Error),
    #[error("the master key was rotated meanwhile")]
    Rotated,
}

impl Given {
    /// Has a variable stand for the credential.
    fn variable(
        &mut self,
        vault: &Vault,
        row: &SessionRow,
        one: &CredentialRow,
        auth: EnvironmentVariable,
    ) -> Result<(), Unknown> {
        let placeholder = vault.placeholder(row.id, one.id).text().to_owned();
        self.variables.push((auth.secret_name, placeholder.clone()));
        self.file.credentials.push(CredentialFile {
            id: one.id,
            placeholder,
            hosts: match auth.networking {
                Networking::Unrestricted => None,
                Networking::Limited(hosts) => Some(hosts.allowed_hosts),
            },
            header: auth.injection_location.header,
            body: auth.injection_location.body,
            template: None,
            renewable: false,
            lent: lent(vault, row, one)?,
        });
        Ok(())
    }

    /// Has clients of that MCP server in the sandbox let in with it. They know of no token.
    fn server(
        &mut self,
        vault: &Vault,
        row: &SessionRow,
        one: &CredentialRow,
        (url, renewable): (&str, bool),
    ) -> Result<(), Unknown> {
        let Some((host, template)) = Template::of_mcp_server(url) else {
            tracing::warn!(session_id = %row.id, credential_id = %one.id, "no request of a sandbox reaches its server");
            return Ok(());
        };
        let file = CredentialFile {
            id: one.id,
            // Nobody is told of it: it stands where an answer repeats the token.
            placeholder: vault.placeholder(row.id, one.id).text().to_owned(),
            hosts: Some(vec![host]),
            header: false,
            body: false,
            template: Some(template),
            renewable,
            lent: lent(vault, row, one)?,
        };
        // A host that nothing reaches must not cost the sandbox its other credentials.
        let alone = CredentialsFile {
            cleartext: false,
            credentials: vec![file.clone()],
        };
        match alone.check() {
            Ok(()) => self.file.credentials.push(file),
            Err(problem) => {
                tracing::warn!(session_id = %row.id, problem, "a credential cannot be used");
            }
        }
        Ok(())
    }
}

/// Those of the session's vaults, in the order of the vaults; of two for one variable or one server the first.
pub(crate) async fn of_session(
    store: &Store,
    vault: &Vault,
    row: &SessionRow,
) -> Result<Given, Unknown> {
    let mut given = Given::default();
    let (mut names, mut servers) = (BTreeSet::new(), BTreeSet::new());
    for id in &row.vault_ids {
        let views = match store.vault_views(row.workspace, vec![*id]).await {
            Ok(views) => views,
            // The session goes on without it.
            Err(store::Error::NotFound(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        for view in &views {
            // What an LLM vault holds is its model's key, which no egress process is told.
            let is_llm = vault::llm::is_llm(&view.vault.metadata);
            for one in view
                .credentials
                .iter()
                .filter(|it| it.archived_at.is_none())
            {
                match serde_json::from_str(one.auth.get())? {
                    Auth::EnvironmentVariable(auth) => {
                        if names.insert(auth.secret_name.clone()) {
                            given.variable(vault, row, one, auth)?;
                        }
                    }
                    Auth::StaticBearer(StaticBearer {
                        mcp_server_url: Some(url),
                    }) => {
                        if !is_llm && servers.insert(normal_url(&url)) {
                            given.server(vault, row, one, (&url, false))?;
                        }
                    }
                    Auth::McpOauth(McpOauth {
                        mcp_server_url: url,
                        refresh,
                        ..
                    }) => {
                        if !is_llm && servers.insert(normal_url(&url)) {
                            given.server(vault, row, one, (&url, refresh.is_some()))?;
                        }
                    }
                    Auth::StaticBearer(StaticBearer {
                        mcp_server_url: None,
                    }) => {}
                }
            }
        }
    }
    Ok(given)
}

/// Where that credential of the session's lies; none if it is not, or no longer, one of them.
pub(crate) async fn named(
    store: &Store,
    row: &SessionRow,
    credential: CredentialId,
) -> Result<Option<Named>, store::Error> {
    for vault in &row.vault_ids {
        match store.credential(row.workspace, *vault, credential).await {
            Ok(_) => {
                return Ok(Some(Named {
                    workspace: row.workspace,
                    vault: *vault,
                    credential,
                }));
            }
            Err(store::Error::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// What the environment's networking keeps from the session's credentials: a fact for each of them that is for hosts
/// which nothing may reach. Whatever cannot be found out is not said: it is said in the next turn.
pub(crate) async fn unreachable(store: &Store, row: &SessionRow) -> Vec<Fact> {
    if row.vault_ids.is_empty() {
        return Vec::new();
    }
    match forbidden(store, row).await {
        Ok(facts) => facts,
        Err(error) => {
            tracing::warn!(session_id = %row.id, %error, "whether credentials reach their hosts is not known");
            Vec::new()
        }
    }
}

async fn forbidden(store: &Store, row: &SessionRow) -> Result<Vec<Fact>, network::Unknown> {
    let (networking, attached) = network::asked(store, row).await?;
    let NetworkingFile::Limited {
        allowed_hosts,
        allow_package_managers,
        allow_mcp_servers,
    } = &networking
    else {
        return Ok(Vec::new());
    };
    let (allowed, others) = (
        allowed_hosts.clone(),
        *allow_package_managers || *allow_mcp_servers,
    );
    let policy = Policy::compile(PolicyFile::of(networking, attached).into())?;
    let reaches = |host: &String| match host.strip_prefix('*') {
        None => {
            let judged = policy.judge_url(&format!("https://{host}/"), "GET", None, None);
            judged.is_ok_and(|(decision, _)| decision.verdict != Verdict::Deny)
        }
        // Some host below it, which need not be named anywhere.
        Some(below) => {
            let is_below =
                |one: &String| format!(".{}", one.trim_start_matches("*.")).ends_with(below);
            others || allowed.iter().any(is_below)
        }
    };
    let mut facts = Vec::new();
    for vault in &row.vault_ids {
        let views = match store.vault_views(row.workspace, vec![*vault]).await {
            Err(store::Error::NotFound(_)) => continue,
            views => views?,
        };
        for one in views.iter().flat_map(|view| &view.credentials) {
            let hosts = hosts_of(one)?;
            let hosts: Vec<_> = hosts.iter().filter(|host| !reaches(host)).collect();
            if !hosts.is_empty() {
                facts.push(Fact::HostUnreachable {
                    credential: one.id,
                    vault: *vault,
                    message: unreachable_message(&hosts),
                });
            }
        }
    }
    Ok(facts)
}

/// The hosts that a variable is for, if it is not for all.
fn hosts_of(one: &CredentialRow) -> Result<Vec<String>, serde_json::Error> {
    if one.kind != CredentialKind::EnvironmentVariable {
        return Ok(Vec::new());
    }
    Ok(match serde_json::from_str(one.auth.get())? {
        Auth::EnvironmentVariable(EnvironmentVariable {
            networking: Networking::Limited(hosts),
            ..
        }) => hosts.allowed_hosts,
        _ => Vec::new(),
    })
}

fn unreachable_message(hosts: &[&String]) -> String {
    let hosts: Vec<&str> = hosts.iter().map(|host| host.as_str()).collect();
    format!(
        "The credential is for hosts that the environment's networking forbids ({}). Add them to the environment's \
         config.networking.allowed_hosts, or take them out of the credential's auth.networking.allowed_hosts.",
        hosts.join(", ")
    )
}

/// What opens it elsewhere; none if nothing does, which its use will show. What refreshes a token stays here.
fn lent(
    vault: &Vault,
    row: &SessionRow,
    one: &CredentialRow,
) -> Result<Option<vault::Lent>, Unknown> {
    let Some(sealed) = &one.sealed else {
        return Ok(None);
    };
    let lent = match one.kind {
        CredentialKind::McpOauth => vault.lend_token(row.workspace, one.id, sealed),
        CredentialKind::StaticBearer | CredentialKind::EnvironmentVariable => {
            vault.lend_credential(row.workspace, one.id, sealed)
        }
    };
    match lent {
        Ok(lent) => Ok(Some(lent)),
        Err(OpenError::KeyVersion { .. }) => Err(Unknown::Rotated),
        Err(error @ OpenError::Damaged) => {
            tracing::warn!(session_id = %row.id, credential_id = %one.id, %error, "a credential cannot be used");
            Ok(None)
        }
    }
}
