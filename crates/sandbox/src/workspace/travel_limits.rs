//! Archives that would take too much: each is refused before it has.

use std::sync::Arc;

use super::tests::Host;
use super::travel_tests::{bounds, entry, packed, refused, said, tar, told};
use crate::archive::Bounds;
use crate::archive::{Fault, Kind, Meta, Records, Refused, Sparse, Writer};

#[test]
fn what_is_too_much_is_refused_before_it_is_written() {
    let file = |size: u64, byte: u8| {
        move |writer: &mut Writer<Vec<u8>>| {
            entry(Kind::Directory, "workspace/", "")(writer);
            let (path, meta) = (b"workspace/file", Meta::default());
            let records = Records::default();
            writer
                .entry(Kind::File, path, b"", &meta, size, records)
                .unwrap();
            let piece = vec![byte; 1 << 20];
            (0..size >> 20).for_each(|_| writer.bytes(&piece).unwrap());
        }
    };
    let small = Bounds {
        bytes: 4 << 20,
        ..bounds()
    };
    let large = packed(&tar(file(8 << 20, b'x')));
    assert_eq!(told(&large, &small), Refused::Large(4 << 20));
    // Zeros take no room.
    let host = Host::new();
    let zeros = packed(&tar(file(8 << 20, 0)));
    host.layers()
        .import(zeros.as_slice(), &host.path("zeros"), &small, &|_| true)
        .unwrap();
    let tiny = Bounds {
        bytes: 1 << 16,
        ..bounds()
    };
    assert_eq!(told(&zeros, &tiny), Refused::Large(1 << 16));
    let bomb = Bounds {
        came: Arc::default(),
        ..bounds()
    };
    let bombed = told(&packed(&tar(file(300 << 20, b'x'))), &bomb);
    assert!(matches!(bombed, Refused::Bomb(_)), "{bombed:?}");
    let few = Bounds {
        entries: 3,
        ..bounds()
    };
    let many = tar(|writer| {
        entry(Kind::Directory, "workspace/", "")(writer);
        for n in 0..4 {
            entry(Kind::File, &format!("workspace/{n}"), "")(writer);
        }
    });
    assert_eq!(told(&packed(&many), &few), Refused::Many(3));
    let full = Bounds {
        room: Box::new(|| Err(std::io::ErrorKind::StorageFull.into())),
        ..bounds()
    };
    let done = host.layers().import(
        packed(&tar(file(80 << 20, b'x'))).as_slice(),
        &host.path("full"),
        &full,
        &|_| true,
    );
    assert!(matches!(done, Err(Fault::Host(_))), "{done:?}");
    let deep = refused(|writer| {
        let mut path = "workspace/".to_owned();
        for _ in 0..crate::limits::TREE_DEPTH + 2 {
            path.push_str("d/");
            entry(Kind::Directory, &path, "")(writer);
        }
    });
    assert!(matches!(deep, Refused::Depth(..)), "{deep:?}");
    let wordy = Records {
        attributes: vec![("user.x".to_owned(), vec![b'x'; 2 << 20])],
        ..Records::default()
    };
    let too_wordy = refused(said(Kind::File, "workspace/file", "", wordy));
    assert!(matches!(too_wordy, Refused::Wordy(..)), "{too_wordy:?}");
}

#[test]
fn holes_that_are_no_holes_are_refused() {
    for (length, parts, size) in [
        (10, vec![(0, 20)], 20),
        (100, vec![(0, 10)], 20),
        (u64::MAX, vec![(0, 4), (1 << 62, 4)], 8),
    ] {
        let refused = refused(|writer| {
            let records = Records {
                sparse: Some(Sparse { length, parts }),
                ..Records::default()
            };
            let (path, meta) = (b"workspace/file", Meta::default());
            writer
                .entry(Kind::File, path, b"", &meta, size, records)
                .unwrap();
            writer
                .bytes(&[7; 20][..usize::try_from(size).unwrap()])
                .unwrap();
        });
        let known = matches!(refused, Refused::Record(..) | Refused::Large(_));
        assert!(known, "{length}: {refused:?}");
    }
}
