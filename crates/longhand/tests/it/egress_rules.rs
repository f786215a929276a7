//! Rules that a sandbox has of its own, set through the real server: in force at once, kept, and never more than the
//! operator allows. Nothing is dialled here.

use serde_json::{Value, json};
use testkit::wait;

use crate::egress::{asked, carried, command, end, told};
use crate::stage::Stage;

/// Sets the rules of that sandbox by a file, and says what the command said.
pub fn set(stage: &Stage, sandbox: &str, rules: &str) -> Result<Value, String> {
    let file = stage.launch.data_dir().join("rules.toml");
    std::fs::write(&file, rules).unwrap();
    let words = ["egress", "rules", sandbox, "--set", file.to_str().unwrap()];
    let ran = command(stage, &words).output().unwrap();
    if ran.status.success() {
        Ok(serde_json::from_slice(&ran.stdout).unwrap())
    } else {
        Err(String::from_utf8(ran.stderr).unwrap())
    }
}

/// Which rule decides on that, once it is this one.
pub async fn decides(stage: &Stage, sandbox: &str, target: &str, rule: &str, allowed: bool) {
    let what = format!("{rule} decides on {target}");
    wait::until(&what, || async {
        let explained = asked(stage, &["egress", "explain", sandbox, target]);
        let explained = serde_json::from_str::<Value>(&explained).unwrap();
        (explained["rule"] == rule && explained["allowed"] == allowed).then_some(())
    })
    .await;
}

const FAR: &str = "tcp://1.1.1.1:9";

#[tokio::test(flavor = "multi_thread")]
async fn rules_of_a_sandbox_are_in_force_at_once_kept_and_lift_nothing() {
    let mut stage = carried().await;
    let session = stage.subjects[0].session.clone();
    // Before there is a sandbox.
    let denies = "[[rules]]\nname = 'not there'\naction = 'deny'\nto = ['1.1.1.0/24']\n";
    let made = set(&stage, &session, denies).unwrap();
    assert_eq!(made["rules"][0]["name"], "not there", "{made}");
    assert!(told(&mut stage, "first").await.contains("HTTP/1.1 403"));
    decides(&stage, &session, FAR, "not there", false).await;
    // Whatever they allow, what is always denied stays.
    let allows =
        "[[rules]]\nname = 'everything'\naction = 'allow'\nto = ['*', '169.254.169.254']\n";
    set(&stage, &session, allows).unwrap();
    decides(&stage, &session, FAR, "everything", true).await;
    let said = told(&mut stage, "second").await;
    assert!(said.contains("only the operator"), "{said}");
    // A server that was killed finds them again.
    stage.kill().await;
    stage.restart().await;
    assert!(told(&mut stage, "third").await.contains("HTTP/1.1 403"));
    decides(&stage, &session, FAR, "everything", true).await;
    let held = asked(&stage, &["egress", "rules", &session]);
    let held = serde_json::from_str::<Value>(&held).unwrap();
    assert_eq!(held["rules"][0]["to"], json!(["*", "169.254.169.254"]));
    // What is wrong is said by its field, and changes nothing.
    let wrong = "[[rules]]\nname = 'x'\naction = 'allow'\nto = ['a.*.test']\n";
    let said = set(&stage, &session, wrong).unwrap_err();
    assert!(
        said.contains("rules[0].to[0]") && said.contains("wildcard"),
        "{said}"
    );
    let many = "[[rules]]\nname = 'x'\naction = 'deny'\nto = ['*']\n".repeat(33);
    let said = set(&stage, &session, &many).unwrap_err();
    assert!(said.contains("at most 32"), "{said}");
    decides(&stage, &session, FAR, "everything", true).await;
    // None any more.
    let none = set(&stage, &session, "").unwrap();
    assert_eq!(
        (&none["rules"], &none["updated_at"]),
        (&json!([]), &json!(null))
    );
    decides(&stage, &session, FAR, "default", true).await;
    let actions = asked(&stage, &["audit", "log"]);
    assert!(actions.contains("egress/rules"), "{actions}");
    end(stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_an_operator_made_reaches_what_its_rules_allow_and_its_name_keeps_none() {
    let stage = carried().await;
    let make = ["sandbox", "create", "tool"];
    asked(&stage, &make);
    decides(&stage, "tool", FAR, "default", false).await;
    let allows = "[[rules]]\nname = 'ours'\naction = 'allow'\nto = ['1.1.1.1']\nports = [9]\n";
    set(&stage, "tool", allows).unwrap();
    decides(&stage, "tool", FAR, "ours", true).await;
    let record = asked(&stage, &["sandbox", "show", "tool"]);
    let record = serde_json::from_str::<Value>(&record).unwrap();
    assert!(
        ["sk_lookup", "tproxy"]
            .map(Value::from)
            .contains(&record["steering"]),
        "{record}"
    );
    asked(&stage, &["sandbox", "rm", "tool"]);
    asked(&stage, &make);
    decides(&stage, "tool", FAR, "default", false).await;
    end(stage).await;
}
