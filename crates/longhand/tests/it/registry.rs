//! Images from registries that are not to be trusted: what is not what was said is refused and nothing of it is kept, what
//! was cut is gone on from, and nobody is dialled or shown a password who must not be.

use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::wait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::terminal;

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

pub fn sha256(bytes: &[u8]) -> String {
    let digits = digest(&SHA256, bytes);
    let digits = digits.as_ref().iter().map(|byte| format!("{byte:02x}"));
    format!("sha256:{}", digits.collect::<String>())
}

/// What images call this host's processor.
pub fn here() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// An image: its blobs by digest, and its manifest.
#[derive(Clone)]
pub struct Image {
    pub blobs: BTreeMap<String, Vec<u8>>,
    pub manifest: Vec<u8>,
    /// The digest of its lowest layer.
    pub layer: String,
}

impl Image {
    /// Of these layers, as they are packed: `+gzip`, or not at all.
    pub fn of(layers: &[(Vec<u8>, &str)], architecture: &str) -> Self {
        let mut blobs = BTreeMap::new();
        let said = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": sha256(bytes), "size": bytes.len()});
        let (mut described, mut unpacked) = (Vec::new(), Vec::new());
        for (layer, packing) in layers {
            unpacked.push(match *packing {
                "+gzip" => sha256(&gunzip(layer)),
                _ => sha256(layer),
            });
            described.push(said(&format!("{LAYER}{packing}"), layer));
            blobs.insert(sha256(layer), layer.clone());
        }
        let config = json!({"architecture": architecture, "os": "linux", "config": {"Env": ["WORD=said"]},
            "rootfs": {"type": "layers", "diff_ids": unpacked}});
        let config = config.to_string().into_bytes();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": said(CONFIG, &config), "layers": described});
        blobs.insert(sha256(&config), config);
        Self {
            blobs,
            manifest: manifest.to_string().into_bytes(),
            layer: sha256(&layers[0].0),
        }
    }

    /// One layer with a file of so many bytes.
    fn plain(bytes: usize, architecture: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("opt")).expect("made");
        let content: Vec<u8> = (0..bytes).map(|at| (at * 7 / 5) as u8).collect();
        std::fs::write(dir.path().join("opt/mark"), content).expect("written");
        let tar = Command::new("tar")
            .args(["--numeric-owner", "--owner=0", "--group=0", "-c", "."])
            .current_dir(dir.path())
            .output();
        Self::of(&[(tar.expect("tar").stdout, "")], architecture)
    }

    /// What a registry answers that has it under every tag.
    fn answer(&self, path: &str, head: &str) -> Vec<u8> {
        let (_, what) = path.rsplit_once('/').expect("a path");
        if path.contains("/manifests/") {
            return whole(
                "200 OK",
                &format!("content-type: {MANIFEST}\r\n"),
                &self.manifest,
            );
        }
        let Some(blob) = self.blobs.get(what) else {
            return whole("404 Not Found", "", b"");
        };
        match asked_from(head) {
            0 => whole("200 OK", "", blob),
            from => {
                let range = format!(
                    "content-range: bytes {from}-{}/{}\r\n",
                    blob.len() - 1,
                    blob.len()
                );
                whole("206 Partial Content", &range, &blob[from..])
            }
        }
    }
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new("gzip")
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip");
    let mut input = child.stdin.take().expect("a pipe");
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut input, &bytes));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic").expect("written");
    output.stdout
}

/// From which byte a request wants a blob.
fn asked_from(head: &str) -> usize {
    let range = head
        .lines()
        .find_map(|line| line.strip_prefix("range: bytes="));
    let from = range.and_then(|range| range.strip_suffix('-'));
    from.map_or(0, |from| from.parse().expect("a number"))
}

fn whole(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A registry that answers with whatever bytes it likes, and hangs up.
struct Crooked {
    port: u16,
    /// Path and head of each request.
    asked: Arc<Mutex<Vec<(String, String)>>>,
    _served: JoinSet<()>,
}

impl Crooked {
    async fn new(answer: impl Fn(&str, &str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        let mut served = JoinSet::new();
        served.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => break,
                    }
                }
                let head = String::from_utf8_lossy(&head).to_lowercase();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let bytes = answer(&path, &head);
                noted.lock().expect("whole").push((path, head));
                // Who is refused on the way hangs up first.
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
            }
        });
        Self {
            port,
            asked,
            _served: served,
        }
    }

    fn image(&self) -> String {
        format!("docker://127.0.0.1:{}/some/image:1", self.port)
    }

    /// The heads of requests for that.
    fn asked(&self, what: &str) -> Vec<String> {
        let asked = self.asked.lock().expect("whole");
        let about = asked.iter().filter(|(path, _)| path.contains(what));
        about.map(|(_, head)| head.clone()).collect()
    }
}

/// A data directory without a server.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    async fn import(
        &self,
        image: &str,
        more: &[&str],
        password: &str,
        environment: &[(&str, &str)],
    ) -> Output {
        let words = [
            &["template", "import", image, "--name", "fetched"][..],
            more,
        ]
        .concat();
        let mut command = terminal::command(self.0.path(), &words);
        command
            .envs(environment.iter().copied())
            .stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut input = child.stdin.take().expect("a pipe");
        // Who wants none does not read it.
        let _ = input.write_all(format!("{password}\n").as_bytes()).await;
        drop(input);
        wait::within("the import", child.wait_with_output())
            .await
            .expect("it runs")
    }

    async fn taken(&self, image: &str) -> Value {
        let output = self.import(image, &[], "", &[]).await;
        assert!(output.status.success(), "{output:?}");
        self.is_clear();
        serde_json::from_slice(&output.stdout).expect("a line of JSON")
    }

    /// What is said of an image of which nothing may stay.
    async fn refused(&self, image: &str) -> String {
        let output = self.import(image, &[], "", &[]).await;
        assert!(!output.status.success(), "{output:?}");
        self.is_clear();
        let drafts = self.0.path().join("templates/sha256");
        let kept = std::fs::read_dir(drafts).map_or(0, Iterator::count);
        assert_eq!(kept, 0, "a template was made");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn is_clear(&self) {
        let gathered = self.0.path().join("templates/gathered");
        assert!(!gathered.exists(), "what was fetched is kept");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_what_its_digest_says_is_refused_and_nothing_of_it_is_kept() {
    let image = Image::plain(3_000, here());
    for planted in image.blobs.keys() {
        let (place, served, bad) = (Place::new(), image.clone(), planted.clone());
        let registry = Crooked::new(move |path, head| {
            let mut answer = served.answer(path, head);
            if path.ends_with(&bad) {
                let last = answer.len() - 1;
                answer[last] ^= 1;
            }
            answer
        })
        .await;
        let said = place.refused(&registry.image()).await;
        assert!(
            said.contains(planted) && said.contains("what came is sha256:"),
            "{said}"
        );
    }
    // The manifest itself is not what was pinned.
    let (place, pinned) = (Place::new(), sha256(&image.manifest));
    let mut other = image.clone();
    other.manifest.push(b'\n');
    let registry = Crooked::new(move |path, head| other.answer(path, head)).await;
    let said = place
        .refused(&format!("{}@{pinned}", registry.image()))
        .await;
    assert!(
        said.contains("answered with sha256:") && said.contains(&pinned),
        "{said}"
    );
    let tags = registry.asked("manifests/1");
    assert!(tags.is_empty(), "what is pinned was asked for by its tag");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_architecture_is_refused_by_name_before_its_layers_are_asked_for() {
    let image = Image::plain(10, "mips");
    let (served, layer) = (image.clone(), image.layer.clone());
    let registry = Crooked::new(move |path, head| served.answer(path, head)).await;
    let said = Place::new().refused(&registry.image()).await;
    assert!(
        said.contains("linux/mips") && said.contains(here()),
        "{said}"
    );
    assert!(registry.asked(&layer).is_empty());
    // The same in an index.
    let manifest = json!({"mediaType": MANIFEST, "digest": sha256(&image.manifest), "size": image.manifest.len(),
        "platform": {"os": "linux", "architecture": "mips"}});
    let index =
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]}).to_string();
    let registry = Crooked::new(move |_, _| {
        whole(
            "200 OK",
            &format!("content-type: {INDEX}\r\n"),
            index.as_bytes(),
        )
    })
    .await;
    let said = Place::new().refused(&registry.image()).await;
    assert!(said.contains("linux/mips"), "{said}");
    assert_eq!(registry.asked("/v2/").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_cut_is_gone_on_from() {
    let image = Image::plain(900_000, here());
    let (served, layer) = (image.clone(), image.layer.clone());
    let registry = Crooked::new(move |path, head| {
        let mut answer = served.answer(path, head);
        if path.ends_with(&layer) {
            answer.truncate(300_000);
        }
        answer
    })
    .await;
    let place = Place::new();
    assert_eq!(
        place.taken(&registry.image()).await["names"],
        json!(["fetched"])
    );
    let from: Vec<usize> = registry
        .asked(&image.layer)
        .iter()
        .map(|head| asked_from(head))
        .collect();
    assert!(
        from.len() > 2 && from.is_sorted() && from[1] > 0,
        "{from:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_a_registry_went_away_is_not_fetched_again() {
    let image = Image::plain(900_000, here());
    let (served, layer) = (image.clone(), image.layer.clone());
    let back = Arc::new(AtomicBool::new(false));
    let (is_back, times) = (Arc::clone(&back), AtomicUsize::new(0));
    let registry = Crooked::new(move |path, head| {
        let mut answer = served.answer(path, head);
        if path.ends_with(&layer) && !is_back.load(Ordering::Relaxed) {
            if times.fetch_add(1, Ordering::Relaxed) > 0 {
                return whole("503 Service Unavailable", "", b"");
            }
            answer.truncate(300_000);
        }
        answer
    })
    .await;
    let place = Place::new();
    let gone = place.import(&registry.image(), &[], "", &[]).await;
    let said = String::from_utf8_lossy(&gone.stderr);
    assert!(!gone.status.success() && said.contains("503"), "{said}");
    assert!(said.contains("the same command goes on"), "{said}");
    back.store(true, Ordering::Relaxed);
    let before = registry.asked(&image.layer).len();
    place.taken(&registry.image()).await;
    let since = &registry.asked(&image.layer)[before..];
    assert!(since.len() == 1 && asked_from(&since[0]) > 0, "{since:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_lies_about_a_length_is_refused() {
    let image = Image::plain(50_000, here());
    let size = image.blobs[&image.layer].len();
    let more = vec![0_u8; size + 1];
    let chunked = |bytes: &[u8]| {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
        let chunk = format!("{:x}\r\n", bytes.len());
        [head.as_bytes(), chunk.as_bytes(), bytes, b"\r\n0\r\n\r\n"].concat()
    };
    for (lie, told) in [
        (whole("200 OK", "", &more), "sends"),
        (whole("200 OK", "", &more[..9]), "sends"),
        (chunked(&more), "more than its"),
        // A part that nobody asked for.
        (
            whole(
                "206 Partial Content",
                "content-range: bytes 7-9/10\r\n",
                &more[..3],
            ),
            "another part",
        ),
    ] {
        let (served, layer) = (image.clone(), image.layer.clone());
        let registry = Crooked::new(move |path, head| match path.ends_with(&layer) {
            true => lie.clone(),
            false => served.answer(path, head),
        })
        .await;
        let said = Place::new().refused(&registry.image()).await;
        assert!(said.contains(told), "{told}: {said}");
    }
    // A manifest without an end.
    let endless = vec![b' '; 5 << 20];
    let registry = Crooked::new(move |_, _| chunked(&endless)).await;
    let said = Place::new().refused(&registry.image()).await;
    assert!(said.contains("more than 4194304 bytes"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_sends_on_to_no_private_address_and_nobody_else_hears_the_password() {
    let image = Image::plain(10, here());
    let (served, kept) = (image.clone(), image.clone());
    let elsewhere = Crooked::new(move |path, head| kept.answer(path, head)).await;
    let (port, layer) = (elsewhere.port, image.layer.clone());
    let registry = Crooked::new(move |path, head| {
        if !head.contains("authorization: basic ") {
            return whole(
                "401 Unauthorized",
                "www-authenticate: Basic realm=\"here\"\r\n",
                b"",
            );
        }
        if path.ends_with(&layer) {
            let to = format!("location: http://127.0.0.1:{port}{path}\r\n");
            return whole("307 Temporary Redirect", &to, b"");
        }
        served.answer(path, head)
    })
    .await;
    let place = Place::new();
    let unnamed = place.import(&registry.image(), &[], "", &[]).await;
    let said = String::from_utf8_lossy(&unnamed.stderr);
    assert!(
        !unnamed.status.success() && said.contains("--user NAME"),
        "{said}"
    );
    let user = ["--user", "somebody"];
    let refused = place
        .import(&registry.image(), &user, "pass-w0rd", &[])
        .await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("a loopback address"),
        "{said}"
    );
    assert!(!said.contains("pass-w0rd"), "{said}");
    assert!(elsewhere.asked("/").is_empty());
    let lifted = [("LONGHAND_EGRESS_ALLOW_PRIVATE", "127.0.0.0/8")];
    let taken = place
        .import(&registry.image(), &user, "pass-w0rd", &lifted)
        .await;
    assert!(taken.status.success(), "{taken:?}");
    place.is_clear();
    let heard = elsewhere.asked("/");
    assert!(
        heard.len() == 1 && !heard[0].contains("authorization"),
        "{heard:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_sends_on_without_end_or_to_nowhere_is_left() {
    for (to, told) in [("/v2/again", "too often"), ("ftp://127.0.0.1/", "ftp")] {
        let registry =
            Crooked::new(move |_, _| whole("302 Found", &format!("location: {to}\r\n"), b"")).await;
        let said = Place::new().refused(&registry.image()).await;
        assert!(said.contains(told), "{said}");
        assert!(registry.asked("/").len() <= 6);
    }
    let absent = Crooked::new(|_, _| whole("404 Not Found", "", b"")).await;
    let said = Place::new().refused(&absent.image()).await;
    assert!(
        said.contains("some/image/manifests/1 is not there"),
        "{said}"
    );
}
