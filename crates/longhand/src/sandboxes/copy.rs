//! Files between this machine and a sandbox. What comes out of a sandbox names no place here: each name is checked
//! before it is used, and no link is made.

use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::path;
use crate::client::{Client, Exchange};

/// Pieces of a file on their way.
const QUEUED: usize = 8;
/// Bytes of one.
const PIECE: usize = 256 * 1024;
const BYTES: &str = "application/octet-stream";
/// Directories within directories that are copied.
const DEPTH: usize = 64;

/// `longhand sandbox cp`
pub(super) async fn run(client: &Client, from: &str, to: &str) -> anyhow::Result<()> {
    match (inside(from), inside(to)) {
        (Some((id, there)), None) => out(client, id, there, Path::new(to)).await,
        (None, Some((id, there))) => into(client, Path::new(from), id, there).await,
        _ => bail!(
            "one of the two is ID:PATH and the other a file here (./a:b for one with a colon)"
        ),
    }
}

/// A file of a sandbox on standard output, as it is; one that is not there prints nothing.
pub(super) async fn print(client: &Client, id: &str, there: &str) -> anyhow::Result<()> {
    let (dir, name) = there.rsplit_once('/').unwrap_or((".", there));
    // Nothing was printed yet: then not even the directory needs to be there.
    let Ok(found) = look(client, id, dir).await else {
        look(client, id, "/").await?;
        return Ok(());
    };
    let mut entries = found["entries"].as_array().into_iter().flatten();
    if !entries.any(|entry| entry["name"] == name) {
        return Ok(());
    }
    let query = encoded(there);
    let content = path(id, &format!("/content?path={query}"))?;
    let mut bytes = client.download(&content).await?;
    while let Some(piece) = bytes.next().await? {
        std::io::stdout().write_all(&piece)?;
    }
    Ok(())
}

/// `ID:PATH`; a name here that has a colon is written with a slash before it.
fn inside(text: &str) -> Option<(&str, &str)> {
    let (id, path) = text.split_once(':')?;
    (!id.is_empty() && !id.contains(['/', '.'])).then_some((id, path))
}

async fn look(client: &Client, id: &str, there: &str) -> anyhow::Result<Value> {
    let query = encoded(there);
    client
        .get(&path(id, &format!("/files?path={query}"))?)
        .await
}

async fn out(client: &Client, id: &str, there: &str, here: &Path) -> anyhow::Result<()> {
    let there = if there.is_empty() { "." } else { there };
    let found = look(client, id, there).await?;
    let name = found["name"].as_str().unwrap_or_default();
    // As cp does: into a directory that is there, else under that name.
    let here = match here.is_dir() && plain(name).is_some() {
        true => here.join(name),
        false => here.to_owned(),
    };
    let mut open = vec![(there.to_owned(), here, found, 0)];
    while let Some((there, here, found, depth)) = open.pop() {
        match found["kind"].as_str() {
            Some("file") => download(client, id, &there, &here, &found).await?,
            Some("symlink") if depth == 0 => download(client, id, &there, &here, &found).await?,
            Some("directory") if depth < DEPTH => {
                fs::create_dir_all(&here).with_context(|| here.display().to_string())?;
                let entries = match found.get("entries") {
                    Some(_) => found,
                    None => look(client, id, &there).await?,
                };
                if entries["has_more"] == true {
                    bail!(
                        "{there} has more entries than one answer lists; make an archive of it first"
                    );
                }
                for entry in entries["entries"].as_array().into_iter().flatten() {
                    let name = entry["name"].as_str().and_then(plain);
                    let name =
                        name.with_context(|| format!("{there} holds a name that is none"))?;
                    let below = format!("{}/{name}", there.trim_end_matches('/'));
                    open.push((below, here.join(name), entry.clone(), depth + 1));
                }
            }
            kind => eprintln!("left out: {there} ({})", kind.unwrap_or("unknown")),
        }
    }
    Ok(())
}

/// One part of a path and nothing else.
fn plain(name: &str) -> Option<&str> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(part)), None) if part == name => Some(name),
        _ => None,
    }
}

/// Whole or not at all: what is cut leaves what was here.
async fn download(
    client: &Client,
    id: &str,
    there: &str,
    here: &Path,
    found: &Value,
) -> anyhow::Result<()> {
    let query = encoded(there);
    let bytes = client
        .download(&path(id, &format!("/content?path={query}"))?)
        .await?;
    // What may be done with it, and nothing that makes its owner's rights somebody else's.
    let mode = u32::try_from(found["mode"].as_u64().unwrap_or(0o644)).unwrap_or(0o644);
    let mode = if found["kind"] == "symlink" {
        0o644
    } else {
        mode
    };
    let received = receive(bytes, here, mode & 0o777, |_| {}).await;
    received.with_context(|| format!("{there} to {}", here.display()))
}

/// Has a file here be what comes, whole or not at all; `seen` hears of how much has come.
pub(super) async fn receive(
    mut bytes: Exchange,
    here: &Path,
    mode: u32,
    mut seen: impl FnMut(usize),
) -> anyhow::Result<()> {
    let draft = sibling(here)?;
    let written = async {
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        while let Some(piece) = bytes.next().await? {
            file.write_all(&piece)?;
            seen(piece.len());
        }
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        fs::rename(&draft, here)?;
        anyhow::Ok(())
    };
    let written = written.await;
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}

fn sibling(here: &Path) -> anyhow::Result<PathBuf> {
    let name = here
        .file_name()
        .with_context(|| format!("{} names no file", here.display()))?;
    let mut draft = std::ffi::OsString::from(".longhand-");
    draft.push(name);
    Ok(here.with_file_name(draft))
}

async fn into(client: &Client, here: &Path, id: &str, there: &str) -> anyhow::Result<()> {
    let there = if there.is_empty() { "." } else { there };
    let name = here
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let found = look(client, id, there).await;
    let there = match (found, name) {
        (Ok(found), Some(name)) if found["kind"] == "directory" => {
            format!("{}/{name}", there.trim_end_matches('/'))
        }
        _ => there.to_owned(),
    };
    let mut open = vec![(here.to_owned(), there)];
    while let Some((here, there)) = open.pop() {
        // The first may be a link here: it was named.
        let metadata = fs::metadata(&here).with_context(|| here.display().to_string())?;
        if !metadata.is_dir() {
            upload(client, &here, id, &there, metadata.permissions().mode()).await?;
            continue;
        }
        let body = json!({ "path": there });
        client.post(&path(id, "/directories")?, Some(&body)).await?;
        for entry in fs::read_dir(&here)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                eprintln!(
                    "left out: {} (its name is not UTF-8)",
                    entry.path().display()
                );
                continue;
            };
            let kind = entry.file_type()?;
            if kind.is_file() || kind.is_dir() {
                open.push((entry.path(), format!("{there}/{name}")));
            } else {
                eprintln!("left out: {} (no regular file)", entry.path().display());
            }
        }
    }
    Ok(())
}

async fn upload(
    client: &Client,
    here: &Path,
    id: &str,
    there: &str,
    mode: u32,
) -> anyhow::Result<()> {
    let query = format!("/content?path={}&mode={:04o}", encoded(there), mode & 0o777);
    let query = path(id, &query)?;
    let file = File::open(here).with_context(|| here.display().to_string())?;
    let sent = send(client, &query, file, |_| {}).await;
    sent.map(drop).with_context(|| here.display().to_string())
}

/// Sends what can be read to the API; the bytes that it answers. `seen` hears of how much was sent.
pub(super) async fn send(
    client: &Client,
    query: &str,
    mut file: impl Read + Send + 'static,
    mut seen: impl FnMut(usize) + Send + 'static,
) -> anyhow::Result<Vec<u8>> {
    let (pieces, queue) = mpsc::channel(QUEUED);
    let reading = tokio::task::spawn_blocking(move || {
        let mut piece = vec![0; PIECE];
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(()),
                n => {
                    seen(n);
                    let sent = pieces.blocking_send(piece[..n].to_vec().into());
                    if sent.is_err() {
                        // The server has answered already, and says why.
                        return Ok::<_, std::io::Error>(());
                    }
                }
            }
        }
    });
    let mut answer = client.exchange(query, BYTES, queue).await?;
    let mut answered = Vec::new();
    while let Some(piece) = answer.next().await? {
        answered.extend_from_slice(&piece);
    }
    reading.await??;
    Ok(answered)
}

/// A value of a query.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_is_told_from_what_is_here() {
        assert_eq!(inside("sesn_1:/etc/a:b"), Some(("sesn_1", "/etc/a:b")));
        assert_eq!(inside("box:"), Some(("box", "")));
        for here in ["a", "./a:b", "/a:b", ":a", ""] {
            assert_eq!(inside(here), None, "{here}");
        }
    }

    #[test]
    fn a_name_from_inside_is_one_part_of_a_path() {
        assert_eq!(plain("a b"), Some("a b"));
        for bad in ["", ".", "..", "a/b", "/a", "../a", "a/", "./a"] {
            assert_eq!(plain(bad), None, "{bad}");
        }
        assert_eq!(encoded("/a b/é&c"), "/a%20b/%C3%A9%26c");
    }
}
