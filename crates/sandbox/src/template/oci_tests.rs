//! Images: layers on one another, what they hide, and what is wrong with an image that anybody may have made.

use std::fs;
use std::path::PathBuf;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::tests::{Place, Tar, gzip, text, zstd};
use super::*;
use crate::error::Error;

fn sha256(bytes: &[u8]) -> String {
    let digits = digest(&SHA256, bytes);
    let digits = digits.as_ref().iter().map(|byte| format!("{byte:02x}"));
    format!("sha256:{}", digits.collect::<String>())
}

/// An image layout that is being written, by anybody.
struct Layout {
    dir: TempDir,
    layers: Vec<Value>,
    unpacked: Vec<String>,
    architecture: String,
}

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

impl Layout {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        fs::write(
            dir.path().join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        Self {
            dir,
            layers: Vec::new(),
            unpacked: Vec::new(),
            architecture: super::architecture::of_host().to_owned(),
        }
    }

    fn blob(&self, bytes: &[u8], kind: &str) -> Value {
        let digest = sha256(bytes);
        fs::write(self.path(&digest), bytes).unwrap();
        json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    }

    fn path(&self, digest: &str) -> PathBuf {
        let digits = digest.trim_start_matches("sha256:");
        self.dir.path().join("blobs/sha256").join(digits)
    }

    fn layer(mut self, tar: Tar, packing: &str) -> Self {
        let tar = tar.end();
        self.unpacked.push(sha256(&tar));
        let packed = match packing {
            "+gzip" => gzip(&tar),
            "+zstd" => zstd(&tar),
            _ => tar,
        };
        let layer = self.blob(&packed, &format!("{LAYER}{packing}"));
        self.layers.push(layer);
        self
    }

    fn manifest(&self, change: impl FnOnce(&mut Value)) -> Value {
        let config = json!({
            "architecture": self.architecture, "os": "linux",
            "config": {"Env": ["PATH=/opt/bin:/usr/bin:/bin", "HOME=/elsewhere", "WORD=said"]},
            "rootfs": {"type": "layers", "diff_ids": self.unpacked},
        });
        let config = config.to_string();
        let config = self.blob(
            config.as_bytes(),
            "application/vnd.oci.image.config.v1+json",
        );
        let mut manifest = json!({"schemaVersion": 2, "config": config, "layers": self.layers});
        change(&mut manifest);
        let kind = "application/vnd.oci.image.manifest.v1+json";
        self.blob(manifest.to_string().as_bytes(), kind)
    }

    fn index(&self, manifests: &[Value]) {
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        fs::write(self.dir.path().join("index.json"), index.to_string()).unwrap();
    }

    fn new_template(&self, image: Option<&str>) -> NewTemplate {
        NewTemplate::at_path(self.dir.path(), image.map(str::to_owned), 7).unwrap()
    }

    /// The template that is made of it.
    fn made(&self, place: &Place) -> Template {
        self.index(&[self.manifest(|_| {})]);
        place.import(self.new_template(None)).unwrap().template
    }

    /// What is said of it; nothing of it may stay.
    fn refused(&self, change: impl FnOnce(&mut Value)) -> String {
        self.index(&[self.manifest(change)]);
        self.told()
    }

    fn told(&self) -> String {
        let place = Place::new();
        let done = place.import(self.new_template(None));
        let error = done.map(|done| done.template).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
        place.is_clean();
        error.to_string()
    }
}

fn lowest() -> Tar {
    Tar::default()
        .dir("opt/")
        .file("opt/stays", "below")
        .file("opt/goes", "below")
        .file("opt/changes", "below")
        .dir("opt/all/")
        .file("opt/all/old", "below")
        .file("opt/all/kept", "below")
        .dir("opt/tree/deep/")
        .file("opt/tree/deep/file", "below")
        .dir("usr/lib/")
        .symlink("lib", "usr/lib")
        .file("opt/becomes", "a file")
        .dir("opt/shrinks/")
        .file("opt/shrinks/inside", "below")
}

fn upper() -> Tar {
    Tar::default()
        // What a layer has itself it does not hide, whatever comes first.
        .file("opt/all/new", "above")
        .file("opt/all/kept", "above")
        .file("opt/all/.wh..wh..opq", "")
        .file("opt/.wh.goes", "")
        .file("opt/.wh.tree", "")
        .file("opt/changes", "above")
        .file("lib/so", "above")
        .dir("opt/becomes")
        .file("opt/becomes/inside", "above")
        .file("opt/shrinks", "a file")
        .file("nowhere/.wh.name", "")
}

#[test]
fn layers_lie_on_one_another_and_hide_what_is_below() {
    for packing in ["", "+gzip", "+zstd"] {
        let place = Place::new();
        let layout = Layout::new()
            .layer(lowest(), packing)
            .layer(upper(), packing);
        let template = layout.made(&place);
        let tree = place.tree(&template.id);
        assert_eq!(text(tree.join("opt/stays")), "below");
        assert_eq!(text(tree.join("opt/changes")), "above");
        assert_eq!(text(tree.join("opt/all/new")), "above");
        assert_eq!(text(tree.join("opt/all/kept")), "above");
        assert_eq!(text(tree.join("usr/lib/so")), "above");
        assert_eq!(text(tree.join("opt/becomes/inside")), "above");
        assert_eq!(text(tree.join("opt/shrinks")), "a file");
        for gone in [
            "opt/goes",
            "opt/tree",
            "opt/all/old",
            "opt/.wh.goes",
            "nowhere",
        ] {
            assert!(
                fs::symlink_metadata(tree.join(gone)).is_err(),
                "{packing} {gone}"
            );
        }
        assert!(template.source.contains("sha256:"));
        let env = |name: &str| template.env.iter().any(|(one, _)| one == name);
        assert!(env("PATH") && env("WORD") && !env("HOME"));
    }
}

#[test]
fn a_name_that_was_hidden_may_come_again() {
    let place = Place::new();
    let again = Tar::default().file("opt/goes", "again");
    let layout = Layout::new()
        .layer(lowest(), "+gzip")
        .layer(upper(), "+zstd")
        .layer(again, "");
    let tree = place.tree(&layout.made(&place).id);
    assert_eq!(text(tree.join("opt/goes")), "again");
}

#[test]
fn what_hides_by_a_link_hides_in_the_template_and_nowhere_else() {
    let place = Place::new();
    let outside = place.dir.path().to_str().unwrap().to_owned();
    let layout = Layout::new()
        .layer(lowest().symlink("way", &outside), "")
        .layer(
            Tar::default()
                .file("way/.wh.secret", "")
                .file("lib/.wh.none", ""),
            "",
        );
    layout.made(&place);
    assert_eq!(text(place.dir.path().join("secret")), "the host's");
    let opaque = Tar::default().file("way/.wh..wh..opq", "");
    let layout = Layout::new()
        .layer(lowest().symlink("way", &outside), "")
        .layer(opaque, "");
    layout.made(&place);
    assert_eq!(text(place.dir.path().join("secret")), "the host's");
}

#[test]
fn a_digest_or_size_that_does_not_fit_is_refused() {
    let image = || {
        Layout::new()
            .layer(lowest(), "+gzip")
            .layer(upper(), "+gzip")
    };
    // Of a layer, of what is unpacked of it, of the manifest, of the configuration.
    for number in 0..2 {
        let layout = image();
        let digest = layout.layers[number]["digest"].as_str().unwrap().to_owned();
        let other = gzip(&lowest().file("opt/planted", "!").end());
        fs::write(layout.path(&digest), other).unwrap();
        assert!(layout.refused(|_| {}).contains("digest does not fit"));
    }
    let mut layout = image();
    layout.unpacked[1] = sha256(b"something else");
    assert!(layout.refused(|_| {}).contains("digest does not fit"));
    let layout = image();
    let size = |manifest: &mut Value| manifest["layers"][0]["size"] = json!(7);
    assert!(layout.refused(size).contains("digest does not fit"));
    let layout = image();
    let manifest = layout.manifest(|_| {});
    let path = layout.path(manifest["digest"].as_str().unwrap());
    let changed = text(&path).replace("schemaVersion", "schemaversion");
    fs::write(path, changed).unwrap();
    layout.index(&[manifest]);
    assert!(layout.told().contains("digest or size"));
    let layout = image();
    let config = |manifest: &mut Value| manifest["config"]["size"] = json!(1);
    assert!(layout.refused(config).contains("digest or size"));
}

#[test]
fn another_architecture_is_refused_and_the_one_that_fits_is_chosen() {
    let mut layout = Layout::new().layer(lowest(), "");
    layout.architecture = "mips".to_owned();
    assert!(layout.refused(|_| {}).contains("mips"));
    // An index of several: ours is taken, whatever indices lie between.
    let mut layout = Layout::new().layer(lowest(), "");
    let here = super::architecture::of_host();
    let platform = |mut one: Value, architecture: &str| {
        one["platform"] = json!({"os": "linux", "architecture": architecture});
        one
    };
    let ours = platform(layout.manifest(|_| {}), here);
    layout.architecture = "mips".to_owned();
    let theirs = platform(layout.manifest(|_| {}), "mips");
    let both = json!({"schemaVersion": 2, "manifests": [theirs, ours]});
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = layout.blob(both.to_string().as_bytes(), kind);
    layout.index(&[index]);
    let place = Place::new();
    place.import(layout.new_template(None)).unwrap();
}

#[test]
fn of_several_images_somebody_has_to_say_which() {
    let mut layout = Layout::new().layer(lowest(), "");
    let called = |mut one: Value, name: &str| {
        one["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        one
    };
    let first = called(layout.manifest(|_| {}), "first");
    layout = layout.layer(upper(), "");
    let second = called(layout.manifest(|_| {}), "second");
    layout.index(&[first, second]);
    let said = layout.told();
    assert!(said.contains("first, second"), "{said}");
    let place = Place::new();
    let made = place.import(layout.new_template(Some("second"))).unwrap();
    let tree = place.tree(&made.template.id);
    assert_eq!(text(tree.join("opt/changes")), "above");
    let none = place.import(layout.new_template(Some("third")));
    assert!(none.is_err());
}

#[test]
fn what_is_no_image_is_refused_in_words() {
    let image = || Layout::new().layer(lowest(), "").layer(upper(), "");
    let kind =
        |manifest: &mut Value| manifest["layers"][0]["mediaType"] = json!("application/wasm");
    assert!(image().refused(kind).contains("application/wasm"));
    let foreign = |manifest: &mut Value| {
        manifest["layers"][0]["mediaType"] =
            json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    };
    assert!(image().refused(foreign).contains("not taken"));
    let fewer = |manifest: &mut Value| drop(manifest["layers"].as_array_mut().unwrap().pop());
    assert!(image().refused(fewer).contains("has 1 layers"));
    for digest in ["sha512:00", "sha256:../../../../etc/passwd", "sha256:", ""] {
        let change = |manifest: &mut Value| manifest["layers"][0]["digest"] = json!(digest);
        assert!(image().refused(change).contains("no digest"), "{digest}");
    }
    let layout = image();
    layout.index(&[layout.manifest(|_| {})]);
    fs::write(
        layout.dir.path().join("oci-layout"),
        r#"{"imageLayoutVersion":"9"}"#,
    )
    .unwrap();
    assert!(layout.told().contains("version"));
    fs::write(
        layout.dir.path().join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
    fs::write(layout.dir.path().join("index.json"), "{").unwrap();
    layout.told();
    // A link in the place of a blob leads nowhere.
    let layout = image();
    let digest = layout.layers[0]["digest"].as_str().unwrap().to_owned();
    let (blob, moved) = (layout.path(&digest), layout.dir.path().join("moved"));
    fs::rename(&blob, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &blob).unwrap();
    layout.index(&[layout.manifest(|_| {})]);
    let place = Place::new();
    assert!(place.import(layout.new_template(None)).is_err());
    place.is_clean();
}
