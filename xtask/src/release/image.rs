//! An OCI image layout (image-spec 1.1) with one layer: the binary and an empty data directory. The same binary
//! gives the same image, byte by byte. Sandboxes take their programs from the `/usr` they see: run it with the
//! host's, `--volume /usr:/usr:ro`.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use super::sha256;

const BLOCK: usize = 512;

/// Writes the layout into the new directory `layout`.
pub(super) fn write(binary: &Path, layout: &Path) -> anyhow::Result<()> {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let layer = keep(&blobs, &tar(&fs::read(binary)?)?)?;
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {
            "Entrypoint": ["/longhand"],
            "Cmd": ["serve", "--data-dir", "/var/lib/longhand"],
            "Volumes": {"/var/lib/longhand": {}},
            "ExposedPorts": {"8787/tcp": {}},
            "StopSignal": "SIGTERM",
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
        "history": [{"created_by": "cargo xtask release"}],
    });
    let config = keep(&blobs, config.to_string().as_bytes())?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config.described("application/vnd.oci.image.config.v1+json"),
        "layers": [layer.described("application/vnd.oci.image.layer.v1.tar")],
    });
    let manifest = keep(&blobs, manifest.to_string().as_bytes())?;
    let mut described = manifest.described("application/vnd.oci.image.manifest.v1+json");
    described["annotations"] =
        json!({"org.opencontainers.image.ref.name": env!("CARGO_PKG_VERSION")});
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [described],
    });
    fs::write(layout.join("index.json"), index.to_string())?;
    fs::write(
        layout.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )?;
    Ok(())
}

/// A blob that is kept.
struct Blob {
    digest: String,
    size: usize,
}

impl Blob {
    fn described(&self, kind: &str) -> Value {
        json!({"mediaType": kind, "digest": self.digest, "size": self.size})
    }
}

fn keep(blobs: &Path, bytes: &[u8]) -> anyhow::Result<Blob> {
    let new = blobs.join("new");
    fs::write(&new, bytes)?;
    let sum = sha256(&new)?;
    fs::rename(&new, blobs.join(&sum))?;
    Ok(Blob {
        digest: format!("sha256:{sum}"),
        size: bytes.len(),
    })
}

fn tar(binary: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut tar = Vec::with_capacity(binary.len() + 16 * BLOCK);
    for (name, mode) in [
        ("etc/", 0o755),
        ("tmp/", 0o1777),
        ("usr/", 0o755),
        ("var/", 0o755),
        ("var/lib/", 0o755),
        ("var/lib/longhand/", 0o700),
    ] {
        tar.extend(head(name, mode, b'5', 0)?);
    }
    for (name, mode, content) in [
        ("etc/passwd", 0o644, &b"root:x:0:0:root:/root:/bin/sh\n"[..]),
        ("longhand", 0o755, binary),
    ] {
        tar.extend(head(name, mode, b'0', content.len())?);
        tar.extend(content);
        tar.resize(tar.len().next_multiple_of(BLOCK), 0);
    }
    tar.resize(tar.len() + 2 * BLOCK, 0);
    Ok(tar)
}

/// The header of one entry (POSIX ustar): owner root, time zero.
fn head(name: &str, mode: u32, kind: u8, size: usize) -> anyhow::Result<[u8; BLOCK]> {
    let mut head = [0; BLOCK];
    let mut put = |at: usize, text: &str| {
        let field = head.get_mut(at..at + text.len());
        field
            .context("a field of the header is too long")
            .map(|field| field.copy_from_slice(text.as_bytes()))
    };
    put(0, name)?;
    put(100, &format!("{mode:07o}"))?;
    put(108, "0000000")?;
    put(116, "0000000")?;
    put(124, &format!("{size:011o}"))?;
    put(136, "00000000000")?;
    // The sum counts its own field as spaces.
    put(148, "        ")?;
    put(156, &char::from(kind).to_string())?;
    put(257, "ustar\u{0}00")?;
    let sum = head.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    let text = format!("{sum:06o}\0 ");
    head[148..156].copy_from_slice(text.as_bytes());
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_layer_is_what_tar_reads_and_every_digest_is_that_of_its_blob() {
        let home = std::env::temp_dir().join(format!("longhand-image-{}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        let binary = home.join("binary");
        fs::write(&binary, vec![7; 1_000]).unwrap();
        let layout = home.join("oci");
        write(&binary, &layout).unwrap();
        let read = |digest: &Value| {
            let name = digest
                .as_str()
                .unwrap()
                .trim_start_matches("sha256:")
                .to_owned();
            let path = layout.join("blobs/sha256").join(&name);
            assert_eq!(sha256(&path).unwrap(), name);
            path
        };
        let json = |path: &Path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
        let index = json(&layout.join("index.json"));
        let manifest = json(&read(&index["manifests"][0]["digest"]));
        let config = json(&read(&manifest["config"]["digest"]));
        let layer = &manifest["layers"][0];
        let tar = read(&layer["digest"]);
        assert_eq!(config["rootfs"]["diff_ids"][0], layer["digest"]);
        assert_eq!(layer["size"], fs::metadata(&tar).unwrap().len());
        let listed = Command::new("tar").arg("-tvf").arg(&tar).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert_eq!(listed.lines().count(), 8, "{listed}");
        assert!(
            listed.contains("-rwxr-xr-x") && listed.contains("longhand"),
            "{listed}"
        );
        assert!(
            listed.contains("drwx------"),
            "the data directory is its owner's: {listed}"
        );
        fs::remove_dir_all(&home).unwrap();
    }
}
