//! The operator's own credentials, as they are read from files.

use std::os::unix::fs::PermissionsExt;

use contract::limits::SECRET_BYTES;
use egress::inject::Template;
use orchestrator::templates::{OperatorCredential, Place};

#[test]
fn an_operators_secret_that_cannot_be_used_is_said_with_its_file_and_without_a_word_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (secret, chain) = (dir.path().join("secret"), dir.path().join("chain"));
    let check = |bytes: &[u8], mode: u32, place: Place| {
        std::fs::write(&secret, bytes).unwrap();
        std::fs::set_permissions(&secret, PermissionsExt::from_mode(mode)).unwrap();
        let credential = OperatorCredential {
            name: "registry".to_owned(),
            hosts: vec!["npm.example.com".to_owned()],
            place,
            secret_file: secret.clone(),
        };
        credential.check()
    };
    let query = || {
        Place::Request(Template::Query {
            name: "key".to_owned(),
        })
    };
    let certificate = || Place::Certificate(chain.clone());
    let longest = "s".repeat(SECRET_BYTES);
    // An end of line is none of it; other line breaks, a zero and any character are.
    for good in [format!("{longest}\r\n"), "a\nb\0\u{2603}".to_owned()] {
        assert_eq!(check(good.as_bytes(), 0o600, query()), Ok(()));
    }
    let megabyte = "s".repeat(1 << 20);
    for (bytes, mode, place, what) in [
        (megabyte.as_bytes(), 0o600, query(), "longer than"),
        (b"secret", 0o640, query(), "chmod 600"),
        (b"\n", 0o600, query(), "is empty"),
        (b"secret\xff", 0o600, query(), "cannot be read"),
        (b"secret", 0o600, certificate(), "chain cannot be read"),
    ] {
        let problem = check(bytes, mode, place).unwrap_err();
        assert!(problem.contains(what), "{problem}");
        assert!(
            problem.len() < 300 && problem.contains("registry"),
            "{problem}"
        );
    }
    std::fs::write(&chain, "secret").unwrap();
    let problem = check(b"secret", 0o600, certificate()).unwrap_err();
    assert!(problem.contains("no PEM with certificates"), "{problem}");
    std::fs::write(&chain, megabyte).unwrap();
    let problem = check(b"secret", 0o600, certificate()).unwrap_err();
    assert!(problem.contains("chain is longer than"), "{problem}");
}
