//! Archives as others write and read them.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::*;

fn entries(archive: &[u8]) -> Vec<(Entry, Vec<u8>)> {
    let (mut reader, mut all) = (Reader::new(archive), Vec::new());
    while let Some(entry) = reader.next().unwrap() {
        let mut content = Vec::new();
        loop {
            let piece = reader.piece(1000).unwrap();
            let length = piece.len();
            if length == 0 {
                break;
            }
            content.extend_from_slice(piece);
            reader.took(length);
        }
        all.push((entry, content));
    }
    reader.finish().unwrap();
    all
}

#[test]
fn what_gnu_tar_writes_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let long = "n".repeat(130);
    std::fs::create_dir(dir.path().join("d")).unwrap();
    std::fs::write(dir.path().join("d").join(&long), "content").unwrap();
    std::os::unix::fs::symlink("t".repeat(120), dir.path().join("d/link")).unwrap();
    std::fs::write(dir.path().join("d/one"), "1").unwrap();
    std::fs::hard_link(dir.path().join("d/one"), dir.path().join("d/two")).unwrap();
    for format in ["gnu", "pax", "ustar"] {
        let mut tar = Command::new("tar");
        tar.arg("-C")
            .arg(dir.path())
            .arg(format!("--format={format}"));
        // ustar has no room for such names.
        let out = match format {
            "ustar" => tar.args(["-c", "d/one", "d/two"]).output(),
            _ => tar.args(["--sort=name", "-c", "d"]).output(),
        };
        let archive = out.unwrap().stdout;
        let all = entries(&archive);
        let of = |name: &str| {
            let found = all.iter().find(|(entry, _)| entry.path == name.as_bytes());
            found.unwrap_or_else(|| panic!("{format}: {name}"))
        };
        assert_eq!(of("d/one").1, b"1", "{format}");
        let two = &of("d/two").0;
        assert_eq!(
            (two.kind, two.link.as_slice()),
            (Kind::Link, &b"d/one"[..]),
            "{format}"
        );
        if format != "ustar" {
            assert_eq!(of("d/").0.kind, Kind::Directory);
            assert_eq!(of(&format!("d/{long}")).1, b"content", "{format}");
            assert_eq!(of("d/link").0.link, [b't'; 120], "{format}");
        }
        if format == "pax" {
            assert_ne!(of("d/one").0.mtime.1, 0, "the time is cut");
        }
    }
}

#[test]
fn what_is_written_gnu_tar_reads() {
    let mut writer = Writer::new(Vec::new(), &Opening::new(None)).unwrap();
    let long = format!("workspace/{}", "n".repeat(150));
    let meta = Meta {
        mode: 0o640,
        mtime: (-1, 500_000_000),
        ..Meta::default()
    };
    let records = Records::default();
    writer
        .entry(Kind::File, long.as_bytes(), b"", &meta, 4, records.clone())
        .unwrap();
    writer.bytes(b"text").unwrap();
    let sparse = Records {
        sparse: Some(Sparse {
            length: 1 << 20,
            parts: vec![(4096, 512), (1 << 19, 2), (1 << 20, 0)],
        }),
        ..records
    };
    writer
        .entry(Kind::File, b"holes", b"", &meta, 514, sparse)
        .unwrap();
    writer
        .bytes(&[b"a".repeat(512), b"de".to_vec()].concat())
        .unwrap();
    let archive = writer.finish().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut tar = Command::new("tar");
    tar.arg("-C")
        .arg(dir.path())
        .args(["-x", "-f", "-"])
        .stdin(Stdio::piped());
    let mut tar = tar.spawn().unwrap();
    tar.stdin.take().unwrap().write_all(&archive).unwrap();
    assert!(tar.wait().unwrap().success());
    assert_eq!(std::fs::read(dir.path().join(&long)).unwrap(), b"text");
    let holes = std::fs::read(dir.path().join("holes")).unwrap();
    assert_eq!((holes.len(), &holes[4096..4099]), (1 << 20, &b"aaa"[..]));
    assert_eq!(&holes[1 << 19..][..3], b"de\0");
    let read = entries(&archive);
    let (entry, _) = read
        .iter()
        .find(|(entry, _)| entry.path == long.as_bytes())
        .unwrap();
    assert_eq!((entry.mtime, entry.mode), ((-1, 500_000_000), 0o640));
}

#[test]
fn records_are_read_as_they_were_written() {
    let records = Records {
        path: Some(b"a".repeat(300)),
        link: Some(b"b\n=c".to_vec()),
        size: Some(u64::MAX),
        mtime: Some((-12, 1)),
        attributes: vec![("user.x".to_owned(), vec![0, b'\n', 0xff])],
        sparse: Some(Sparse {
            length: 9,
            parts: vec![(0, 1), (4, 2)],
        }),
        whiteout: true,
        opaque: true,
        ..Records::default()
    };
    let mut read = Records::default();
    read.parse(&records.text(), b"x").unwrap();
    assert_eq!(read, records);
    for bad in [
        "5",
        "5 a\n",
        "9 a=b\n",
        "x a=b\n",
        "6 ab\n\n",
        "12 size=-1\n",
        "27 GNU.sparse.map=4,2,1,1\n",
    ] {
        assert!(
            Records::default().parse(bad.as_bytes(), b"x").is_err(),
            "{bad}"
        );
    }
}
