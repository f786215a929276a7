//! What a program finds in a sandbox.

use sandbox::{Provider, Spec};

use crate::support::{bash, host, id, ok, text};

#[tokio::test]
async fn a_command_runs_as_root_of_its_own_world() {
    let host = host();
    let sandbox = host.attach("first").await;
    let seen = ok(
        &sandbox,
        "echo hello; id -u; pwd; hostname; cat /proc/1/comm; date +%Z",
    )
    .await;
    assert_eq!(seen, "hello\n0\n/workspace\nsandbox\nhand\nUTC");
    sandbox.ping().await.unwrap();
    sandbox.stop().await.unwrap();
    assert!(!sandbox.is_alive());
}

#[tokio::test]
async fn the_environment_is_ours_and_the_callers_and_nothing_of_the_hosts() {
    let host = host();
    let spec = Spec::new(id("env"))
        .env("GREETING", "hallo du")
        .env("TZ", "Europe/Berlin");
    let sandbox = host.local.attach(spec).await.unwrap();
    let names = ok(&sandbox, "env | cut -d= -f1 | sort | tr '\\n' ' '").await;
    assert_eq!(
        names,
        "GREETING HOME LANG OLDPWD PATH PWD SHELL SHLVL TZ USER _ ".replace("OLDPWD ", "")
    );
    assert_eq!(
        ok(&sandbox, "echo $HOME $LANG $TZ $GREETING").await,
        "/root C.UTF-8 Europe/Berlin hallo du"
    );
}

#[tokio::test]
async fn a_malformed_environment_is_the_callers_mistake() {
    let host = host();
    for (name, value) in [("", "x"), ("A=B", "x"), ("A", "x\0y")] {
        let spec = Spec::new(id("bad")).env(name, value);
        let refused = host.local.attach(spec).await.err().unwrap();
        assert!(
            matches!(refused, sandbox::Error::Invalid { .. }),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn the_directories_of_the_contract_are_there_from_the_first_command() {
    let host = host();
    let sandbox = host.attach("dirs").await;
    ok(&sandbox, "touch /workspace/a /mnt/session/outputs/b /root/c /etc/d /tmp/e /run/f /dev/shm/g /var/tmp/h").await;
    let refused = bash(&sandbox, "touch /mnt/session/uploads/x").await;
    assert!(
        refused.is_error && text(&refused).contains("Read-only file system"),
        "{refused:?}"
    );
    let refused = bash(&sandbox, "touch /usr/x").await;
    assert!(
        refused.is_error && text(&refused).contains("Read-only file system"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn the_languages_of_the_host_run() {
    let host = host();
    let sandbox = host.attach("languages").await;
    assert_eq!(ok(&sandbox, "python3 -c 'print(6*7)'").await, "42");
    ok(&sandbox, "git init -q r && cd r && git config user.email a@b.c && git config user.name n && touch f && git add f && git commit -qm m && git clone -q . ../s").await;
    assert_eq!(
        ok(
            &sandbox,
            "cd /workspace; printf 'a b' | awk '{print $2}'; locale -a | grep -ci c.utf"
        )
        .await,
        "b\n1"
    );
    if std::path::Path::new("/usr/bin/node").exists() {
        assert_eq!(ok(&sandbox, "node -e 'console.log(6*7)'").await, "42");
    }
    if std::path::Path::new("/usr/bin/cc").exists() {
        ok(
            &sandbox,
            "printf 'int main(void){return 0;}' > m.c && cc m.c -o m && ./m",
        )
        .await;
    }
}

#[tokio::test]
async fn threads_child_processes_and_terminals_work() {
    let host = host();
    let sandbox = host.attach("threads").await;
    let program = "import concurrent.futures as c, subprocess as s, pty, os\n\
        print(sum(c.ThreadPoolExecutor(8).map(abs, range(10))))\n\
        print(s.run(['true']).returncode)\n\
        m, t = pty.openpty(); print(os.ttyname(t).startswith('/dev/pts/'))\n";
    let command = format!("python3 - <<'E'\n{program}E");
    assert_eq!(ok(&sandbox, &command).await, "45\n0\nTrue");
}
