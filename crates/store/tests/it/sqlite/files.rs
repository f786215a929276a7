//! What only a database of one file has: copies of the whole, and the mode of its files.

use std::path::Path;

use store::Store;

use crate::support::{WS, at, idle, message, options, send};

fn open(path: &Path) -> Store {
    Store::open(path, options()).expect("a store")
}

#[tokio::test]
async fn a_copy_taken_under_load_has_everything_acknowledged_before_it() {
    let f = super::fixture().await;
    let row = idle(&f.store).await;
    let dir = tempfile::tempdir().expect("a directory");
    let to = dir.path().join("copy.db");
    send(&f.store, row.id, vec![message("before")], at(1))
        .await
        .expect("sent");
    let load = async {
        for n in 0..50 {
            send(&f.store, row.id, vec![message("meanwhile")], at(2 + n))
                .await
                .expect("sent");
        }
    };
    let (copied, ()) = tokio::join!(f.store.backup(to.clone()), load);
    copied.expect("copied");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&to).expect("there"));
    assert_eq!(mode & 0o777, 0o600);
    let copy = open(&to);
    let read = copy.session(WS, row.id).await.expect("the session");
    assert!(
        read.state.next_seq > 3,
        "the first message stands in the copy"
    );
    let again = f.store.backup(to).await;
    assert!(again.is_err(), "a copy never replaces a file");
}

#[tokio::test]
async fn only_its_owner_can_read_the_database_and_what_lies_beside_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(&dir.path().join("t.db"));
    idle(&store).await;
    for name in ["t.db", "t.db-wal", "t.db-shm"] {
        let file = std::fs::metadata(dir.path().join(name)).expect(name);
        assert_eq!(file.permissions().mode() & 0o777, 0o600, "{name}");
    }
}
