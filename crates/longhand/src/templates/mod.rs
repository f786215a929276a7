//! `template`: what sandboxes are made on, for people. Importing works on the data directory itself, whether a server runs
//! or not; what is asked and removed goes through the server, which knows who uses what. It unpacks nothing itself.

mod debian;
mod registry;

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use contract::secret::Secret;
use sandbox::{Imported, NewTemplate, Progress, TemplateHome, TemplateName, TemplateRef};
use serde_json::{Value, json};

use crate::cli::{Build, Import, Output, Template};
use crate::client::Client;
use crate::config;
use crate::data_dir::DataDir;
use crate::view;
use registry::{Access, Login, Reference};

const ALL: &str = "/v1/x/templates";
const COLUMNS: [&str; 5] = ["names", "id", "bytes", "files", "created_at"];
/// Bytes of a password; what stands for one may be a signed token.
const PASSWORD_BYTES: u64 = 64 << 10;
/// How often somebody who watches is told how far it is.
const TOLD: Duration = Duration::from_millis(500);

/// The templates of that data directory.
///
/// # Errors
/// Their directory cannot be made, or is not this user's alone.
pub fn home(data_dir: &DataDir, settings: &config::Sandbox) -> anyhow::Result<TemplateHome> {
    let reserve = settings.disk_reserve_mib.saturating_mul(1 << 20);
    Ok(sandbox::template_home(
        data_dir.directory("templates")?,
        reserve,
    )?)
}

/// `longhand template import`
///
/// # Errors
/// What is wrong with the archive or the image; nothing of it is kept then.
pub async fn import(home: TemplateHome, what: Import, lifted: dial::Policy) -> anyhow::Result<()> {
    let now = store::clock::now().0;
    let name = what.name.as_deref().map(TemplateName::new).transpose()?;
    if let Some(text) = what.from.to_str().filter(|text| Reference::is_one(text)) {
        if what.image.is_some() {
            bail!(
                "--image is for the directory of a layout: a registry is asked for a tag or a digest"
            );
        }
        let from = text.parse()?;
        let access = Access {
            login: what.user.map(login).transpose()?,
            plain_http: what.plain_http,
            lifted,
        };
        let imported = from_registry(home, &from, access, name).await?;
        return show(&imported, &what.output);
    }
    if what.user.is_some() || what.plain_http {
        bail!("--user and --plain-http are for images in registries: docker://HOST/REPOSITORY");
    }
    let new = if what.from == Path::new("-") {
        if io::stdin().is_terminal() {
            bail!("give the archive's FILE, or send it into a pipe");
        }
        NewTemplate::from_archive(Box::new(io::stdin()), "standard input".to_owned(), now)
    } else {
        NewTemplate::at_path(&what.from, what.image, now)?
    };
    show(&watched(home, new, name).await?, &what.output)
}

/// Who asks a registry. The password is the first line of standard input.
fn login(user: String) -> anyhow::Result<Login> {
    if io::stdin().is_terminal() {
        bail!("send the password into a pipe: --user NAME < FILE");
    }
    let mut line = Vec::new();
    let input = io::stdin().lock().take(PASSWORD_BYTES + 1);
    let read = io::BufReader::new(input).read_until(b'\n', &mut line);
    read.context("the password cannot be read")?;
    let line = String::from_utf8(line).ok();
    let line = line.filter(|line| line.len() as u64 <= PASSWORD_BYTES);
    let line = line.context("what standard input has is no password")?;
    Ok(Login {
        user,
        password: Secret::new(line.trim_end_matches(['\r', '\n']).to_owned()),
    })
}

/// Fetches an image and makes a template of it.
async fn from_registry(
    home: TemplateHome,
    from: &Reference,
    access: Access,
    name: Option<TemplateName>,
) -> anyhow::Result<Imported> {
    let gathering = home.gather()?;
    let is_watched = io::stderr().is_terminal();
    let mut told = Instant::now();
    let mut watch = |came: u64, all: u64| {
        if is_watched && (told.elapsed() > TOLD || came == all) {
            told = Instant::now();
            eprint!("\r{} of {} MiB fetched", came >> 20, all >> 20);
        }
    };
    let fetched = registry::fetch(&gathering, from, access, &mut watch).await;
    if is_watched {
        eprintln!();
    }
    let made = match fetched {
        Ok(()) => {
            let new = gathering.new_template(from.to_string(), store::clock::now().0);
            watched(home, new, name).await
        }
        Err(error) => Err(error.context(format!("cannot fetch {from}"))),
    };
    // What is none stays none; what only did not come is gone on from.
    let is_none = |error: &anyhow::Error| {
        matches!(error.downcast_ref(), Some(sandbox::Error::Invalid { .. }))
    };
    match &made {
        Err(error) if !is_none(error) && !gathering.is_empty() => {
            eprintln!("what came of it is kept: the same command goes on from there");
        }
        _ => gathering.remove()?,
    }
    made
}

/// `longhand template build`
///
/// # Errors
/// As [`import`]; mmdebstrap is not there, or fails.
pub async fn build(home: TemplateHome, build: Build, mirror: &str) -> anyhow::Result<()> {
    let name = build.name.as_deref().unwrap_or(debian::name(build.recipe));
    let name = TemplateName::new(name)?;
    let mirror = build.mirror.as_deref().unwrap_or(mirror);
    let built = debian::start(&build, mirror)?;
    let called = format!("Debian {} from {mirror}", build.suite);
    let new = NewTemplate::from_archive(Box::new(built), called, store::clock::now().0);
    show(&watched(home, new, Some(name)).await?, &build.output)
}

/// Imports it while whoever watches is told how far it is.
async fn watched(
    home: TemplateHome,
    mut new: NewTemplate,
    name: Option<TemplateName>,
) -> anyhow::Result<Imported> {
    new.name = name;
    let progress = Arc::new(Progress::default());
    let work = Arc::clone(&progress);
    let mut done = tokio::task::spawn_blocking(move || home.import(new, &work));
    let is_watched = io::stderr().is_terminal();
    let imported = loop {
        match tokio::time::timeout(TOLD, &mut done).await {
            Ok(imported) => break imported,
            Err(_) if is_watched => eprint!("\r{} MiB read", progress.bytes() >> 20),
            Err(_) => {}
        }
    };
    if is_watched {
        eprintln!("\r{} MiB read", progress.bytes() >> 20);
    }
    Ok(imported.context("the import was cut")??)
}

fn show(imported: &Imported, output: &Output) -> anyhow::Result<()> {
    let Imported { template, was_here } = imported;
    if *was_here {
        eprintln!("it was here already, and is not kept twice");
    }
    let shown = json!({
        "type": "sandbox_template",
        "id": format!("sha256:{}", template.id),
        "names": template.names,
        "architecture": template.architecture,
        "bytes": template.bytes,
        "files": template.files,
    });
    let columns = ["names", "id", "bytes", "files"];
    print(vec![shown], &columns, output)
}

/// `longhand template verify`
///
/// # Errors
/// There is no such template, or it is not what was imported any more.
pub async fn verify(home: TemplateHome, template: &str, output: &Output) -> anyhow::Result<()> {
    let which: TemplateRef = template.parse()?;
    let verified = tokio::task::spawn_blocking(move || home.verify(&which)).await;
    let (template, same) = verified.context("the look was cut")??;
    let id = format!("sha256:{}", template.id);
    if !same {
        bail!(
            "{id} is not what was imported any more: its files were changed on this host; remove what lies on it, then \
             it, and import it again"
        );
    }
    let shown = json!({ "id": id, "files": template.files, "verified": true });
    Ok(view::objects(
        &[shown],
        &["id", "files", "verified"],
        output.json,
    )?)
}

/// The rest of `longhand template`, which a server answers.
///
/// # Errors
/// What the server answered, or that it could not be reached.
pub async fn ask(command: Template, client: &Client) -> anyhow::Result<()> {
    match command {
        Template::List(output) => {
            let all = client.get(ALL).await?;
            let all = all["data"].as_array().cloned().unwrap_or_default();
            print(all, &COLUMNS, &output)
        }
        Template::Remove { templates, output } => {
            let mut gone = Vec::new();
            for template in &templates {
                let which: TemplateRef = template.parse()?;
                gone.push(client.delete(&format!("{ALL}/{which}")).await?);
            }
            Ok(view::objects(&gone, &["id", "type"], output.json)?)
        }
        Template::Import(_) | Template::Build(_) | Template::Verify { .. } => Ok(()),
    }
}

fn print(mut all: Vec<Value>, columns: &[&str], output: &Output) -> anyhow::Result<()> {
    if !output.json && view::is_terminal() {
        all = all.into_iter().map(flat).collect();
    }
    Ok(view::objects(&all, columns, output.json)?)
}

/// With its names in one word, for a table.
fn flat(mut one: Value) -> Value {
    let names = one["names"].as_array().cloned().unwrap_or_default();
    let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
    one["names"] = names.join(",").into();
    one
}
