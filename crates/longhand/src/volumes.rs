//! `volume`: the volumes of a server for people. It speaks to the API and to nothing else.

use anyhow::Context;
use serde_json::{Value, json};

use crate::cli::Volume;
use crate::client::Client;
use crate::view;

const ALL: &str = "/v1/x/volumes";
const COLUMNS: [&str; 6] = [
    "name",
    "id",
    "workspace_id",
    "size_mib",
    "created_at",
    "sandboxes",
];

/// `longhand volume …`
///
/// # Errors
/// What the server answered, or that it could not be reached.
pub async fn run(command: Volume, client: &Client) -> anyhow::Result<()> {
    match command {
        Volume::Create {
            name,
            size_mib,
            output,
        } => {
            let mut body = json!({ "name": name });
            if let Some(size) = size_mib {
                body["size_mib"] = json!(size);
            }
            let made = client.post(ALL, Some(&body)).await?;
            Ok(view::objects(&[made], &COLUMNS, output.json)?)
        }
        Volume::List { output } => {
            let all = client.get(ALL).await?;
            let all = all["data"].as_array().cloned().unwrap_or_default();
            Ok(view::objects(&all, &COLUMNS, output.json)?)
        }
        Volume::Show(named) => {
            let one = client.get(&path(&named.id)?).await?;
            Ok(view::object(&one, named.output.json)?)
        }
        Volume::Remove {
            names,
            force,
            output,
        } => {
            let how = if force { "?force=true" } else { "" };
            let mut gone = Vec::new();
            for name in &names {
                gone.push(client.delete(&format!("{}{how}", path(name)?)).await?);
            }
            Ok(view::objects(&gone, &["id", "type"], output.json)?)
        }
    }
}

/// The path of one, by its name or id.
fn path(name: &str) -> anyhow::Result<String> {
    // Ids are names of the same form as a sandbox's.
    let name = sandbox::SandboxId::new(name).context("no name or id of a volume")?;
    Ok(format!("{ALL}/{name}"))
}

/// What `--volume NAME` and `--volume NAME:ro` ask for.
///
/// # Errors
/// Something else behind the colon.
pub fn wanted(words: &[String]) -> anyhow::Result<Vec<Value>> {
    let wanted = words.iter().map(|word| match word.split_once(':') {
        None => Ok(json!({ "name": word })),
        Some((name, "ro")) => Ok(json!({ "name": name, "read_only": true })),
        Some(_) => Err(anyhow::anyhow!(
            "--volume takes NAME or NAME:ro, not {word:?}"
        )),
    });
    wanted.collect()
}
