//! Images from a registry as Debian has it (package `docker-registry`): open, with passwords, and with tokens that a place of
//! its own gives out. Sandboxes lie on what was fetched.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use axum::extract::Query;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair};
use reqwest::header::{CONTENT_TYPE, LOCATION};
use serde_json::json;
use tempfile::TempDir;
use testkit::wait;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

use crate::registry::{INDEX, Image, MANIFEST, here, sha256};
use crate::templates::little;
use crate::terminal::{command, lines, piped};

/// `pass-w0rd`, as htpasswd(1) keeps it (`htpasswd -nbB -C 4`).
const HTPASSWD: &str = "somebody:$2y$04$024HaI17XUb9uttF2rlsXu8sD7DQgPRcUH7ALBQQgo8PbYEJ4I92C\n";

/// A registry on a port of the loopback, as long as this is there.
struct Registry {
    child: Child,
    port: u16,
}

impl Registry {
    /// On the files in `dir`; `auth` is what its configuration says of who may ask.
    fn start(dir: &Path, auth: &str) -> Self {
        let (files, config) = (dir.join("files"), dir.join("config.yml"));
        let text = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:0\"}}\n{auth}",
            files.display()
        );
        std::fs::write(&config, text).expect("written");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.expect("this test needs the package docker-registry");
        let mut log = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let port = loop {
            let line = log.next().expect("a port before its end").expect("text");
            if let Some((_, port)) = line.split_once("listening on 127.0.0.1:") {
                let digits = port.split(|c: char| !c.is_ascii_digit()).next();
                break digits
                    .and_then(|digits| digits.parse().ok())
                    .expect("a port");
            }
        };
        // It must not stand still for want of a reader.
        std::thread::spawn(move || log.for_each(drop));
        Self { child, port }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/v2/{path}", self.port)
    }

    fn image(&self, name: &str) -> String {
        format!("docker://127.0.0.1:{}/{name}", self.port)
    }

    /// Gives it an image, under that tag.
    async fn push(&self, repository: &str, image: &Image, tag: &str) {
        let client =
            dial::client(&dial::Mode::Exempt, &dial::Options::default()).expect("a client");
        for (digest, bytes) in &image.blobs {
            let begun = client
                .post(self.url(&format!("{repository}/blobs/uploads/")))
                .send()
                .await;
            let begun = begun.expect("an answer");
            let to = begun.headers()[LOCATION].to_str().expect("text").to_owned();
            let put = client
                .put(format!("{to}&digest={digest}"))
                .body(bytes.clone())
                .send()
                .await;
            assert_eq!(put.expect("an answer").status(), 201, "{digest}");
        }
        self.put(repository, tag, MANIFEST, image.manifest.clone())
            .await;
    }

    async fn put(&self, repository: &str, tag: &str, kind: &str, document: Vec<u8>) {
        let client =
            dial::client(&dial::Mode::Exempt, &dial::Options::default()).expect("a client");
        let put = client.put(self.url(&format!("{repository}/manifests/{tag}")));
        let put = put
            .header(CONTENT_TYPE, kind)
            .body(document)
            .send()
            .await
            .expect("an answer");
        let status = put.status();
        assert_eq!(status, 201, "{:?}", put.text().await);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A root of a few programs, and a layer above that hides something of it.
fn image(dir: &Path) -> Image {
    let archive = little(dir);
    let lower = std::fs::read(archive).expect("the archive");
    let upper = dir.join("upper");
    std::fs::create_dir_all(upper.join("opt")).expect("made");
    std::fs::write(upper.join("opt/above"), "above\n").expect("written");
    std::fs::write(upper.join("opt/.wh.mark"), "").expect("written");
    let tar = Command::new("tar")
        .args(["--numeric-owner", "--owner=0", "--group=0", "-c", "opt"])
        .current_dir(upper)
        .output();
    let upper = tar.expect("tar").stdout;
    Image::of(&[(lower, "+gzip"), (upper, "")], here())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_comes_from_a_registry_and_sandboxes_lie_on_it() {
    let around = tempfile::tempdir().expect("a directory");
    let registry = Registry::start(around.path(), "");
    let image = image(around.path());
    registry.push("some/little", &image, "1").await;
    let digest = sha256(&image.manifest);
    let foreign = Image::of(&[(vec![0; 1024], "")], "mips");
    registry.push("some/little", &foreign, "foreign").await;
    let entry = |image: &Image, architecture: &str| {
        json!({"mediaType": MANIFEST, "digest": sha256(&image.manifest), "size": image.manifest.len(),
            "platform": {"os": "linux", "architecture": architecture}})
    };
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry(&foreign, "mips"), entry(&image, here())]});
    registry
        .put("some/little", "both", INDEX, index.to_string().into_bytes())
        .await;

    let home = tempfile::tempdir().expect("a directory");
    let dir = home.path();
    let from = registry.image("some/little:1");
    let made = lines(dir, &["template", "import", &from, "--name", "fetched"]).await;
    let template = made[0]["id"].as_str().expect("a digest").to_owned();
    let script = "echo $WORD; cat /opt/above; ls /opt";
    let words = [
        "sandbox",
        "run",
        "--template",
        "fetched",
        "--",
        "/bin/sh",
        "-c",
        script,
    ];
    let ran = piped(dir, &words).await;
    assert_eq!(
        String::from_utf8_lossy(&ran.stdout),
        "said\nabove\nabove\n",
        "{ran:?}"
    );
    // By an index, and by digest, it is the same.
    for name in [
        "some/little:both".to_owned(),
        format!("some/little:1@{digest}"),
        format!("some/little@{digest}"),
    ] {
        let from = registry.image(&name);
        let again = lines(dir, &["template", "import", &from]).await;
        assert_eq!(again[0]["id"], json!(template), "{name}");
    }
    let foreign = piped(
        dir,
        &["template", "import", &registry.image("some/little:foreign")],
    )
    .await;
    let said = String::from_utf8_lossy(&foreign.stderr);
    assert!(
        !foreign.status.success() && said.contains("linux/mips"),
        "{said}"
    );
    let none = piped(
        dir,
        &["template", "import", &registry.image("some/little:2")],
    )
    .await;
    let said = String::from_utf8_lossy(&none.stderr);
    assert!(
        !none.status.success() && said.contains("some/little/manifests/2 is not there"),
        "{said}"
    );
}

/// `template import` as somebody; what it says.
async fn import(dir: &Path, image: &str, login: Option<(&str, &str)>) -> (bool, String) {
    let mut words = vec!["template", "import", image];
    words.extend(login.iter().flat_map(|(user, _)| ["--user", user]));
    let mut command = command(dir, &words);
    let command = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut input = child.stdin.take().expect("a pipe");
    let password = login.map_or("", |(_, password)| password);
    // Who wants none does not read it.
    let _ = input.write_all(format!("{password}\n").as_bytes()).await;
    drop(input);
    let ran = wait::within("the import", child.wait_with_output())
        .await
        .expect("it runs");
    (
        ran.status.success(),
        String::from_utf8_lossy(&ran.stderr).into_owned(),
    )
}

/// Nobody, somebody with another password, and somebody.
async fn only_somebody_may(image: &str, told: &str) {
    let home = tempfile::tempdir().expect("a directory");
    let (done, said) = import(home.path(), image, None).await;
    assert!(!done && said.contains("--user NAME"), "{said}");
    let (done, said) = import(home.path(), image, Some(("somebody", "an0ther"))).await;
    assert!(
        !done && said.contains(told) && !said.contains("an0ther"),
        "{said}"
    );
    let (done, said) = import(home.path(), image, Some(("somebody", "pass-w0rd"))).await;
    assert!(done && !said.contains("pass-w0rd"), "{said}");
}

/// Files of a registry that has one image.
async fn filled() -> TempDir {
    let around = tempfile::tempdir().expect("a directory");
    let open = Registry::start(around.path(), "");
    open.push("little", &image(around.path()), "latest").await;
    around
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_wants_a_password_is_given_it() {
    let around = filled().await;
    let file = around.path().join("htpasswd");
    std::fs::write(&file, HTPASSWD).expect("written");
    let auth = format!(
        "auth: {{htpasswd: {{realm: here, path: {}}}}}\n",
        file.display()
    );
    let registry = Registry::start(around.path(), &auth);
    only_somebody_may(&registry.image("little"), "401").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_wants_a_token_is_given_one_from_where_it_says() {
    let around = filled().await;
    let authority = Authority::new(around.path());
    let certificate = authority.certificate.clone();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let authority = Arc::new(authority);
    let token = move |query: Query<Vec<(String, String)>>, headers: HeaderMap| {
        let authority = Arc::clone(&authority);
        async move { authority.answer(query, &headers) }
    };
    let app = axum::Router::new().route("/token", get(token));
    let mut served = JoinSet::new();
    served.spawn(async move { axum::serve(listener, app).await.expect("served") });
    let auth = format!(
        "auth: {{token: {{realm: \"http://127.0.0.1:{port}/token\", service: registry, issuer: authority, rootcertbundle: {}}}}}\n",
        certificate.display()
    );
    let registry = Registry::start(around.path(), &auth);
    // Where the registry says is a private address too.
    let home = tempfile::tempdir().expect("a directory");
    let (done, said) = import(home.path(), &registry.image("little"), None).await;
    assert!(!done && said.contains("a loopback address"), "{said}");
    let lifted = home.path().join("longhand.toml");
    std::fs::write(&lifted, "[egress]\nallow_private = [\"127.0.0.0/8\"]\n").expect("written");
    let image = registry.image("little");
    for (login, told) in [
        (None, "--user NAME"),
        (
            Some(("somebody", "an0ther")),
            "neither that name nor that password",
        ),
    ] {
        let (done, said) = import(home.path(), &image, login).await;
        assert!(
            !done && said.contains(told) && !said.contains("an0ther"),
            "{said}"
        );
    }
    let (done, said) = import(home.path(), &image, Some(("somebody", "pass-w0rd"))).await;
    assert!(done, "{said}");
}

/// A place that gives out tokens to somebody, signed with a key that the registry knows (distribution, "Token
/// Authentication Implementation").
struct Authority {
    key: EcdsaKeyPair,
    chain: String,
    certificate: PathBuf,
}

impl Authority {
    fn new(dir: &Path) -> Self {
        let pair = KeyPair::generate().expect("a key");
        let made = CertificateParams::new(vec!["authority".to_owned()]).expect("a name");
        let made = made.self_signed(&pair).expect("a certificate");
        let certificate = dir.join("authority.pem");
        std::fs::write(&certificate, made.pem()).expect("written");
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pair.serialize_der());
        Self {
            key: key.expect("of that kind"),
            chain: STANDARD.encode(made.der()),
            certificate,
        }
    }

    fn answer(
        &self,
        Query(asked): Query<Vec<(String, String)>>,
        headers: &HeaderMap,
    ) -> Result<String, StatusCode> {
        let shown = headers
            .get("authorization")
            .and_then(|shown| shown.to_str().ok());
        if shown != Some(&format!("Basic {}", STANDARD.encode("somebody:pass-w0rd"))) {
            return Err(StatusCode::UNAUTHORIZED);
        }
        let asked = |name: &str| {
            asked
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.clone())
        };
        let scope = asked("scope").ok_or(StatusCode::BAD_REQUEST)?;
        assert_eq!(
            (asked("service").as_deref(), scope.as_str()),
            (Some("registry"), "repository:little:pull")
        );
        let now = store::clock::now().0 / 1_000_000;
        let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [self.chain]});
        let claims = json!({"iss": "authority", "sub": "somebody", "aud": "registry", "exp": now + 300, "nbf": now - 10,
            "iat": now, "jti": "1", "access": [{"type": "repository", "name": "little", "actions": ["pull"]}]});
        let encoded = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = encoded.join(".");
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .expect("signed");
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        Ok(json!({"token": token, "expires_in": 300}).to_string())
    }
}
