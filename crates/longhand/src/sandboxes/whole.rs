//! `sandbox snapshot`, `fork`, `restore`, `export`, `import`: the files of sandboxes as a whole, for people. It speaks to the API and to nothing else.

use serde_json::json;

use super::{archive, path};
use crate::cli::Whole;
use crate::client::Client;
use crate::view;

const ALL: &str = "/v1/x/snapshots";
const COLUMNS: [&str; 5] = ["id", "sandbox_id", "created_at", "live", "note"];

pub(super) async fn run(command: Whole, client: &Client, columns: &[&str]) -> anyhow::Result<()> {
    let (one, output) = match command {
        Whole::Snapshot { id, note, output } => {
            return take(client, &id, note.as_deref(), output.json).await;
        }
        Whole::Snapshots { id, output } => return list(client, id.as_deref(), output.json).await,
        Whole::Export { id, snapshot, to } => {
            return archive::export(client, &id, snapshot, to).await;
        }
        Whole::Import { id, from, output } => (archive::import(client, &id, from).await?, output),
        Whole::RmSnapshot { ids, output } => return remove(client, &ids, output.json).await,
        Whole::Fork { id, to, output } => {
            let to = to.map_or_else(|| json!({}), |to| json!({ "to": to }));
            (client.post(&path(&id, "/fork")?, Some(&to)).await?, output)
        }
        Whole::Restore {
            id,
            snapshot,
            output,
        } => {
            let from = json!({ "snapshot_id": snapshot });
            (
                client.post(&path(&id, "/restore")?, Some(&from)).await?,
                output,
            )
        }
    };
    Ok(view::objects(&[one], columns, output.json)?)
}

async fn take(client: &Client, id: &str, note: Option<&str>, as_json: bool) -> anyhow::Result<()> {
    let body = note.map_or_else(|| json!({}), |note| json!({ "note": note }));
    let taken = client.post(&path(id, "/snapshots")?, Some(&body)).await?;
    Ok(view::objects(&[taken], &COLUMNS, as_json)?)
}

async fn list(client: &Client, of: Option<&str>, as_json: bool) -> anyhow::Result<()> {
    let all = client.get(ALL).await?;
    let mut all = all["data"].as_array().cloned().unwrap_or_default();
    // Those of a sandbox that is gone are found here only.
    all.retain(|one| of.is_none_or(|id| one["sandbox_id"] == id));
    Ok(view::objects(&all, &COLUMNS, as_json)?)
}

async fn remove(client: &Client, ids: &[String], as_json: bool) -> anyhow::Result<()> {
    let mut gone = Vec::new();
    for id in ids {
        let id = sandbox::SnapshotId::new(id.as_str())?;
        gone.push(client.delete(&format!("{ALL}/{id}")).await?);
    }
    Ok(view::objects(&gone, &["id", "type"], as_json)?)
}
