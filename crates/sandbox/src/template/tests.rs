//! Archives of whole roots: that they hold everything, and that nothing in one that anybody may have made does harm.

use std::fs;
use std::io::{Cursor, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::error::Error;
use crate::workspace::dies_after;

/// A tar archive that is being written, by anybody.
#[derive(Default, Clone)]
pub(super) struct Tar(Vec<u8>);

impl Tar {
    pub(super) fn entry(mut self, kind: u8, path: &str, link: &str, content: &[u8]) -> Self {
        self.head(kind, path, link, content.len());
        self.0.extend_from_slice(content);
        let padding = (512 - content.len() % 512) % 512;
        self.0.extend(vec![0; padding]);
        self
    }

    fn head(&mut self, kind: u8, path: &str, link: &str, size: usize) {
        let mut block = [0; 512];
        let mut put = |at: usize, text: &str| {
            block[at..at + text.len()].copy_from_slice(text.as_bytes());
        };
        put(0, path);
        put(100, if kind == b'5' { "0000755" } else { "0000644" });
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{size:011o}"));
        put(136, "00000000001");
        put(148, "        ");
        put(156, std::str::from_utf8(&[kind]).unwrap());
        put(157, link);
        put(257, "ustar\0");
        Self::sum(&mut block);
        self.0.extend_from_slice(&block);
    }

    /// Has a header's checksum fit what it says.
    pub(super) fn sum(header: &mut [u8]) {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }

    /// Records about the next entry.
    pub(super) fn records(self, records: &[(&str, &str)]) -> Self {
        let mut text = String::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let digits = (rest + 2).to_string().len();
            text.push_str(&format!("{} {key}={value}\n", rest + digits));
        }
        self.entry(b'x', "records", "", text.as_bytes())
    }

    pub(super) fn file(self, path: &str, content: &str) -> Self {
        self.entry(b'0', path, "", content.as_bytes())
    }

    pub(super) fn dir(self, path: &str) -> Self {
        self.entry(b'5', path, "", b"")
    }

    pub(super) fn symlink(self, path: &str, to: &str) -> Self {
        self.entry(b'2', path, to, b"")
    }

    pub(super) fn link(self, path: &str, to: &str) -> Self {
        self.entry(b'1', path, to, b"")
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

/// Templates in a directory that goes with it.
pub(super) struct Place {
    pub(super) home: TemplateHome,
    pub(super) dir: TempDir,
}

impl Place {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = TemplateHome::new(dir.path().join("templates"), true, 0);
        fs::create_dir(dir.path().join("templates")).unwrap();
        fs::write(dir.path().join("secret"), "the host's").unwrap();
        Self { home, dir }
    }

    pub(super) fn import(&self, new: NewTemplate) -> Result<Imported, Error> {
        self.home.import(new, &Progress::default())
    }

    pub(super) fn archive(&self, archive: Vec<u8>) -> Result<Imported, Error> {
        self.import(from(archive))
    }

    pub(super) fn tree(&self, id: &TemplateId) -> PathBuf {
        self.home.tree(id)
    }

    /// The files of a template that is made of that archive.
    pub(super) fn made(&self, archive: Vec<u8>) -> PathBuf {
        let imported = self.archive(archive).unwrap();
        self.tree(&imported.template.id)
    }

    /// What is said of an archive of which nothing may stay.
    pub(super) fn refused(&self, archive: Vec<u8>) -> String {
        let error = self.archive(archive).map(|done| done.template).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
        self.is_clean();
        error.to_string()
    }

    pub(super) fn is_clean(&self) {
        assert!(self.home.list().unwrap().is_empty());
        let drafts = self.dir.path().join("templates/drafts");
        assert_eq!(fs::read_dir(drafts).unwrap().count(), 0);
        let secret = fs::read_to_string(self.dir.path().join("secret")).unwrap();
        assert_eq!(secret, "the host's");
        let around = fs::read_dir(self.dir.path()).unwrap().count();
        assert_eq!(around, 2, "something was made beside the templates");
    }
}

pub(super) fn from(archive: Vec<u8>) -> NewTemplate {
    NewTemplate::from_archive(Box::new(Cursor::new(archive)), "it".to_owned(), 7)
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

pub(super) fn text(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn plain() -> Tar {
    Tar::default()
        .dir("./")
        .dir("./opt/")
        .file("./opt/one", "1")
        .link("./opt/two", "./opt/one")
        .symlink("./opt/three", "/opt/one")
        .file("./etc/hosts", "10.0.0.1 where.it.was.built\n")
        .file("./etc/passwd", "root:x:0:0::/root:/bin/bash\n")
}

#[test]
fn an_archive_is_the_same_template_however_it_is_packed() {
    let archive = plain().end();
    let place = Place::new();
    let first = place.archive(archive.clone()).unwrap();
    assert!(!first.was_here);
    for packed in [gzip(&archive), zstd(&archive)] {
        let again = place.archive(packed).unwrap();
        assert!(again.was_here);
        assert_eq!(again.template.id, first.template.id);
    }
    // Members and frames in a row, as some writers make them.
    let (half, rest) = archive.split_at(1000);
    for packed in [
        [gzip(half), gzip(rest)].concat(),
        [zstd(half), zstd(rest)].concat(),
    ] {
        let again = place.archive(packed).unwrap();
        assert_eq!(again.template.id, first.template.id);
    }
    assert_eq!(place.home.list().unwrap().len(), 1);
    let other = place.archive(plain().file("./opt/four", "4").end());
    assert_ne!(other.unwrap().template.id, first.template.id);
}

#[test]
fn a_template_has_what_its_archive_has_and_what_sandboxes_need() {
    let place = Place::new();
    let tree = place.made(plain().end());
    assert_eq!(text(tree.join("opt/one")), "1");
    let inode = |name: &str| fs::metadata(tree.join(name)).unwrap().ino();
    assert_eq!(inode("opt/one"), inode("opt/two"));
    let link = fs::read_link(tree.join("opt/three")).unwrap();
    assert_eq!(link, Path::new("/opt/one"));
    assert_eq!(fs::metadata(tree.join("opt/one")).unwrap().mtime(), 1);
    for name in ["workspace", "mnt/session/outputs", "proc", "dev", "var/lib"] {
        assert!(
            fs::symlink_metadata(tree.join(name)).unwrap().is_dir(),
            "{name}"
        );
    }
    let mode = fs::metadata(tree.join("tmp")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o1777);
    // What is the sandbox's, and what is the image's.
    assert!(text(tree.join("etc/hosts")).contains("localhost sandbox"));
    assert!(text(tree.join("etc/resolv.conf")).contains("198.19.255.53"));
    assert_eq!(
        text(tree.join("etc/passwd")),
        "root:x:0:0::/root:/bin/bash\n"
    );
    assert!(tree.join("etc/longhand/roots.pem").is_file());
}

#[test]
fn a_name_means_the_template_that_got_it_last() {
    let place = Place::new();
    let name = || Some(TemplateName::new("base").unwrap());
    let mut first = from(plain().end());
    first.name = name();
    let first = place.import(first).unwrap().template;
    assert_eq!(first.names, ["base"]);
    let mut second = from(plain().file("opt/four", "4").end());
    second.name = name();
    let second = place.import(second).unwrap().template;
    let which = "base".parse().unwrap();
    assert_eq!(place.home.find(&which).unwrap(), Some(second.id));
    assert_eq!(place.home.find(&TemplateRef::Host).unwrap(), None);
    // The first is there, by its digest.
    let which = format!("sha256:{}", first.id).parse().unwrap();
    assert_eq!(place.home.find(&which).unwrap(), Some(first.id.clone()));
    let missing = place.home.find(&"other".parse().unwrap()).unwrap_err();
    assert!(matches!(missing, Error::Missing { .. }), "{missing:?}");
    for bad in [
        "",
        "-x",
        "host",
        "Base",
        "a/b",
        "..",
        &"a".repeat(65),
        first.id.as_str(),
    ] {
        assert!(TemplateName::new(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_template_that_was_changed_on_the_host_is_found_out() {
    let place = Place::new();
    let template = place.archive(plain().end()).unwrap().template;
    let which = TemplateRef::Id(template.id.clone());
    assert!(place.home.verify(&which).unwrap().1);
    fs::write(place.tree(&template.id).join("opt/one"), "2").unwrap();
    assert!(!place.home.verify(&which).unwrap().1);
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let place = Place::new();
    let secret = place.dir.path().join("secret");
    let secret = secret.to_str().unwrap();
    for path in ["../secret", "opt/../../secret", "./..", secret] {
        let said = place.refused(plain().file(path, "taken").end());
        assert!(
            said.contains("leads upwards") || said.contains("slash"),
            "{said}"
        );
    }
    for to in ["../../../../secret", secret, "nothing", "opt"] {
        let said = place.refused(plain().link("opt/stolen", to).end());
        assert!(said.contains("another name of"), "{said}");
    }
}

#[test]
fn links_lead_to_the_template_and_nowhere_else() {
    let place = Place::new();
    let outside = place.dir.path().to_str().unwrap().to_owned();
    // Whoever follows them on the host would write beside the templates.
    for to in [outside.as_str(), "../../../../../../..", "/proc/self/cwd"] {
        let archive = plain().symlink("way", to).file("way/secret", "taken").end();
        match place.archive(archive) {
            Ok(made) => {
                let tree = place.tree(&made.template.id);
                let inside = tree.join(to.trim_start_matches(['/', '.'])).join("secret");
                assert_eq!(text(inside), "taken");
                fs::remove_dir_all(tree.parent().unwrap()).unwrap();
                place.is_clean();
            }
            // A link that leads nowhere in the template.
            Err(error) => assert!(error.to_string().contains("no directory"), "{error}"),
        }
    }
    // A symbolic link is followed inside, as packages of systems with a merged /usr rely on.
    let merged = plain()
        .dir("usr/lib")
        .symlink("lib", "usr/lib")
        .file("lib/so", "so");
    let tree = place.made(merged.end());
    assert_eq!(text(tree.join("usr/lib/so")), "so");
}

#[test]
fn what_is_made_ready_follows_no_link_of_the_archive() {
    let place = Place::new();
    let outside = place.dir.path().to_str().unwrap().to_owned();
    let secret = format!("{outside}/secret");
    // The bundle of certificates is read, and files of /etc are written.
    let archive = plain()
        .dir("etc/ssl/certs")
        .symlink("etc/ssl/certs/ca-certificates.crt", &secret)
        .symlink("etc/hostname", &secret)
        .symlink("etc/resolv.conf", &secret)
        .symlink("etc/longhand", "/opt");
    let tree = place.made(archive.end());
    assert_eq!(text(tree.join("opt/roots.pem")), "");
    assert_eq!(text(tree.join("etc/hostname")), "sandbox\n");
    assert_eq!(text(place.dir.path().join("secret")), "the host's");
    let lost = plain().symlink("etc/longhand", &outside).end();
    assert!(place.archive(lost).is_err());
    assert!(!place.dir.path().join("roots.pem").exists());
    for mounted in [
        "proc",
        "tmp",
        "mnt",
        "mnt/session",
        "workspace",
        "var",
        "dev",
    ] {
        let place = Place::new();
        let said = place.refused(Tar::default().dir("opt").symlink(mounted, "/opt").end());
        assert!(
            said.contains(&format!("/{mounted} is no directory")),
            "{said}"
        );
    }
}

#[test]
fn devices_and_what_hides_in_another_dialect_are_refused() {
    let place = Place::new();
    // Sandboxes have devices of their own: what an archive has there is left out.
    let tree = place.made(plain().entry(b'3', "dev/null", "", b"").end());
    assert!(!tree.join("dev/null").exists());
    fs::remove_dir_all(tree.parent().unwrap()).unwrap();
    for (archive, why) in [
        (plain().entry(b'3', "opt/null", "", b""), "a device"),
        (plain().entry(b'4', "opt/disk", "", b""), "a device"),
        (plain().file("opt/.wh.one", ""), "hides a name"),
        (plain().file("opt/.wh..wh..opq", ""), "hides a name"),
        (plain().dir("opt/.wh..wh.plnk"), "hides a name"),
        (plain().file("opt/.wh.one/inside", ""), "hides a name"),
        (
            plain()
                .records(&[("SCHILY.xattr.trusted.overlay.opaque", "y")])
                .dir("opt/new"),
            "attribute",
        ),
        (
            plain()
                .records(&[("LONGHAND.whiteout", "1")])
                .file("opt/new", ""),
            "hides a name",
        ),
        (
            plain().records(&[("uid", "70000")]).file("opt/new", ""),
            "belongs to user",
        ),
    ] {
        let said = place.refused(archive.end());
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn what_is_cut_broken_empty_or_a_bomb_is_refused() {
    let place = Place::new();
    let whole = plain().end();
    for packed in [whole.clone(), gzip(&whole), zstd(&whole)] {
        let said = place.refused(packed[..packed.len() / 2].to_vec());
        assert!(said.contains("cut") || said.contains("unpack"), "{said}");
    }
    place.refused(Tar::default().end());
    place.refused(Vec::new());
    place.refused(b"no archive at all".to_vec());
    let said = place.refused([whole, b"more".to_vec()].concat());
    assert!(said.contains("goes on after its end"), "{said}");
    let mut bomb = Tar::default();
    bomb.head(b'0', "bomb", "", 2 << 30);
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.write_all(&bomb.0).unwrap();
    for _ in 0..1 << 9 {
        encoder.write_all(&[b'x'; 1 << 20]).unwrap();
    }
    let said = place.refused(encoder.finish().unwrap());
    assert!(said.contains("1000 times"), "{said}");
}

#[test]
fn programs_of_another_processor_are_refused() {
    let place = Place::new();
    let foreign = if cfg!(target_arch = "x86_64") {
        183
    } else {
        62
    };
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0".to_vec();
    elf.extend([foreign, 0]);
    let archive = plain().entry(b'0', "usr/bin/env", "", &elf).end();
    let said = place.refused(archive);
    assert!(said.contains("its programs are for"), "{said}");
}

#[test]
fn an_import_that_is_killed_anywhere_leaves_nothing_or_a_template() {
    let archive = plain().end();
    let mut steps = 0;
    loop {
        let place = Place::new();
        let mut new = from(archive.clone());
        new.name = Some(TemplateName::new("base").unwrap());
        let done = dies_after(steps, || place.import(new));
        for template in place.home.list().unwrap() {
            assert!(
                place.home.verify(&TemplateRef::Id(template.id)).unwrap().1,
                "{done:?}"
            );
        }
        // The next one cleans up after it, and is whole.
        let mut again = from(archive.clone());
        again.name = Some(TemplateName::new("base").unwrap());
        let again = place.import(again).unwrap();
        assert_eq!(again.template.names, ["base"]);
        let drafts = place.dir.path().join("templates/drafts");
        assert_eq!(fs::read_dir(drafts).unwrap().count(), 0, "{done:?}");
        assert_eq!(place.home.list().unwrap().len(), 1);
        if done.is_ok() {
            break;
        }
        steps += 1;
    }
    assert!(steps > 6, "{steps}");
}

#[test]
fn one_template_is_imported_at_a_time() {
    let place = Place::new();
    let _right = place.home.begin().unwrap();
    let busy = place
        .archive(plain().end())
        .map(|done| done.template)
        .unwrap_err();
    assert!(matches!(busy, Error::Busy { .. }), "{busy:?}");
}
