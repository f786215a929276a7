//! Whom programs of a sandbox trust, through the real server: nobody of ours until a rule has to look inside TLS, and from
//! then on the sandbox's own authority, whichever process ends.

use crate::certificates::{answering, certificates};
use crate::egress::{kill, process};
use crate::egress_rules::{decides, set};
use crate::injected::own_address;
use crate::stage::{self, Stage};

const STATE: &str = "ls /etc/ssl/certs/longhand.pem 2>/dev/null; env | grep -c =/etc/ssl/certs/; \
    grep BEGIN /etc/ssl/certs/ca-certificates.crt | wc -l; grep BEGIN /etc/longhand/roots.pem | wc -l";

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_is_set_later_is_trusted_at_once_and_after_each_process_was_killed() {
    let home = tempfile::tempdir().expect("a directory");
    let (at, address) = (home.path(), own_address());
    certificates(at, &address.to_string());
    let (_server, port) = answering(at, &address.to_string());
    let config = at.join("longhand.toml");
    let text = format!("[egress]\nca_file = '{}'\n", at.join("root.crt").display());
    std::fs::write(&config, text).expect("written");
    let (launch, model) = stage::launch().await;
    let launch = launch
        .arguments(&["--config", config.to_str().expect("a text")])
        .environment("LONGHAND_EGRESS_ENABLED", "true")
        .environment("LONGHAND_EGRESS_ALLOW_PRIVATE", &format!("{address}/32"));
    let mut stage = Stage::on(launch, model, 1).await;
    let session = stage.subjects[0].session.clone();
    // The server's own certificate, which nobody here trusts; and nothing of ours beside it.
    let ask = format!("curl -sS --max-time 60 https://{address}:{port}/ 2>&1");
    let (said, _) = stage.told(&session, "before", &ask).await;
    assert!(said.contains("curl: (60)"), "{said}");
    let (said, _) = stage.told(&session, "nothing", STATE).await;
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0] == "0" && lines[1] == lines[2], "{said}");
    let rules = format!(
        "[[rules]]\nname = 'no secrets'\naction = 'deny'\nto = ['{address}']\npaths = ['/secret']\n"
    );
    set(&stage, &session, &rules).expect("they are rules");
    let secret = format!("https://{address}:{port}/secret");
    decides(&stage, &session, &secret, "no secrets", false).await;
    let denied = format!("{ask}; curl -sS -o /dev/null -w ' %{{http_code}}' {secret}");
    let (said, _) = stage.told(&session, "looked into", &denied).await;
    assert!(said.contains("answered") && said.contains(" 403"), "{said}");
    // The server alone, the egress process alone, both.
    for (token, of_server, of_egress) in [
        ("server", true, false),
        ("egress", false, true),
        ("both", true, true),
    ] {
        if of_server {
            stage.kill().await;
        }
        if of_egress {
            kill(process(&stage).expect("it runs"));
        }
        if of_server {
            stage.restart().await;
        }
        decides(&stage, &session, &secret, "no secrets", false).await;
        let (said, _) = stage.told(&session, token, &denied).await;
        assert!(
            said.contains("answered") && said.contains(" 403"),
            "{token}: {said}"
        );
    }
    crate::egress::end(stage).await;
}
