//! Owns reading an image layout of the Open Container Initiative (image specification 1.1: `image-layout.md`,
//! `image-index.md`, `manifest.md`, `config.md`) and what Docker writes in its place. It believes no digest and no size
//! before it was compared, and looks at no layer.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use rustix::fs::{CWD, Mode, OFlags, openat};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::architecture;
use super::source::Packing;
use crate::archive::shown;
use crate::error::Error;
use crate::limits::{IMAGE_JSON_BYTES, IMAGE_LAYERS, IMAGE_NESTED, TEMPLATE_BYTES};

const LAYOUT: &str = "oci-layout";
const INDEX: &str = "index.json";
/// The version of layouts that there is.
const VERSION: &str = "1.0.0";
/// What an entry of an index is: one image, or an index again.
pub(super) const MANIFESTS: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
pub(super) const INDICES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
const CONFIGS: [&str; 2] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
];
/// What a layer is, and how it is packed. Those that are not to be passed on are taken where they are there.
const LAYERS: [(&str, Packing); 8] = [
    ("application/vnd.oci.image.layer.v1.tar", Packing::Plain),
    ("application/vnd.oci.image.layer.v1.tar+gzip", Packing::Gzip),
    ("application/vnd.oci.image.layer.v1.tar+zstd", Packing::Zstd),
    (
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        Packing::Plain,
    ),
    (
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        Packing::Gzip,
    ),
    (
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        Packing::Zstd,
    ),
    (
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        Packing::Gzip,
    ),
    (
        "application/vnd.docker.image.rootfs.diff.tar",
        Packing::Plain,
    ),
];
/// Platforms that are named to whoever's is not among them.
const PLATFORMS_NAMED: usize = 20;
/// By what an index calls an image.
const NAMED: &str = "org.opencontainers.image.ref.name";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layout {
    image_layout_version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Clone, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Config {
    architecture: String,
    os: String,
    rootfs: RootFs,
    config: Option<Execution>,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

#[derive(Deserialize)]
struct Execution {
    #[serde(rename = "Env")]
    env: Option<Vec<String>>,
}

/// One layer of an image.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) path: PathBuf,
    pub(super) packing: Packing,
    /// Of the blob, in hexadecimal digits.
    pub(super) digest: String,
    pub(super) size: u64,
    /// Of what is unpacked of it.
    pub(super) unpacked: String,
}

/// An image of this host's architecture.
#[derive(Debug)]
pub(super) struct Image {
    /// `sha256:…` of its manifest.
    pub(super) digest: String,
    /// The lowest first.
    pub(super) layers: Vec<Layer>,
    pub(super) env: Vec<(String, String)>,
}

/// A blob that an image refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// `sha256:` and 64 digits.
    pub digest: String,
    /// Its bytes, as its referrer says.
    pub size: u64,
    /// Whether it is a manifest or an index: registries keep those elsewhere than other blobs.
    pub is_manifest: bool,
}

/// Why there is no image.
enum Lack {
    /// It is none that is taken.
    Refused(Error),
    /// These are not in the layout.
    Blobs(Vec<Blob>),
}

impl From<Error> for Lack {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// Whether there is a layout in that directory.
pub(super) fn is_layout(dir: &Path) -> bool {
    dir.join(LAYOUT).is_file()
}

/// The image in the layout in `dir`; if there are several, the one that is called `called`.
///
/// # Errors
/// [`Error::Invalid`] says what is wrong with the layout, or which images there are.
pub(super) fn image(dir: &Path, called: Option<&str>) -> Result<Image, Error> {
    look(dir, called).map_err(|lack| match lack {
        Lack::Refused(error) => error,
        Lack::Blobs(blobs) => {
            let digests: Vec<&str> = blobs.iter().map(|blob| blob.digest.as_str()).collect();
            bad(
                "the layout",
                &format!("{} is not there", digests.join(", ")),
            )
        }
    })
}

/// What has to come next to a layout that is being put together; nothing when its image is whole. No digest of a layer is
/// looked at.
///
/// # Errors
/// As [`image`], and before anything comes that is not needed to see it.
pub(super) fn lacking(dir: &Path) -> Result<Vec<Blob>, Error> {
    match look(dir, None) {
        Ok(_) => Ok(Vec::new()),
        Err(Lack::Blobs(blobs)) => Ok(blobs),
        Err(Lack::Refused(error)) => Err(error),
    }
}

/// Begins a layout in `dir`, which is there: of the manifest or index `top`, which is in it.
pub(super) fn begin(dir: &Path, kind: &str, top: &Blob) -> io::Result<()> {
    fs::create_dir_all(dir.join("blobs/sha256"))?;
    let top = json!({"mediaType": kind, "digest": top.digest, "size": top.size});
    let index = json!({"schemaVersion": 2, "manifests": [top]});
    fs::write(dir.join(INDEX), index.to_string())?;
    let layout = json!({"imageLayoutVersion": VERSION});
    fs::write(dir.join(LAYOUT), layout.to_string())
}

fn look(dir: &Path, called: Option<&str>) -> Result<Image, Lack> {
    let layout: Layout = parsed(LAYOUT, &small(&dir.join(LAYOUT), LAYOUT)?)?;
    if layout.image_layout_version != VERSION {
        let version = shown(layout.image_layout_version.as_bytes());
        let problem = format!("it is of version {version}, not {VERSION}");
        return Err(bad(LAYOUT, &problem).into());
    }
    let index: Index = parsed(INDEX, &small(&dir.join(INDEX), INDEX)?)?;
    let mut found = index.manifests;
    if let Some(called) = called {
        found.retain(|one| {
            one.annotations
                .get(NAMED)
                .is_some_and(|name| name == called)
        });
    }
    let chosen = chosen(dir, found, 0)?;
    let manifest: Manifest = blob(dir, &chosen, "the manifest")?;
    if !CONFIGS.contains(&manifest.config.media_type.as_str()) {
        let kind = shown(manifest.config.media_type.as_bytes());
        return Err(bad("the manifest", &format!("it is of no image, but of {kind}")).into());
    }
    let config: Config = blob(dir, &manifest.config, "the configuration")?;
    let here = architecture::of_host();
    if config.os != "linux" || config.architecture != here {
        let made = platform(&config.os, &config.architecture);
        return Err(Error::invalid(format!(
            "the image is for {made}, and this host is linux/{here}"
        ))
        .into());
    }
    let layers = layers(dir, manifest.layers, config.rootfs.diff_ids)?;
    let missing: Vec<Blob> = layers
        .iter()
        .filter(|layer| fs::symlink_metadata(&layer.path).is_err())
        .map(|layer| Blob {
            digest: format!("sha256:{}", layer.digest),
            size: layer.size,
            is_manifest: false,
        })
        .collect();
    if !missing.is_empty() {
        return Err(Lack::Blobs(missing));
    }
    Ok(Image {
        digest: chosen.digest,
        layers,
        env: environment(config.config),
    })
}

fn platform(os: &str, architecture: &str) -> String {
    format!(
        "{}/{}",
        shown(os.as_bytes()),
        shown(architecture.as_bytes())
    )
}

/// The one manifest for this host among these, whatever indices lie between.
fn chosen(dir: &Path, among: Vec<Descriptor>, depth: usize) -> Result<Descriptor, Lack> {
    let here = architecture::of_host();
    let fits = |one: &Descriptor| match &one.platform {
        Some(platform) => platform.os == "linux" && platform.architecture == here,
        // One that says nothing is asked itself.
        None => true,
    };
    let is = |kinds: &[&str], one: &Descriptor| kinds.contains(&one.media_type.as_str());
    let known = |one: &Descriptor| is(&MANIFESTS, one) || is(&INDICES, one);
    let mut names = Vec::new();
    let mut fitting = Vec::new();
    let mut others = BTreeSet::new();
    for one in among.into_iter().filter(known) {
        if fits(&one) {
            names.extend(
                one.annotations
                    .get(NAMED)
                    .map(|name| shown(name.as_bytes())),
            );
            fitting.push(one);
        } else if let Some(other) = one.platform {
            others.insert(platform(&other.os, &other.architecture));
        }
    }
    let refused = |problem: String| Err(bad(INDEX, &problem).into());
    match fitting.as_slice() {
        [] if others.is_empty() => refused(format!("it names no such image for linux/{here}")),
        [] => {
            let others: Vec<_> = others.into_iter().take(PLATFORMS_NAMED).collect();
            refused(format!(
                "it names no such image for linux/{here}, only for {}",
                others.join(", ")
            ))
        }
        [one] if is(&MANIFESTS, one) => Ok(one.clone()),
        [one] if depth < IMAGE_NESTED => {
            let index: Index = blob(dir, one, "an index")?;
            chosen(dir, index.manifests, depth + 1)
        }
        [_] => refused(format!("more than {IMAGE_NESTED} indices in one another")),
        _ if names.is_empty() => {
            let digests: Vec<_> = fitting
                .iter()
                .map(|one| shown(one.digest.as_bytes()))
                .collect();
            refused(format!(
                "it names {} images for linux/{here}: say which by its digest, of: {}",
                fitting.len(),
                digests.join(", ")
            ))
        }
        _ => refused(format!(
            "it names {} images for linux/{here}: say which by --image, of: {}",
            fitting.len(),
            names.join(", ")
        )),
    }
}

fn layers(dir: &Path, all: Vec<Descriptor>, unpacked: Vec<String>) -> Result<Vec<Layer>, Error> {
    if all.len() != unpacked.len() || all.len() > IMAGE_LAYERS {
        let (layers, named) = (all.len(), unpacked.len());
        return Err(bad(
            "the manifest",
            &format!(
                "it has {layers} layers and its configuration {named}; {IMAGE_LAYERS} are taken"
            ),
        ));
    }
    let bytes = all
        .iter()
        .map(|layer| layer.size)
        .try_fold(0_u64, u64::checked_add);
    if bytes.is_none_or(|bytes| bytes > TEMPLATE_BYTES) {
        return Err(bad(
            "the manifest",
            &format!("its layers have more than {TEMPLATE_BYTES} bytes"),
        ));
    }
    let layers = all.into_iter().zip(unpacked).map(|(layer, unpacked)| {
        let kind = LAYERS.iter().find(|(kind, _)| *kind == layer.media_type);
        let Some((_, packing)) = kind else {
            let kind = shown(layer.media_type.as_bytes());
            return Err(bad(
                "the manifest",
                &format!("a layer of a kind that is not taken: {kind}"),
            ));
        };
        let digest = digits(&layer.digest)?.to_owned();
        Ok(Layer {
            path: place(dir, &digest),
            packing: *packing,
            digest,
            size: layer.size,
            unpacked: digits(&unpacked)?.to_owned(),
        })
    });
    layers.collect()
}

/// What an image says of the environment of its programs, but for what is the sandbox's own.
fn environment(execution: Option<Execution>) -> Vec<(String, String)> {
    const OURS: [&str; 2] = ["HOME", "USER"];
    let env = execution.and_then(|execution| execution.env);
    let pairs = env.into_iter().flatten();
    let pairs = pairs.filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    });
    pairs
        .filter(|(name, _)| !OURS.contains(&name.as_str()))
        .collect()
}

pub(super) fn place(dir: &Path, digits: &str) -> PathBuf {
    dir.join("blobs/sha256").join(digits)
}

/// The digits of a digest. There is one other kind that images may have, and nothing that writes it.
pub(super) fn digits(digest: &str) -> Result<&str, Error> {
    let digits = digest.strip_prefix("sha256:");
    let is = |digits: &&str| {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        digits.len() == 64 && digits.bytes().all(digit)
    };
    digits.filter(is).ok_or_else(|| {
        let digest = shown(digest.as_bytes());
        Error::invalid(format!(
            "{digest} is no digest that is taken: `sha256:` and 64 digits"
        ))
    })
}

/// A blob of JSON, of the size and digest that were said.
fn blob<T: DeserializeOwned>(dir: &Path, of: &Descriptor, what: &str) -> Result<T, Lack> {
    let digits = digits(&of.digest)?;
    if of.size > IMAGE_JSON_BYTES {
        return Err(large(what).into());
    }
    let path = place(dir, digits);
    if fs::symlink_metadata(&path).is_err() {
        let is = |kinds: &[&str]| kinds.contains(&of.media_type.as_str());
        return Err(Lack::Blobs(vec![Blob {
            digest: of.digest.clone(),
            size: of.size,
            is_manifest: is(&MANIFESTS) || is(&INDICES),
        }]));
    }
    let bytes = small(&path, what)?;
    if sha256(&bytes) != digits || bytes.len() as u64 != of.size {
        return Err(bad(what, "its digest or size is not the one that was said").into());
    }
    Ok(parsed(what, &bytes)?)
}

/// In hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    let found = digest(&SHA256, bytes);
    found
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn large(what: &str) -> Error {
    bad(what, &format!("more than {IMAGE_JSON_BYTES} bytes"))
}

pub(super) fn parsed<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| bad(what, &error.to_string()))
}

/// A file that holds a little text.
fn small(path: &Path, what: &str) -> Result<Vec<u8>, Error> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        open(path)?
            .take(IMAGE_JSON_BYTES + 1)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| bad(what, &error.to_string()))?;
    match bytes.len() as u64 > IMAGE_JSON_BYTES {
        true => Err(large(what)),
        false => Ok(bytes),
    }
}

/// A regular file of a layout: whoever wrote it may have put a link to anything in its place.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(openat(CWD, path, flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "no regular file",
        )),
    }
}

pub(super) fn bad(what: &str, problem: &str) -> Error {
    Error::invalid(format!("{what}: {problem}"))
}
