//! Credentials that the operator puts into requests of every sandbox, from inside a real one: no program knows of them.

use egress::audit::Action;
use egress::inject::{CredentialFile, CredentialsFile, Template};

use crate::ground::{OTHER, SERVER, on_ground, run, unrestricted};
use crate::injected::{base64, credential, id, mirrored, placeholder};
use crate::upstreams::{BOTH, Shown, http, https};

const SECRET: &str = "operators/one+42 =";

fn template(number: u128, secret: &str, hosts: &[&str], template: Template) -> CredentialFile {
    CredentialFile {
        header: false,
        body: false,
        template: Some(template),
        ..credential(number, secret, Some(hosts))
    }
}

#[test]
fn the_operators_credentials_are_in_every_request_to_their_hosts_and_in_no_other() {
    on_ground(unrestricted(), |ground| async move {
        let _server = ground.server(SERVER, 443, https(BOTH, Shown::Good));
        let _clear = ground.server(SERVER, 80, http());
        let other = ground.server(OTHER, 443, https(BOTH, Shown::Good));
        let header = Template::Header {
            name: "X-Told".to_owned(),
            value: "v1 {secret}".to_owned(),
        };
        let basic = Template::Basic {
            user: "agents".to_owned(),
        };
        let query = Template::Query {
            name: "key".to_owned(),
        };
        let all = vec![
            template(1, SECRET, &["allowed.test"], header),
            template(2, SECRET, &["*.test"], basic.clone()),
            template(3, SECRET, &["allowed.test"], query),
            CredentialFile {
                lent: None,
                ..template(4, SECRET, &[SERVER], basic)
            },
        ];
        *ground.credentials.lock().unwrap() = CredentialsFile {
            cleartext: false,
            credentials: all,
        };
        let sandbox = ground.sandbox("operators").await;
        let pair = base64(&format!("agents:{SECRET}"));
        for version in ["--http1.1", "--http2"] {
            for more in ["", "-H 'X-Told: mine' -H 'Authorization: Bearer mine'"] {
                let told = mirrored(
                    &sandbox,
                    &format!("{version} {more} \"https://allowed.test/mirror?a=1&key=mine\""),
                )
                .await;
                for line in [
                    format!("x-told: v1 {SECRET}"),
                    format!("authorization: Basic {pair}"),
                    "/mirror?a=1&key=operators%2Fone%2B42+%3D".to_owned(),
                ] {
                    assert!(
                        told.contains(&line),
                        "{version} {more}: {line} is not in {told}"
                    );
                }
                assert!(!told.contains("mine"), "{told}");
            }
        }
        // What comes back has none of it, and what stands there instead is worth nothing.
        let shown = run(
            &sandbox,
            "curl -sS --max-time 60 -i https://allowed.test/reflect",
        )
        .await;
        assert!(
            !shown.contains(SECRET) && shown.contains(&format!("x-told: v1 {}", placeholder(1))),
            "{shown}"
        );
        let again = format!(
            "-H \"X-Other: {}\" https://allowed.test/mirror",
            placeholder(1)
        );
        let again = mirrored(&sandbox, &again).await;
        assert!(
            again.contains(&format!("x-other: {}", placeholder(1))),
            "{again}"
        );
        // Another host has its own only.
        let elsewhere = mirrored(&sandbox, "https://other.test/mirror").await;
        assert!(
            elsewhere.contains(&format!("authorization: Basic {pair}"))
                && !elsewhere.contains("x-told"),
            "{elsewhere}"
        );
        assert!(!other.text().contains("key="), "{}", other.text());
        // Nothing goes without it, nor in clear text.
        let status =
            "curl -sS --max-time 60 -o /dev/null -w '%{http_code} %header{x-longhand-egress-rule}'";
        for to in ["http://allowed.test/", "-k https://198.51.100.10/"] {
            assert_eq!(
                run(&sandbox, &format!("{status} {to}")).await,
                "403 credentials",
                "{to}"
            );
        }
        let used = ground
            .recorded("is of them", |it| it.credential == Some(id(1)))
            .await;
        assert_eq!(used.action, Action::Allowed);
        assert!(used.reason.contains(&id(3).to_string()), "{used:?}");
        for record in ground.audit() {
            assert!(
                !format!("{record:?}").contains("operators/one"),
                "{record:?}"
            );
        }
    });
}
