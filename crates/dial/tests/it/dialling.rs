//! What a guarded client really connects to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dial::{
    Class, Error, Mode, Options, Policy, Resolver, Roots, check_url, client, client_and_roots, find,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

fn guarded(nets: &[&str]) -> Mode {
    Mode::guarded(Policy {
        allow_private: nets.iter().map(|n| n.parse().unwrap()).collect(),
    })
}

/// A server that counts its connections and answers each request with 200.
async fn server() -> (SocketAddr, Arc<AtomicUsize>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let (seen, mut tasks) = (Arc::clone(&count), JoinSet::new());
    tasks.spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            seen.fetch_add(1, Ordering::SeqCst);
            let mut buffer = [0_u8; 4096];
            let _request = socket.read(&mut buffer).await;
            let _sent = socket
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .await;
        }
    });
    (addr, count, tasks)
}

#[tokio::test]
async fn a_name_that_means_loopback_is_never_connected_to() {
    let (addr, count, _tasks) = server().await;
    let url = format!("http://localhost:{}/", addr.port());
    let refused = client(&guarded(&[]), &Options::default())
        .unwrap()
        .get(&url)
        .send()
        .await
        .unwrap_err();
    assert!(
        matches!(
            find(&refused),
            Some(Error::Denied {
                class: Class::Loopback,
                ..
            })
        ),
        "{refused:?}"
    );
    assert_eq!(count.load(Ordering::SeqCst), 0);
    let lifted = guarded(&["127.0.0.0/8", "::1/128"]);
    assert_eq!(
        client(&lifted, &Options::default())
            .unwrap()
            .get(&url)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    assert_eq!(
        client(&Mode::Exempt, &Options::default())
            .unwrap()
            .get(&url)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[test]
fn literal_addresses_in_urls_are_judged_in_every_spelling() {
    let mode = guarded(&[]);
    for host in [
        "127.0.0.1",
        "0177.0.0.1",
        "0x7f000001",
        "2130706433",
        "127.1",
        "127.0.0.1.",
        "[::1]",
        "[::ffff:7f00:1]",
        "0",
    ] {
        let url = format!("http://{host}:80/").parse().unwrap();
        assert!(
            matches!(check_url(&mode, &url), Err(Error::Denied { .. })),
            "{host}"
        );
        assert!(check_url(&Mode::Exempt, &url).is_ok(), "{host}");
    }
    assert!(check_url(&mode, &"https://8.8.8.8/".parse().unwrap()).is_ok());
    assert!(
        check_url(&mode, &"https://example.com/".parse().unwrap()).is_ok(),
        "names are the resolver's"
    );
    assert!(matches!(
        check_url(&mode, &"ftp://8.8.8.8/".parse().unwrap()),
        Err(Error::Scheme { .. })
    ));
    assert!(matches!(
        check_url(&Mode::Exempt, &"file:///etc".parse().unwrap()),
        Err(Error::Scheme { .. })
    ));
}

fn answering(
    ips: &'static [&'static str],
) -> impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static {
    move |_| {
        Ok(ips
            .iter()
            .map(|ip| SocketAddr::new(ip.parse().unwrap(), 0))
            .collect())
    }
}

#[tokio::test]
async fn only_checked_candidates_are_handed_on() {
    let mixed = Resolver::over(
        guarded(&[]),
        answering(&["10.0.0.1", "8.8.8.8", "::ffff:127.0.0.1"]),
    );
    let allowed: Vec<IpAddr> = mixed
        .resolve_checked("mixed.test")
        .await
        .unwrap()
        .iter()
        .map(SocketAddr::ip)
        .collect();
    assert_eq!(allowed, [IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8))]);

    let inside = Resolver::over(guarded(&[]), answering(&["10.0.0.1", "169.254.169.254"]));
    let refused = inside.resolve_checked("inside.test").await.unwrap_err();
    assert!(
        matches!(&refused, Error::Denied { host, class: Class::Private, .. } if host == "inside.test")
    );
    assert!(
        refused.to_string().contains("[egress] allow_private"),
        "{refused}"
    );
}

#[tokio::test]
async fn rebinding_gains_nothing() {
    // The first answer is public, every later one is loopback.
    let asked = AtomicUsize::new(0);
    let rebinding = move |_: &str| {
        let first = asked.fetch_add(1, Ordering::SeqCst) == 0;
        let ip: IpAddr = if first { "8.8.8.8" } else { "127.0.0.1" }.parse().unwrap();
        Ok(vec![SocketAddr::new(ip, 0)])
    };
    let resolver = Resolver::over(guarded(&[]), rebinding);
    assert!(resolver.resolve_checked("rebind.test").await.is_ok());
    assert!(matches!(
        resolver.resolve_checked("rebind.test").await,
        Err(Error::Denied { .. })
    ));
}

#[tokio::test]
async fn resolving_has_its_errors_and_its_limit() {
    let empty = Resolver::over(guarded(&[]), answering(&[]));
    assert!(matches!(
        empty.resolve_checked("x").await,
        Err(Error::Unresolvable { source: None, .. })
    ));
    let failing = Resolver::over(guarded(&[]), |_| Err(io::Error::other("no such name")));
    assert!(matches!(
        failing.resolve_checked("x").await,
        Err(Error::Unresolvable {
            source: Some(_),
            ..
        })
    ));
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let slow = move |_: &str| {
        let _released = held.lock().unwrap().recv();
        Ok(Vec::new())
    };
    let slow = Resolver::over(guarded(&[]), slow).with_limit(Duration::from_millis(20));
    assert!(matches!(
        slow.resolve_checked("x").await,
        Err(Error::Timeout { .. })
    ));
    drop(release);
}

#[test]
fn the_hosts_own_address_is_refused_whatever_its_range() {
    // The source that the kernel picks for an outside address is the host's own; there may be no route.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    if socket.connect("192.0.2.1:9").is_err() {
        return;
    }
    let own = socket.local_addr().unwrap().ip();
    assert!(Policy::default().refusal(own).is_some(), "{own}");
}

/// Run by the test below in a process of its own, where the system's roots are hidden.
#[test]
#[ignore = "a part of a_host_without_roots_trusts_the_bundled_ones"]
fn child_on_a_host_without_roots() {
    let (_client, roots) = client_and_roots(&Mode::Exempt, &Options::default()).unwrap();
    assert_eq!(roots, Roots::Bundled);
}

#[test]
fn a_host_without_roots_trusts_the_bundled_ones() {
    let nothing = env!("CARGO_MANIFEST_DIR");
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "dialling::child_on_a_host_without_roots",
            "--ignored",
        ])
        .env("SSL_CERT_FILE", format!("{nothing}/no-such-file"))
        .env("SSL_CERT_DIR", format!("{nothing}/src"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(
        child.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&child.stderr)
    );
}

#[test]
fn an_extra_root_that_is_no_certificate_is_refused() {
    let pem = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec();
    let options = Options {
        extra_roots_pem: vec![pem],
        ..Options::default()
    };
    assert!(client(&Mode::Exempt, &options).is_err());
}
