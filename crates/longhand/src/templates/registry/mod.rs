//! Owns the way of an image from a registry (distribution specification 1.1: "Pulling manifests", "Pulling blobs") to the
//! place where it is put together. What it brings is believed by nobody: sizes and digests are compared there, and once
//! more when the template is made. It unpacks nothing.

mod challenge;
mod client;
mod reference;
mod trouble;

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE};
use sandbox::{Blob, Gathering, Incoming};
use tokio::task::block_in_place;

pub(crate) use client::{Access, Login};
use client::{Client, whole};
pub(crate) use reference::Reference;
use trouble::Trouble;

/// What an image may begin with.
const DOCUMENTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
/// How often one thing is asked for in a row, when it does not come, or not whole.
const TRIES: u32 = 6;
/// What passes before the second time; twice that before the next.
const PAUSE: Duration = Duration::from_millis(200);

/// Who is told how much has come, of how much.
pub(super) type Watch<'a> = &'a mut dyn FnMut(u64, u64);

/// Fetches an image into the place where it is put together: what it lacks of it, from where it was left.
///
/// Cancel safe: what came stays there.
///
/// # Errors
/// There is no such image, it may not be had, or is none that can be imported; what is wrong with it is in words.
pub(super) async fn fetch(
    into: &Gathering,
    from: &Reference,
    access: Access,
    watch: Watch<'_>,
) -> anyhow::Result<()> {
    let registry = from.registry(access.plain_http)?;
    let mut client = Client::new(registry, from.repository.clone(), access)?;
    begin(&mut client, into, from).await?;
    let mut done = 0;
    loop {
        let lacking = block_in_place(|| into.lacking())?;
        if lacking.is_empty() {
            return Ok(());
        }
        let all = done + lacking.iter().map(|blob| blob.size).sum::<u64>();
        for blob in lacking {
            let mut watch = |came: u64| watch(done + came, all);
            brought(&mut client, into, &blob, &mut watch).await?;
            done += blob.size;
        }
    }
}

/// Asks for what the image begins with.
async fn begin(client: &mut Client, into: &Gathering, from: &Reference) -> anyhow::Result<()> {
    let what = format!("manifests/{}", from.wanted());
    let mut tries = Tries::default();
    let (kind, top) = loop {
        match document(client, &what).await {
            Ok(top) => break top,
            Err(trouble) => tries.after(trouble, false).await?,
        }
    };
    Ok(block_in_place(|| {
        into.begin(&top, &kind, from.digest.as_deref())
    })?)
}

/// A manifest or an index, and what it is called.
async fn document(client: &mut Client, what: &str) -> Result<(String, Vec<u8>), Trouble> {
    let response = client.get(what, DOCUMENTS, 0).await?;
    let kind = response.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_owned();
    let top = whole(response, Gathering::DOCUMENT_BYTES).await?;
    Ok((kind, top))
}

/// Brings a whole blob.
async fn brought(
    client: &mut Client,
    into: &Gathering,
    blob: &Blob,
    watch: &mut dyn FnMut(u64),
) -> anyhow::Result<()> {
    let mut incoming = block_in_place(|| into.incoming(blob))?;
    let mut tries = Tries::default();
    while !incoming.is_whole() {
        let before = incoming.bytes();
        if let Err(trouble) = more(client, blob, &mut incoming, watch).await {
            tries.after(trouble, incoming.bytes() > before).await?;
        }
    }
    Ok(block_in_place(|| incoming.end())?)
}

/// Brings what is lacking of a blob, as far as it comes.
async fn more(
    client: &mut Client,
    blob: &Blob,
    incoming: &mut Incoming<'_>,
    watch: &mut dyn FnMut(u64),
) -> Result<(), Trouble> {
    let what = match blob.is_manifest {
        true => format!("manifests/{}", blob.digest),
        false => format!("blobs/{}", blob.digest),
    };
    let accept = if blob.is_manifest { DOCUMENTS } else { "*/*" };
    let mut response = client.get(&what, accept, incoming.bytes()).await?;
    if response.status() != StatusCode::PARTIAL_CONTENT {
        incoming.restart()?;
    } else {
        let range = response.headers().get(CONTENT_RANGE);
        let range = range
            .and_then(|range| range.to_str().ok())
            .unwrap_or_default();
        let begins = format!("bytes {}-", incoming.bytes());
        if !range.starts_with(&begins) {
            return Err(lie(format!("{what}: another part came than was asked for")));
        }
    }
    let left = blob.size - incoming.bytes();
    if let Some(said) = response.content_length().filter(|said| *said != left) {
        return Err(lie(format!(
            "{what}: the registry sends {said} bytes where its manifest says {left}"
        )));
    }
    let url = response.url().clone();
    while let Some(piece) = response
        .chunk()
        .await
        .map_err(|e| Trouble::sending(e, &url))?
    {
        // It goes to the kernel's memory; nobody else waits in this program.
        incoming.put(&piece)?;
        watch(incoming.bytes());
    }
    match incoming.is_whole() {
        true => Ok(()),
        false => Err(Trouble::Passing(anyhow!("{what} was cut"), None)),
    }
}

/// What a registry says that cannot be.
fn lie(problem: String) -> Trouble {
    sandbox::Error::Invalid { problem }.into()
}

/// How often something was asked for in vain, one time after the other.
#[derive(Default)]
struct Tries {
    in_vain: u32,
    all: u32,
}

impl Tries {
    /// Waits before it is asked for again; `some` says whether some of it came.
    ///
    /// # Errors
    /// It is not to be had, or was asked for often enough.
    async fn after(&mut self, trouble: Trouble, some: bool) -> anyhow::Result<()> {
        /// However much comes each time: nobody is kept for ever by a byte a time.
        const MOST: u32 = 50;
        let (error, wait) = match trouble {
            Trouble::Lasting(error) => return Err(error),
            Trouble::Passing(error, wait) => (error, wait),
        };
        self.in_vain = if some { 1 } else { self.in_vain + 1 };
        self.all += 1;
        if self.in_vain >= TRIES || self.all >= MOST {
            return Err(error).context(format!("asked for {} times", self.all));
        }
        let pause = PAUSE * 2_u32.pow(self.in_vain - 1);
        tokio::time::sleep(wait.unwrap_or(pause)).await;
        Ok(())
    }
}
