//! A token that is one repository's alone, from inside a real sandbox: git and REST about it are let in, and nothing else
//! is shown it.

use std::sync::Arc;

use egress::inject::{CredentialFile, CredentialsFile, Repository, Template};
use sandbox::Sandbox;

use crate::clients::{each, fill};
use crate::ground::{Ground, OTHER, SERVER, on_ground, run, unrestricted};
use crate::injected::{credential, id, mirrored};
use crate::telltale::PASS;
use crate::upstreams::{BOTH, Shown, http, https};

const STATUS: &str = "curl -sS --max-time 60 --path-as-is -o /dev/null -w '%{http_code}'";

/// A sandbox in whose network that is done with the token.
async fn sandbox(ground: &Ground, name: &str, template: Template) -> Arc<dyn Sandbox> {
    let token = CredentialFile {
        header: false,
        body: false,
        template: Some(template),
        ..credential(1, PASS, Some(&["allowed.test", "other.test"]))
    };
    *ground.credentials.lock().unwrap() = CredentialsFile {
        cleartext: false,
        credentials: vec![token],
    };
    ground.sandbox(name).await
}

fn of_one() -> Template {
    Template::Repository(Repository {
        name: "owned/one".to_owned(),
        git: vec!["allowed.test".to_owned()],
        api: vec!["other.test".to_owned()],
    })
}

#[test]
fn git_and_rest_about_one_repository_are_let_in_with_a_token_that_no_program_has() {
    on_ground(unrestricted(), |ground| async move {
        let served = tempfile::tempdir().unwrap();
        fill(served.path());
        let _git = ground.server(SERVER, 443, https(BOTH, Shown::Good));
        let _api = ground.server(OTHER, 443, https(BOTH, Shown::Good));
        let sandbox = sandbox(&ground, "of-one", of_one()).await;
        let git = "cd /tmp && rm -rf one && git clone -q https://allowed.test/owned/one.git && cd one && cat README && \
                   echo more >>README && git -c user.name=a -c user.email=a@a.test commit -qam more && \
                   git push -q origin HEAD && git ls-remote -q https://allowed.test/owned/one HEAD | cut -c41-; \
                   GIT_TERMINAL_PROMPT=0 git ls-remote https://allowed.test/owned/two.git 2>&1 | grep -c 'terminal prompts disabled'";
        assert_eq!(run(&sandbox, git).await, "read me\n\tHEAD\n1");
        for version in ["--http1.1", "--http2"] {
            let asked = format!(
                "{version} -H 'Authorization: token mine' -H 'X-Original-URL: /repos/owned/two' \"https://other.test/repos/owned/one/issues?page=2\" -d '{{}}'"
            );
            let told = mirrored(&sandbox, &asked).await;
            assert!(
                told.contains(&format!("authorization: Bearer {PASS}")),
                "{told}"
            );
            assert!(
                !told.contains("mine") && !told.contains("owned/two"),
                "{told}"
            );
        }
        let searched = run(&sandbox, "grep -ra --exclude-dir=proc --exclude-dir=sys --exclude-dir=usr -c 'pass/of[+]' / 2>/dev/null | grep -v ':0$'; env | grep -c 'pass/of[+]'").await;
        assert_eq!(searched, "0", "nobody has kept what nobody had");
        let used = ground
            .recorded("is of the token", |it| it.credential == Some(id(1)))
            .await;
        assert!(!format!("{used:?}").contains("pass/of"), "{used:?}");
    });
}

/// Puts a large file there and gets it again.
const LARGE: &[(&str, &str, &str)] = &[(
    "git-lfs",
    "export HOME=/tmp/large; rm -rf $HOME; mkdir -p $HOME && cd $HOME && git lfs install >/dev/null && \
     git clone -q https://allowed.test/owned/one.git && cd one && git config user.name a && git config user.email a@a.test && \
     git config lfs.locksverify false && git lfs track '*.large' >/dev/null && head -c 3000000 /dev/urandom >a.large && \
     git add . && git commit -qm large && git push -q origin HEAD >/dev/null 2>&1 && sha256sum <a.large >../sum && cd .. && rm -rf one && \
     git clone -q https://allowed.test/owned/one.git && cd one && sha256sum -c --quiet ../sum <a.large && stat -c %s a.large",
    "3000000",
)];

#[test]
fn large_files_of_one_repository_are_put_and_got_with_its_token() {
    on_ground(unrestricted(), |ground| async move {
        let served = tempfile::tempdir().unwrap();
        fill(served.path());
        let server = ground.server(SERVER, 443, https(BOTH, Shown::Good));
        let sandbox = sandbox(&ground, "large", of_one()).await;
        let absent = each(&sandbox, LARGE).await;
        println!("not on this machine: {absent:?}");
        if absent.is_empty() {
            let told = server.text();
            for asked in ["info/lfs/objects/batch", "info/lfs/storage/"] {
                assert!(told.contains(asked), "{asked} among {told}");
            }
        }
    });
}

#[test]
fn a_repository_that_has_moved_to_another_host_takes_no_token_there() {
    on_ground(unrestricted(), |ground| async move {
        let served = tempfile::tempdir().unwrap();
        fill(served.path());
        let _there = ground.server(SERVER, 443, https(BOTH, Shown::Good));
        let elsewhere = ground.server(OTHER, 443, https(BOTH, Shown::Good));
        let clone = "cd /tmp && rm -rf moved && GIT_TERMINAL_PROMPT=0 git clone -q https://allowed.test/owned/moved.git 2>/dev/null && cat moved/README || echo refused";
        // Both hosts are the token's, one for git and one for REST.
        let narrow = Template::Repository(Repository {
            name: "owned/moved".to_owned(),
            git: vec!["allowed.test".to_owned()],
            api: vec!["other.test".to_owned()],
        });
        let narrow = sandbox(&ground, "moved", narrow).await;
        assert_eq!(run(&narrow, clone).await, "read me");
        let told = elsewhere.text();
        assert!(told.contains("/open/git-upload-pack"), "{told}");
        // A host's token would have gone along, and been refused.
        let basic = Template::Basic {
            user: "x-access-token".to_owned(),
        };
        let wide = sandbox(&ground, "moves", basic).await;
        assert_eq!(run(&wide, clone).await, "refused");
    });
}

/// What is not about the repository: where it is asked for, and the status of the answer.
const ASTRAY: &[(&str, &str)] = &[
    (
        "https://allowed.test/owned/two.git/info/refs?service=git-upload-pack",
        "401",
    ),
    (
        "https://allowed.test/owned/one-2.git/info/refs?service=git-upload-pack",
        "401",
    ),
    ("https://allowed.test/owned/one.git/info/refs", "401"),
    (
        "https://allowed.test/owned/one.git/../two.git/info/refs?service=git-upload-pack",
        "401",
    ),
    (
        "https://allowed.test/owned/one.git/%2e%2e/two.git/info/refs?service=git-upload-pack",
        "401",
    ),
    (
        "https://allowed.test/owned/one.git/..%2ftwo.git/info/refs?service=git-upload-pack",
        "400",
    ),
    (
        "https://allowed.test/owned/one.git/..;/two.git/info/refs?service=git-upload-pack",
        "400",
    ),
    (
        "https://allowed.test/owned/one.git;x/info/refs?service=git-upload-pack",
        "401",
    ),
    (
        "https://allowed.test/owned//one.git/info/refs?service=git-upload-pack",
        "401",
    ),
    (
        "https://allowed.test/owned/ONE.git/info/refs?service=git-upload-pack",
        "401",
    ),
    ("https://allowed.test/repos/owned/one", "401"),
    (
        "https://other.test/owned/one.git/info/refs?service=git-upload-pack",
        "401",
    ),
    ("https://other.test/repos/owned/two", "401"),
    ("https://other.test/repos/owned/one/../two", "401"),
    ("https://other.test/repos/owned/one/%2e%2e/two", "401"),
    ("https://other.test/repos/owned/onemore", "401"),
    ("https://other.test/repos/other/one", "401"),
    (
        "-H 'Host: other.test' https://allowed.test/repos/owned/one",
        "421",
    ),
    (
        "-H 'Transfer-Encoding: chunked' -H 'Content-Length: 5' --http1.1 -d hello https://other.test/repos/owned/one",
        "400",
    ),
];

/// Has its URL, the last word, kept from the shell.
fn curl(asked: &str) -> String {
    let (options, url) = asked.rsplit_once(' ').unwrap_or(("", asked));
    format!("{STATUS} {options} '{url}'")
}

#[test]
fn a_token_of_one_repository_goes_to_no_other_however_its_path_is_written() {
    on_ground(unrestricted(), |ground| async move {
        let served = tempfile::tempdir().unwrap();
        fill(served.path());
        let _git = ground.server(SERVER, 443, https(BOTH, Shown::Good));
        let _api = ground.server(OTHER, 443, https(BOTH, Shown::Good));
        let _clear = ground.server(SERVER, 80, http());
        let narrow = sandbox(&ground, "narrow", of_one()).await;
        for (asked, wanted) in ASTRAY {
            let status = run(&narrow, &curl(asked)).await;
            assert_eq!(status, *wanted, "{asked}");
        }
        // The same of a host's token, which only the repository's bounds keep from there.
        let header = Template::Header {
            name: "Authorization".to_owned(),
            value: "Bearer {secret}".to_owned(),
        };
        let wide = sandbox(&ground, "wide", header).await;
        for (asked, _) in ASTRAY.iter().filter(|(_, wanted)| *wanted == "401") {
            let status = run(&wide, &curl(asked)).await;
            assert_ne!(status, "401", "{asked}");
        }
        // In clear text it is refused where it would go, and nothing is where it would not.
        let refs = "info/refs?service=git-upload-pack";
        for (name, wanted) in [("one", "403"), ("two", "401")] {
            let asked = format!("{STATUS} 'http://allowed.test/owned/{name}.git/{refs}'");
            assert_eq!(run(&narrow, &asked).await, wanted, "{name}");
        }
    });
}
