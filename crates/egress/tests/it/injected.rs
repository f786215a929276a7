//! Credentials that a sandbox uses without holding them, from inside a real one: what the right server gets, and what
//! nobody else does.

use std::sync::Arc;

use contract::ids::{CredentialId, SessionId, WorkspaceId};
use contract::secret::Secret;
use egress::audit::Action;
use egress::host::Orders;
use egress::inject::{CredentialFile, CredentialsFile};
use sandbox::Sandbox;
use vault::Vault;
use vault::master::MasterKey;
use vault::secret::CredentialSecret;

use crate::ground::{Ground, OTHER, SERVER, hello, on_ground, run, unrestricted};
use crate::upstreams::{BOTH, ONE, Shown, http, https};

const SECRET: &str = "sk-live/42+\"quoted\"&=%";
const ROTATED: &str = "sk-live/43+rotated";

pub fn id(number: u128) -> CredentialId {
    CredentialId::from_bits(number)
}

/// That credential of the session of these tests, for those hosts.
pub fn credential(number: u128, secret: &str, hosts: Option<&[&str]>) -> CredentialFile {
    let vault = Vault::with(&MasterKey::from_bytes([9; 32]));
    let (workspace, id) = (WorkspaceId::Default, id(number));
    let secret = CredentialSecret::token(Secret::new(secret.to_owned()));
    let sealed = vault.seal_credential(workspace, id, &secret);
    CredentialFile {
        id,
        placeholder: placeholder(number),
        hosts: hosts.map(|hosts| hosts.iter().map(|host| (*host).to_owned()).collect()),
        header: true,
        body: true,
        template: None,
        renewable: false,
        lent: Some(vault.lend_credential(workspace, id, &sealed).unwrap()),
    }
}

pub fn placeholder(number: u128) -> String {
    let vault = Vault::with(&MasterKey::from_bytes([9; 32]));
    let placeholder = vault.placeholder(SessionId::from_bits(1), id(number));
    placeholder.text().to_owned()
}

/// A sandbox that has these.
pub async fn sandbox(ground: &Ground, name: &str, all: Vec<CredentialFile>) -> Arc<dyn Sandbox> {
    *ground.credentials.lock().unwrap() = CredentialsFile {
        cleartext: false,
        credentials: all,
    };
    let sandbox = ground.sandbox(name).await;
    assert_eq!(run(&sandbox, "export P=$P1; env | grep -c P1=").await, "1");
    assert_eq!(run(&sandbox, "echo $P").await, placeholder(1));
    sandbox
}

/// What the server was told, which it says backwards: so nothing of it is recognised on its way back.
pub async fn mirrored(sandbox: &Arc<dyn Sandbox>, curl: &str) -> String {
    let command = format!("curl -sS --max-time 60 {curl} | rev");
    run(sandbox, &command).await
}

#[test]
fn the_right_host_gets_the_secret_in_headers_query_and_body() {
    on_ground(unrestricted(), |ground| async move {
        let _both = ground.server(SERVER, 443, https(BOTH, Shown::Good));
        let _one = ground.server(SERVER, 8443, https(ONE, Shown::Good));
        let all = vec![credential(1, SECRET, Some(&["allowed.test"]))];
        let sandbox = sandbox(&ground, "spends", all).await;
        let encoded = "sk-live%2F42%2B%22quoted%22%26%3D%25";
        for version in ["--http1.1", "--http2"] {
            for base in ["https://allowed.test", "https://allowed.test:8443"] {
                let told = mirrored(
                    &sandbox,
                    &format!("{version} -H \"Authorization: Bearer $P\" -H \"X-Twice: $P $P\" \"{base}/mirror?key=$P&x=1\""),
                )
                .await;
                for line in [
                    format!("/mirror?key={encoded}&x=1"),
                    format!("x-twice: {SECRET} {SECRET}"),
                ] {
                    assert!(told.contains(&line), "{version} {base}: {told}");
                }
                let basic =
                    mirrored(&sandbox, &format!("{version} -u \"me:$P\" {base}/mirror")).await;
                let pair = base64(&format!("me:{SECRET}"));
                assert!(
                    basic.contains(&format!("authorization: Basic {pair}")),
                    "{basic}"
                );
                let json = format!("{version} --json \"{{\\\"key\\\":\\\"$P\\\"}}\" {base}/mirror");
                let json = mirrored(&sandbox, &json).await;
                assert!(
                    json.contains(r#"{"key":"sk-live/42+\"quoted\"&=%"}"#),
                    "{json}"
                );
                let form =
                    mirrored(&sandbox, &format!("{version} -d \"key=$P\" {base}/mirror")).await;
                assert!(form.contains(&format!("key={encoded}")), "{form}");
                let length = format!("content-length: {}", 4 + encoded.len());
                assert!(form.contains(&length), "{form}");
            }
        }
        let used = ground
            .recorded("names the credential", |it| it.credential == Some(id(1)))
            .await;
        assert_eq!(
            (used.name.as_deref(), used.action),
            (Some("allowed.test"), Action::Allowed)
        );
        for record in ground.audit() {
            assert!(!format!("{record:?}").contains("sk-live"), "{record:?}");
        }
    });
}

pub fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
fn bodies_that_stream_are_split_packed_or_long_have_every_placeholder_replaced() {
    on_ground(unrestricted(), |ground| async move {
        let _server = ground.server(SERVER, 443, https(BOTH, Shown::Good));
        let all = vec![
            credential(1, SECRET, Some(&["*.test"])),
            credential(2, "lhph", None),
        ];
        let sandbox = sandbox(&ground, "streams", all).await;
        let nested = format!("printf %s ${{P:0:10}}{}${{P:10}}", placeholder(2));
        for (what, make, count) in [
            (
                "long",
                "(head -c 3000000 /dev/zero | tr '\\0' x; echo $P)",
                3_000_001 + 22,
            ),
            (
                "chunked, split in two",
                "(printf before; printf %s ${P:0:20}; sleep 0.6; printf %s ${P:20}; printf after)",
                11 + 22,
            ),
            ("nested", nested.as_str(), 44 + 4),
        ] {
            let sent = format!(
                "{make} | curl -sS --max-time 60 -H 'Content-Type: text/plain' -T - https://allowed.test/count"
            );
            assert_eq!(run(&sandbox, &sent).await, count.to_string(), "{what}");
        }
        let packed = "printf %s \"key $P\" | gzip | curl -sS --max-time 60 -H 'Content-Encoding: gzip' -H 'Content-Type: text/plain' \
            --data-binary @- https://allowed.test/mirror | rev";
        let packed = run(&sandbox, packed).await;
        assert!(packed.ends_with(&format!("key {SECRET}")), "{packed}");
        assert!(!packed.contains("content-encoding"), "{packed}");
        let name = mirrored(&sandbox, "-H \"$P: x\" https://allowed.test/mirror").await;
        let name_of_it = placeholder(1).to_lowercase();
        assert!(name.contains(&format!("{name_of_it}: x")), "{name}");
        let in_base64 = "-H \"X-Packed: $(printf %s $P | base64 -w0)\" https://allowed.test/mirror";
        let in_base64 = mirrored(&sandbox, in_base64).await;
        assert!(in_base64.contains(&base64(&placeholder(1))), "{in_base64}");
    });
}

#[test]
fn nobody_else_gets_it_and_what_comes_back_is_the_placeholder() {
    on_ground(unrestricted(), |ground| async move {
        let right = ground.server(SERVER, 443, https(BOTH, Shown::Good));
        let _clear = ground.server(SERVER, 80, http());
        let other = ground.server(OTHER, 443, https(BOTH, Shown::Good));
        let other_clear = ground.serve(OTHER, 80, hello);
        let all = vec![
            credential(1, SECRET, Some(&["allowed.test"])),
            credential(2, "line\nbreak", Some(&["allowed.test"])),
            CredentialFile {
                header: false,
                ..credential(3, "only in bodies", None)
            },
            CredentialFile {
                lent: None,
                ..credential(4, "none", None)
            },
        ];
        let sandbox = sandbox(&ground, "keeps", all).await;

        // What comes back: in a header, in a body, in `Location`.
        let echo = run(
            &sandbox,
            "curl -sS --max-time 60 -i -H \"X-Told: $P\" -d \"a=$P\" https://allowed.test/reflect",
        )
        .await;
        assert!(
            echo.contains(&format!("x-told: {}", placeholder(1))),
            "{echo}"
        );
        assert!(
            echo.contains(&format!("location: https://other.test/?{}", placeholder(1))),
            "{echo}"
        );
        assert!(!echo.contains("sk-live"), "{echo}");
        // Followed, the placeholder reaches the other host as it is.
        let followed = mirrored(
            &sandbox,
            "-L -H \"X-Told: $P\" https://allowed.test/reflect",
        )
        .await;
        assert!(!followed.contains("sk-live"), "{followed}");
        let told = other.text();
        assert!(
            told.contains(&placeholder(1)) && !told.contains("sk-live"),
            "{told}"
        );

        let elsewhere = run(
            &sandbox,
            "curl -sS --max-time 60 -H \"X-Told: $P\" http://other.test/",
        )
        .await;
        assert_eq!(elsewhere, "hello");
        assert!(
            other_clear.text().contains(&placeholder(1)),
            "{}",
            other_clear.text()
        );
        let left = format!("its placeholder went out as it is: {}", id(1));
        ground
            .recorded("says so", |it| it.reason.contains(&left))
            .await;

        let denied = |what: &str| {
            format!(
                "curl -sS --max-time 60 -o /dev/null -w '%{{http_code}} %header{{x-longhand-egress-rule}}' {what}"
            )
        };
        for clear in [
            "-H \"X: $P\" http://allowed.test/",
            "-d \"$P\" http://allowed.test/",
            "http://allowed.test/?$P",
        ] {
            assert_eq!(
                run(&sandbox, &denied(clear)).await,
                "403 credentials",
                "{clear}"
            );
        }
        let refused = ground.denied("allowed.test", "credentials").await;
        assert!(refused.reason.contains("over TLS only"), "{refused:?}");
        for (number, what) in [(2, "a line break"), (4, "nothing opens it")] {
            let header = format!("-H \"X: {}\" https://allowed.test/", placeholder(number));
            assert_eq!(
                run(&sandbox, &denied(&header)).await,
                "403 credentials",
                "{what}"
            );
        }
        let only = placeholder(3);
        let only = mirrored(
            &sandbox,
            &format!("-H \"X-Key: {only}\" -d \"k={only}\" https://allowed.test/mirror"),
        )
        .await;
        assert!(
            only.contains(&format!("x-key: {}", placeholder(3))),
            "{only}"
        );
        assert!(only.contains("k=only%20in%20bodies"), "{only}");

        let forged = "-H \"Host: other.test\" -H \"X: $P\" https://allowed.test/";
        assert!(run(&sandbox, &denied(forged)).await.starts_with("421"));
        assert!(
            !right.text().contains("sk-live"),
            "only requests' lines are noted: {}",
            right.text()
        );
    });
}

#[test]
fn a_rotated_credential_is_the_new_one_at_once_and_an_archived_one_none() {
    on_ground(unrestricted(), |ground| async move {
        let _server = ground.server(SERVER, 443, https(BOTH, Shown::Good));
        let hosts: Option<&[&str]> = Some(&["allowed.test"]);
        let sandbox = sandbox(&ground, "rotates", vec![credential(1, SECRET, hosts)]).await;
        let ask = "-H \"X-Key: $P\" https://allowed.test/mirror";
        assert!(
            mirrored(&sandbox, ask)
                .await
                .contains(&format!("x-key: {SECRET}"))
        );
        let policy = unrestricted();
        let rotated = CredentialsFile {
            cleartext: false,
            credentials: vec![credential(1, ROTATED, hosts)],
        };
        let orders = Orders {
            policy: &policy,
            credentials: &rotated,
        };
        ground.set_policy("rotates", orders).await;
        assert!(
            mirrored(&sandbox, ask)
                .await
                .contains(&format!("x-key: {ROTATED}"))
        );
        // Another egress process is told of them anew.
        ground.end_host();
        ground.begin_host();
        crate::ground::until("the next one carries", || async {
            let told = run(
                &sandbox,
                "curl -sS --max-time 5 -o /dev/null -w %{http_code} https://allowed.test/told",
            )
            .await;
            told.contains("200")
        })
        .await;
        assert!(
            mirrored(&sandbox, ask)
                .await
                .contains(&format!("x-key: {ROTATED}"))
        );
        ground.set_policy("rotates", &policy).await;
        let gone = mirrored(&sandbox, &format!("-k {ask}")).await;
        assert!(
            gone.contains(&format!("x-key: {}", placeholder(1))),
            "{gone}"
        );
    });
}
