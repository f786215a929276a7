//! Templates with the real server: imported beside it while it runs, used by people and by sessions, kept while somebody
//! lies on them.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testkit::api::id;
use testkit::{script, wait};

use crate::stage::{Stage, Subject};
use crate::terminal::{lines, piped};

/// Makes a root of a few of the host's programs and what they load, and an archive of it.
const LITTLE: &str = r#"
set -e
mkdir -p root/usr/bin root/usr/lib root/usr/lib64 root/opt
cd root
ln -s usr/bin bin; ln -s usr/lib lib; ln -s usr/lib64 lib64
for program in bash cat ls mkdir touch; do
    cp /usr/bin/$program usr/bin
    for file in $(ldd /usr/bin/$program | grep -o '/[^ ]*'); do
        case $file in /usr/*) to=.$file ;; *) to=./usr$file ;; esac
        mkdir -p "$(dirname $to)"; cp -L $file $to
    done
done
ln -s bash usr/bin/sh
echo 'of the template' > opt/mark
tar --numeric-owner -czf ../little.tar.gz .
"#;

/// The archive; what it is made of is in `dir` too.
pub fn little(dir: &Path) -> String {
    let made = Command::new("bash")
        .args(["-c", LITTLE])
        .current_dir(dir)
        .output();
    let made = made.expect("bash runs");
    assert!(made.status.success(), "{made:?}");
    dir.join("little.tar.gz")
        .to_str()
        .expect("a name")
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn people_import_templates_and_sandboxes_lie_on_them() {
    let stage = Stage::new(0).await;
    let dir = stage.launch.data_dir();
    let around = tempfile::tempdir().expect("a directory");
    let archive = little(around.path());
    let made = lines(dir, &["template", "import", &archive, "--name", "little"]).await;
    let template = made[0]["id"].as_str().expect("a digest").to_owned();
    assert!(template.starts_with("sha256:"), "{template}");
    let words = [
        "sandbox",
        "run",
        "--template",
        "little",
        "--",
        "/bin/sh",
        "-c",
    ];
    let ran = piped(dir, &[&words[..], &["cat /opt/mark; ls /usr"]].concat()).await;
    let seen = String::from_utf8_lossy(&ran.stdout);
    assert_eq!(seen, "of the template\nbin\nlib\nlib64\n", "{ran:?}");
    lines(dir, &["sandbox", "create", "one", "--template", &template]).await;
    let shown = lines(dir, &["sandbox", "show", "one"]).await;
    assert_eq!(shown[0]["template"], json!(template));
    let listed = lines(dir, &["template", "list"]).await;
    assert_eq!(
        (&listed[0]["id"], &listed[0]["names"]),
        (&json!(template), &json!(["little"]))
    );
    assert_eq!(
        lines(dir, &["template", "verify", "little"]).await[0]["verified"],
        json!(true)
    );
    // Not while somebody lies on it.
    let kept = piped(dir, &["template", "remove", "little"]).await;
    let said = String::from_utf8_lossy(&kept.stderr);
    assert!(
        !kept.status.success() && said.contains("sandbox one"),
        "{said}"
    );
    lines(dir, &["sandbox", "rm", "one"]).await;
    wait::until("the template goes", || async {
        let gone = piped(dir, &["template", "remove", "little"]).await;
        gone.status.success().then_some(())
    })
    .await;
    let none = piped(dir, &["sandbox", "create", "two", "--template", "little"]).await;
    let said = String::from_utf8_lossy(&none.stderr);
    assert!(
        !none.status.success() && said.contains("no template little"),
        "{said}"
    );
    let broken = around.path().join("broken.tar");
    std::fs::write(&broken, "no archive").expect("a file");
    let broken = broken.to_str().expect("a name");
    let refused = piped(dir, &["template", "import", broken]).await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("the archive was cut"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_lies_on_the_template_that_its_environment_names() {
    let mut stage = Stage::new(0).await;
    let dir = stage.launch.data_dir().to_owned();
    let around = tempfile::tempdir().expect("a directory");
    let archive = little(around.path());
    lines(&dir, &["template", "import", &archive, "--name", "little"]).await;
    let api = stage.api();
    let agent = json!({"name": "On templates", "model": "claude-sonnet-5-5", "tools": [{"type": "agent_toolset_20260401"}]});
    let agent = id(&api.post("/v1/agents", &agent).await.expect("an agent"));
    let environment = async |template: &str| -> Value {
        let body = json!({
            "name": format!("on {template}"), "config": {"type": "cloud"},
            "metadata": {"longhand.template": template},
        });
        api.post("/v1/environments", &body)
            .await
            .expect("an environment")
    };
    let on = |environment: &Value| json!({"agent": agent, "environment_id": id(environment)});
    // One that is not here is refused before anything is made.
    let refused = api
        .post("/v1/sessions", &on(&environment("other").await))
        .await;
    let said = format!("{:?}", refused.expect_err("there is no such template"));
    assert!(
        said.contains("longhand.template") && said.contains("400"),
        "{said}"
    );
    let session = api
        .post("/v1/sessions", &on(&environment("little").await))
        .await;
    let session = id(&session.expect("a session"));
    stage.subjects.push(Subject {
        session: session.clone(),
        ledger: testkit::ledger::Ledger::default(),
    });
    let steps = json!([script::bash("cat /opt/mark; ls /usr"), {"text": "Done."}]);
    stage.play(0, "one", &steps).await;
    let (seen, _) = stage.heard(&session).await;
    assert_eq!(seen.trim(), "of the template\nbin\nlib\nlib64");
    let shown = lines(&dir, &["sandbox", "show", &session]).await;
    assert!(shown[0]["template"].is_string(), "{shown:?}");
}
