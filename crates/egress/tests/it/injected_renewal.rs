//! Tokens that their server refuses before their end, from inside a real sandbox: whoever lends them is asked for another
//! one, and what can be said twice is.

use egress::audit::Action;
use egress::host::{Orders, RefusedToken};
use egress::inject::{CredentialFile, CredentialsFile, Template};

use crate::ground::{Ground, SERVER, on_ground, run, unrestricted};
use crate::injected::{credential, id};
use crate::telltale::PASS;
use crate::upstreams::{BOTH, ONE, Shown, https};

const OLD: &str = "refused/token+19a7";

/// What the server that lends them says of it.
fn lent(token: &str) -> CredentialsFile {
    let template = Template::McpServer {
        port: 443,
        path: "/private".to_owned(),
    };
    let one = CredentialFile {
        header: false,
        body: false,
        template: Some(template),
        renewable: true,
        ..credential(1, token, Some(&["allowed.test"]))
    };
    CredentialsFile {
        cleartext: false,
        credentials: vec![one],
    }
}

async fn lend(ground: &Ground, sandbox: &str, token: &str) {
    let (policy, credentials) = (&unrestricted(), &lent(token));
    let orders = Orders {
        policy,
        credentials,
    };
    ground.carrier.set_policy(sandbox, orders).await.unwrap();
}

const ASK: &str = "curl -sS --max-time 60 -o /tmp/said -w '%{http_code}' https://allowed.test";

#[test]
fn a_refused_token_is_asked_about_once_and_the_request_goes_again_with_another() {
    on_ground(unrestricted(), |ground| async move {
        let server = ground.server(SERVER, 443, https(BOTH, Shown::Good));
        *ground.credentials.lock().unwrap() = lent(OLD);
        let sandbox = ground.sandbox("renews").await;
        let mut refused = ground.refused.lock().unwrap().take().unwrap();
        let asked = "cd /tmp; for v in 1.1 2; do for n in 1 2 3; do \
            curl -sS --max-time 60 --http$v -w ' %{http_code}\\n' https://allowed.test/private/x -d call=$n >$v.$n & done; done; \
            wait; cat 1.1.? 2.?";
        let (said, question) = tokio::join!(run(&sandbox, asked), async {
            let question: RefusedToken = refused.recv().await.unwrap();
            let token = question.lent.open().unwrap().token;
            assert_eq!(token.expose(), OLD);
            assert_eq!(
                (question.sandbox.as_str(), question.credential),
                ("renews", id(1))
            );
            lend(&ground, "renews", PASS).await;
            ground.carrier.renewed("renews", id(1)).await.unwrap();
            question
        });
        assert_eq!(said.matches(" 200").count(), 6, "{said}");
        assert!(!format!("{question:?}").contains("token+19a7"));
        // One that comes behind the answer may ask once more; what is there already is all that it is told.
        while let Ok(late) = refused.try_recv() {
            ground
                .carrier
                .renewed("renews", late.credential)
                .await
                .unwrap();
        }
        for status in [401, 200] {
            ground
                .recorded("is one of the two", |it| {
                    it.upstream_status == Some(status)
                        && it.action == Action::Allowed
                        && it.credential == Some(id(1))
                })
                .await;
        }

        // An answer that brings nothing else leaves the refusal as it is.
        lend(&ground, "renews", OLD).await;
        let ask = format!("{ASK}/private/x");
        let (said, ()) = tokio::join!(run(&sandbox, &ask), async {
            let question = refused.recv().await.unwrap();
            let answered = ground.carrier.renewed("renews", question.credential);
            answered.await.unwrap();
        });
        assert_eq!(said, "401");
        // Nor does it wait where nobody looks after it.
        drop(refused);
        assert_eq!(run(&sandbox, &format!("{ASK}/private/x")).await, "401");
        assert!(!server.text().contains("token+19a7"), "in TLS only");
    });
}

#[test]
fn a_refusal_of_anything_else_is_nobodys_question() {
    on_ground(unrestricted(), |ground| async move {
        let _server = ground.server(SERVER, 443, https(ONE, Shown::Good));
        let mut all = lent(OLD);
        *ground.credentials.lock().unwrap() = all.clone();
        let sandbox = ground.sandbox("asks").await;
        let mut refused = ground.refused.lock().unwrap().take().unwrap();
        // It is not put in there.
        assert_eq!(run(&sandbox, &format!("{ASK}/elsewhere")).await, "200");
        // It cannot be renewed.
        all.credentials[0].renewable = false;
        let (policy, credentials) = (&unrestricted(), &all);
        let orders = Orders {
            policy,
            credentials,
        };
        ground.carrier.set_policy("asks", orders).await.unwrap();
        assert_eq!(run(&sandbox, &format!("{ASK}/private/x")).await, "401");
        assert!(refused.try_recv().is_err());
    });
}
