//! `longhand doctor`: what this machine can and cannot do, found by trying, each with its mend.

use std::path::Path;

use anstyle::{AnsiColor, Style};
use sandbox::{Finding, Provider as _, Report};
use serde_json::json;

use crate::cli::Output;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::host::Host;
use crate::{Unable, database, provider, serve, view};

/// Runs the doctor.
///
/// # Errors
/// [`Unable`] (exit code 3) if this machine cannot run sandboxes.
pub async fn run(output: Output, config: &Config, data_dir: Option<&Path>) -> anyhow::Result<()> {
    let data_dir = DataDir::open(data_dir)?;
    let local = serve::local_provider(&data_dir, &config.sandbox.short_lived(), None)?;
    let report = local.probe().await;
    let model = provider::from_environment(&config.model)?;
    let mut findings = report.findings.clone();
    findings.extend(Host::here().findings(data_dir.path()));
    findings.push(network(config, &local).await);
    findings.push(Finding {
        what: "default model".to_owned(),
        ok: model.is_some(),
        required: false,
        detail: model.map_or("none".to_owned(), |m| {
            format!("{} with the key of {}", m.base_url, m.key_source)
        }),
        mend: "set ANTHROPIC_API_KEY or OPENAI_API_KEY, or give each session an LLM vault"
            .to_owned(),
    });
    findings.extend(database(config, &data_dir).await?);
    if output.json || !view::is_terminal() {
        for finding in &findings {
            println!("{}", as_json(finding));
        }
    } else {
        findings.iter().for_each(print);
    }
    require(&report)
}

/// Whether the PostgreSQL server that is set will do; nothing to say of a file.
async fn database(config: &Config, data_dir: &DataDir) -> anyhow::Result<Option<Finding>> {
    let url = config.server.database_url.as_deref();
    let (database::Place::Server(url), options) = database::place(url, data_dir)? else {
        return Ok(None);
    };
    let found = store::Store::probe(&url, options).await;
    Ok(Some(Finding {
        what: "database".to_owned(),
        ok: found.is_ok(),
        required: false,
        detail: found.unwrap_or_else(|error| format!("{:#}", anyhow::Error::from(error))),
        mend: "mend the server, or set `server.database_url` to another".to_owned(),
    }))
}

/// Whether sandboxes can have a network here, by making one and throwing it away.
async fn network(config: &Config, local: &sandbox::Local) -> Finding {
    let (ok, detail, mend) = match local.try_network().await {
        _ if !config.egress.enabled => (
            true,
            "switched off (`egress.enabled`)".to_owned(),
            String::new(),
        ),
        Ok(steering) => (true, brought(steering), String::new()),
        Err(sandbox::Error::Unsupported { step, errno, hint }) => {
            let why = std::io::Error::from_raw_os_error(errno);
            (false, format!("none can be made: {step}: {why}"), hint)
        }
        Err(error) => (false, format!("none can be made: {error}"), String::new()),
    };
    Finding {
        what: "network of sandboxes".to_owned(),
        ok,
        required: false,
        detail,
        mend,
    }
}

/// By what means the kernel does it.
fn brought(steering: sandbox::Steering) -> String {
    let by = match steering {
        sandbox::Steering::SkLookup => "sk_lookup",
        sandbox::Steering::Tproxy => "tproxy rules of nf_tables, since sk_lookup is refused here",
    };
    format!("the kernel brings all that they send to the egress process, by {by}")
}

/// Fails, with each mend, if sandboxes cannot run here.
///
/// # Errors
/// [`Unable`] (exit code 3).
pub fn require(report: &Report) -> anyhow::Result<()> {
    if report.can_run() {
        return Ok(());
    }
    let lacking = report.findings.iter().filter(|f| f.required && !f.ok);
    let lacking = lacking.map(|f| format!("\n  {}: {}\n    → {}", f.what, f.detail, f.mend));
    let lacking = lacking.collect::<String>();
    let command = std::env::args().collect::<Vec<_>>().join(" ");
    let hint = if rustix::process::geteuid().is_root() {
        String::new()
    } else {
        format!("\nhint: this version makes sandboxes as root; try\n  sudo {command}")
    };
    Err(Unable(format!("this machine cannot run sandboxes:{lacking}{hint}")).into())
}

fn as_json(finding: &Finding) -> serde_json::Value {
    json!({
        "what": finding.what, "ok": finding.ok, "required": finding.required,
        "detail": finding.detail, "mend": if finding.ok { "" } else { &finding.mend },
    })
}

fn print(finding: &Finding) {
    let (mark, colour) = match (finding.ok, finding.required) {
        (true, _) => ("ok  ", AnsiColor::Green),
        (false, false) => ("warn", AnsiColor::Yellow),
        (false, true) => ("FAIL", AnsiColor::Red),
    };
    let style = Style::new().fg_color(Some(colour.into()));
    anstream::println!(
        "{style}{mark}{style:#} {:<32} {}",
        finding.what,
        finding.detail
    );
    if !finding.ok && !finding.mend.is_empty() {
        anstream::println!("     {:<32} → {}", "", finding.mend);
    }
}
