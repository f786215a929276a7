//! An image that comes blob by blob: what it lacks, what is not taken, and what stays of one that stopped.

use std::fs;

use serde_json::{Value, json};

use super::oci::sha256;
use super::tests::{Place, Tar, gzip, text};
use super::*;
use crate::error::Error;

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn said(kind: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": format!("sha256:{}", sha256(bytes)), "size": bytes.len()})
}

/// What a registry has: an index, the manifest for this host that it names, its configuration, its layer.
struct Remote {
    blobs: Vec<Vec<u8>>,
}

impl Remote {
    fn new() -> Self {
        let here = super::architecture::of_host();
        let tar = Tar::default().dir("opt/").file("opt/mark", "fetched").end();
        let layer = gzip(&tar);
        let diff = format!("sha256:{}", sha256(&tar));
        let config = json!({"architecture": here, "os": "linux", "rootfs": {"diff_ids": [diff]}});
        let config = config.to_string().into_bytes();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": said(CONFIG, &config), "layers": [said(LAYER, &layer)]});
        let manifest = manifest.to_string().into_bytes();
        let mut ours = said(MANIFEST, &manifest);
        ours["platform"] = json!({"os": "linux", "architecture": here});
        let mut other = said(MANIFEST, b"never asked for");
        other["platform"] = json!({"os": "linux", "architecture": "mips"});
        let index = json!({"schemaVersion": 2, "manifests": [other, ours]});
        let index = index.to_string().into_bytes();
        Self {
            blobs: vec![index, manifest, config, layer],
        }
    }

    fn find(&self, blob: &Blob) -> &[u8] {
        let is = |bytes: &&Vec<u8>| blob.digest == format!("sha256:{}", sha256(bytes));
        self.blobs.iter().find(is).unwrap()
    }
}

fn is_gone(place: &Place) {
    assert!(!fs::exists(place.home.dir().join("gathered")).unwrap());
}

#[test]
fn an_image_that_comes_blob_by_blob_becomes_a_template_and_leaves_nothing_beside_it() {
    let (place, remote) = (Place::new(), Remote::new());
    let gathering = place.home.gather().unwrap();
    let second = place.home.gather().map(drop).unwrap_err();
    assert!(matches!(second, Error::Busy { .. }), "{second:?}");
    gathering.begin(&remote.blobs[0], INDEX, None).unwrap();
    let mut kinds = Vec::new();
    loop {
        let lacking = gathering.lacking().unwrap();
        if lacking.is_empty() {
            break;
        }
        for blob in lacking {
            kinds.push(blob.is_manifest);
            let mut incoming = gathering.incoming(&blob).unwrap();
            for piece in remote.find(&blob).chunks(7) {
                incoming.put(piece).unwrap();
            }
            assert!(incoming.is_whole());
            incoming.end().unwrap();
        }
    }
    assert_eq!(kinds, [true, false, false]);
    let new = gathering.new_template("docker://somewhere".to_owned(), 7);
    let template = place.import(new).unwrap().template;
    assert_eq!(text(place.tree(&template.id).join("opt/mark")), "fetched");
    assert!(template.source.starts_with("docker://somewhere (sha256:"));
    gathering.remove().unwrap();
    is_gone(&place);
}

#[test]
fn what_came_of_a_blob_is_gone_on_from_and_what_is_too_much_or_something_else_is_refused() {
    let (place, remote) = (Place::new(), Remote::new());
    let home = &place.home;
    let blob = Blob {
        digest: format!("sha256:{}", sha256(&remote.blobs[3])),
        size: remote.blobs[3].len() as u64,
        is_manifest: false,
    };
    let layer = remote.find(&blob);
    let gathering = home.gather().unwrap();
    gathering.begin(&remote.blobs[1], MANIFEST, None).unwrap();
    gathering.incoming(&blob).unwrap().put(&layer[..9]).unwrap();
    drop(gathering);
    let gathering = home.gather().unwrap();
    let mut incoming = gathering.incoming(&blob).unwrap();
    assert_eq!(incoming.bytes(), 9);
    incoming.put(&layer[9..]).unwrap();
    let more = incoming.put(b"!").unwrap_err();
    assert!(more.to_string().contains("more than its"), "{more}");
    incoming.end().unwrap();
    // Another one of the same length.
    let mut incoming = gathering.incoming(&blob).unwrap();
    incoming.put(&vec![0; layer.len()]).unwrap();
    let other = incoming.end().unwrap_err().to_string();
    assert!(other.contains(&blob.digest), "{other}");
    assert_eq!(gathering.incoming(&blob).unwrap().bytes(), 0);
    gathering.remove().unwrap();
    is_gone(&place);
}

#[test]
fn what_an_image_begins_with_is_one_thing_of_a_known_kind_and_the_digest_that_was_wanted() {
    let (place, remote) = (Place::new(), Remote::new());
    let gathering = place.home.gather().unwrap();
    let refused = |top: &[u8], kind: &str, wanted: Option<&str>| {
        let refused = gathering.begin(top, kind, wanted).unwrap_err();
        assert!(matches!(refused, Error::Invalid { .. }), "{refused:?}");
        refused.to_string()
    };
    let [index, manifest, ..] = remote.blobs.as_slice() else {
        unreachable!()
    };
    let wanted = format!("sha256:{}", "0".repeat(64));
    assert!(refused(index, INDEX, Some(&wanted)).contains(&wanted));
    let old = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    assert!(refused(b"{}", old, None).contains("v1+prettyjws"));
    assert!(refused(index, MANIFEST, None).contains("not of the kind"));
    let both =
        br#"{"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"layers":[]}"#;
    assert!(refused(both, INDEX, None).contains("not of the kind"));
    refused(b"<html>", INDEX, None);
    // The document's own word counts.
    gathering.begin(manifest, "text/plain", None).unwrap();
    gathering.remove().unwrap();
    is_gone(&place);
}

#[test]
fn an_index_without_this_hosts_platform_says_which_it_has() {
    let place = Place::new();
    let gathering = place.home.gather().unwrap();
    let mut other = said(MANIFEST, b"never asked for");
    other["platform"] = json!({"os": "linux", "architecture": "mips"});
    let index = json!({"schemaVersion": 2, "manifests": [other]}).to_string();
    gathering.begin(index.as_bytes(), INDEX, None).unwrap();
    let refused = gathering.lacking().unwrap_err().to_string();
    assert!(refused.contains("linux/mips"), "{refused}");
}
