//! What the server has inside a sandbox: a socket in its network, and programs of the operator's.

use std::os::unix::fs::PermissionsExt as _;

use sandbox::Provider as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::{host, host_with, id, ok};

#[tokio::test]
async fn a_socket_inside_is_reached_from_that_sandbox_and_from_nowhere_else() {
    let host = host();
    let (one, other) = (host.attach("one").await, host.attach("other").await);
    let listener = one.listen(0).await.unwrap();
    let at = listener.local_addr().unwrap();
    assert!(at.ip().is_loopback());
    let serve = async {
        let (mut stream, from) = listener.accept().await.unwrap();
        assert!(from.ip().is_loopback());
        stream.write_all(b"hello from outside\n").await.unwrap();
    };
    let ask = format!(
        "(cat < /dev/tcp/127.0.0.1/{0}) 2> /dev/null || echo nobody",
        at.port()
    );
    let (said, ()) = tokio::join!(ok(&one, &ask), serve);
    assert_eq!(said, "hello from outside");
    assert_eq!(ok(&other, &ask).await, "nobody");
    // Nor from the host, unless something of its own listens there.
    let mine = TcpStream::connect(at).await;
    if let Ok(stream) = mine {
        let near = tokio::time::timeout(std::time::Duration::from_millis(200), listener.accept());
        assert!(near.await.is_err(), "{stream:?} has come to the sandbox");
    }
    // It is gone with who holds it, and makes no way out.
    drop(listener);
    assert_eq!(ok(&one, &ask).await, "nobody");
    one.stop().await.unwrap();
    let gone = one.listen(0).await.err().unwrap();
    assert!(matches!(gone, sandbox::Error::Gone), "{gone:?}");
}

#[tokio::test]
async fn programs_of_the_operator_run_and_cannot_be_changed() {
    let programs = tempfile::tempdir().unwrap();
    let all = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(programs.path(), all.clone()).unwrap();
    let program = programs.path().join("program");
    std::fs::write(&program, "#!/bin/sh\necho it runs\n").unwrap();
    std::fs::set_permissions(&program, all).unwrap();
    let host = host_with(|config| config.programs = Some(programs.path().to_owned()));
    let sandbox = host
        .local
        .attach(sandbox::Spec::new(id("one")))
        .await
        .unwrap();
    assert_eq!(ok(&sandbox, "/run/longhand/program").await, "it runs");
    let attempts = "cd /run/longhand; for try in 'touch new' 'rm program' 'chmod 777 program' \
                    'mount -o remount,rw,bind /run/longhand' 'umount /run/longhand' 'rmdir /run/longhand' \
                    'mv /run/longhand /run/other'; do $try 2> /dev/null && echo \"$try went\"; done; echo tried";
    assert_eq!(ok(&sandbox, attempts).await, "tried");
    let seen = std::fs::read_to_string(&program).unwrap();
    assert_eq!(seen, "#!/bin/sh\necho it runs\n");
    // What is installed later is there as well.
    std::fs::write(programs.path().join("later"), "").unwrap();
    assert_eq!(
        ok(&sandbox, "ls /run/longhand | paste -sd,").await,
        "later,program"
    );
    sandbox.stop().await.unwrap();
}
