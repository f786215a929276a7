//! A server without any right: what its sandboxes have all the same, what they lack, and that they say so.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use sandbox::{
    Config, Disk, DiskKind, Ends, Error, Level, Local, Network, Provider, SandboxId, Spec,
};
use serde_json::json;

use crate::support::{attach, bash, host, id, ok, python, text, until};
use crate::templates;

/// A user that nobody is.
const USER: &str = "61234";
/// Where that one may write.
const DIR: &str = "SANDBOX_TEST_ROOTLESS";
/// Before what the other process has found.
const FOUND: &str = "rootless-found ";

/// Answers each connection with the address that it was made to.
#[derive(Debug)]
struct Answers;

#[async_trait::async_trait]
impl Network for Answers {
    async fn attach(&self, _: &SandboxId, ends: Ends) -> Result<(), Error> {
        let (carries, theirs) = jail::control::pair().unwrap();
        jail::control::send(&ends.line, &jail::control::Carries, &[theirs.as_fd()]).unwrap();
        let listener = std::net::TcpListener::from(ends.tcp);
        listener.set_nonblocking(false).unwrap();
        // Ends with the process.
        std::thread::spawn(move || {
            let _carries = carries;
            for mut client in listener.incoming().flatten() {
                let to = client.local_addr().unwrap().to_string();
                let _ = client.write_all(to.as_bytes());
            }
        });
        Ok(())
    }

    fn gone(&self, _: &SandboxId) {}
}

/// What [`other_user`] finds, without rights; with a range of ids in `/etc/subuid` and `/etc/subgid`, or without.
async fn found_by_another_user(given: bool) -> serde_json::Value {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(dir.path(), Some(61234), Some(61234)).unwrap();
    let etc = tempfile::tempdir().unwrap();
    std::fs::set_permissions(
        etc.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let ranges = if given {
        "nobodys:1500000000:65536\n"
    } else {
        ""
    };
    for (file, more) in [
        ("passwd", "nobodys:x:61234:61234::/:/bin/sh\n"),
        ("subuid", ranges),
        ("subgid", ranges),
    ] {
        let text = std::fs::read_to_string(Path::new("/etc").join(file)).unwrap_or_default();
        std::fs::write(etc.path().join(file), text + more).unwrap();
    }
    // Seen by this command alone.
    let place = "for file in passwd subuid subgid; do test -e /etc/$file || : > /etc/$file; \
        mount --bind \"$0/$file\" /etc/$file || exit 1; done; exec setpriv \"$@\"";
    let mut other = Command::new("unshare");
    other
        .args(["--mount", "sh", "-c", place])
        .arg(etc.path())
        .args(["--reuid", USER, "--regid", USER, "--clear-groups", "--"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "rootless::other_user",
            "--ignored",
            "--nocapture",
        ])
        .env(DIR, dir.path())
        .stderr(Stdio::inherit());
    let said = tokio::task::spawn_blocking(move || other.output().unwrap());
    let said = String::from_utf8(said.await.unwrap().stdout).unwrap();
    let found = said
        .split_once(FOUND)
        .map(|(_, found)| found.lines().next());
    serde_json::from_str(
        found
            .flatten()
            .unwrap_or_else(|| panic!("the other process failed: {said}")),
    )
    .unwrap()
}

#[tokio::test]
async fn who_has_no_right_runs_sandboxes_that_are_weaker_and_say_so() {
    let found = found_by_another_user(false).await;
    // All of this is as it is for root.
    let same = json!({
        "ids": "0 0", "capabilities": "00000000800405fb", "privileges": "NoNewPrivs:\t1 Seccomp:\t2",
        "host files": "ENOENT", "usr": "EACCES", "settings": "EACCES", "processes": "3", "hand": "EACCES EPERM",
        "port": "ECONNREFUSED", "namespace": "EPERM", "mount": "EPERM", "name": "EPERM", "host": "sandbox",
        "limit": "EAGAIN", "core": "(1, 1)", "kept": "kept", "moved": "moved",
        "template": "of the template\nown\nbin\nlib\nlib64",
        "network": "[::ffff:192.0.2.1]:80 [2001:db8::1]:443", "own loopback": "own", "rules": "EPERM EPERM",
    });
    for (what, seen) in same.as_object().unwrap() {
        assert_eq!(&found[what], seen, "{what} in {found}");
    }
    // And this is weaker.
    assert_eq!(found["other ids"], "EINVAL");
    assert_eq!(found["level"], "basic");
    let weaker = found["weaker"].to_string();
    for lacking in [
        "no ids of its own",
        "memory: held by resource limits of each process",
        "disk: held by counting",
    ] {
        assert!(weaker.contains(lacking), "{weaker}");
    }
    let doctor = found["doctor"].to_string();
    assert!(doctor.contains("outside it is user 61234"), "{doctor}");
    // The kernel chooses no socket for it, but follows its rules.
    assert_eq!(found["steering"], "Ok(Tproxy)");
    assert_eq!(found["image"], "attach the sandbox's own disk");
    assert_eq!(found["left"], json!([]), "nothing stays behind");
}

#[tokio::test]
async fn who_was_given_ids_runs_programs_that_change_their_user_and_can_remove_what_those_leave() {
    assert!(
        Path::new("/usr/bin/newuidmap").exists(),
        "this needs newuidmap and newgidmap (package uidmap)"
    );
    let found = found_by_another_user(true).await;
    for (what, seen) in [
        ("ids", "0 0"),
        ("groups", "[]"),
        ("other ids", "done"),
        ("another user", "1000 1000"),
        ("capabilities", "00000000800405fb"),
        ("host files", "ENOENT"),
        ("namespace", "EPERM"),
        ("limit", "EAGAIN"),
        ("level", "basic"),
        ("kept", "kept"),
    ] {
        assert_eq!(found[what], seen, "{what} in {found}");
    }
    let weaker = found["weaker"].to_string();
    assert!(!weaker.contains("change their user"), "{weaker}");
    let doctor = found["doctor"].to_string();
    assert!(doctor.contains("those of /etc/subuid"), "{doctor}");
    assert_eq!(found["left"], json!([]), "nothing stays behind");
}

/// What it finds, in words.
#[tokio::test]
#[ignore = "the body of the process that another user runs"]
async fn other_user() {
    let dir = std::path::PathBuf::from(std::env::var_os(DIR).unwrap());
    let sandboxes = dir.join("sandboxes");
    let mut config = Config::beside(&sandboxes);
    config.network = Some(Arc::new(Answers));
    let local = Local::new(sandboxes.clone(), config).unwrap();
    let sandbox = attach(&local, "weak").await;
    let secret = dir.join("secret");
    std::fs::write(&secret, "secret").unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let program = format!(
        "status = dict(l.split(':', 1) for l in open('/proc/self/status'))\n\
         import json, resource\n\
         found = {{}}\n\
         found['ids'] = '%d %d' % (os.getuid(), os.getgid())\n\
         found['capabilities'] = status['CapEff'].strip()[-16:]\n\
         found['privileges'] = 'NoNewPrivs:' + status['NoNewPrivs'].rstrip() + ' Seccomp:' + status['Seccomp'].rstrip()\n\
         found['host files'] = opened('{secret}', os.O_RDONLY)\n\
         found['usr'] = opened('/usr/bin/env', os.O_WRONLY)\n\
         found['settings'] = opened('/proc/sys/kernel/core_pattern', os.O_WRONLY)\n\
         found['processes'] = str(len([p for p in os.listdir('/proc') if p.isdigit()]))\n\
         found['hand'] = opened('/proc/1/mem', os.O_RDWR) + ' ' + str(call(101, 16, 1, 0, 0))\n\
         s = socket.socket(); found['port'] = done(tried(lambda: s.connect(('127.0.0.1', {port}))))\n\
         reached = lambda *to: socket.create_connection(to, timeout=30).recv(100).decode()\n\
         found['network'] = reached('192.0.2.1', 80) + ' ' + reached('2001:db8::1', 443)\n\
         s = socket.create_server(('0.0.0.0', 80)); c = socket.create_connection(('127.0.0.1', 80)); c.send(b'own')\n\
         found['own loopback'] = s.accept()[0].recv(3).decode()\n\
         import fcntl\n\
         found['rules'] = done(tried(lambda: socket.socket(16, 3, 12))) + ' ' + done(tried(lambda: fcntl.ioctl(s, 0x8914, struct.pack('16sH14x', b'lo', 0))))\n\
         found['namespace'] = str(call(272, 0x10000000))\n\
         found['mount'] = str(call(165, b'none', b'/mnt', b'tmpfs', 0, 0))\n\
         found['name'] = str(call(170, b'x', 1))\n\
         found['host'] = os.uname().nodename\n\
         found['core'] = str(resource.getrlimit(resource.RLIMIT_CORE))\n\
         found['groups'] = str(os.getgroups())\n\
         import subprocess\n\
         as_other = 'umask 077; mkdir -p /tmp/x /var/tmp/theirs/deep; touch /var/tmp/theirs/deep/f; echo $(id -u) $(id -g)'\n\
         found['another user'] = subprocess.run(['setpriv', '--reuid', '1000', '--regid', '1000', '--clear-groups', 'sh', '-c', as_other], capture_output=True, text=True).stdout.strip()\n\
         found['other ids'] = done(tried(lambda: os.chown('/workspace', 1000, 1000)))\n\
         pids = []\n\
         try:\n    \
             while len(pids) < 5000:\n        \
                 pid = os.fork()\n        \
                 if pid == 0: signal.pause()\n        \
                 pids.append(pid)\n\
         except OSError as e: found['limit'] = errno.errorcode[e.errno]\n\
         for pid in pids: os.kill(pid, 9)\n\
         print(json.dumps(found))\n",
        secret = secret.display(),
    );
    let said = python(&sandbox, &program).await;
    let mut found: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    // Files stay over a stop; directories of the template can be changed and moved.
    ok(
        &sandbox,
        "echo kept > /etc/kept; mkdir -p a/b; chmod 0 a/b; mv a moved; chmod 000 moved",
    )
    .await;
    let isolation = sandbox.isolation().unwrap();
    assert_eq!(local.isolation().await.unwrap().level, isolation.level);
    found["level"] = isolation.level.name().into();
    found["weaker"] = isolation.weaker().into();
    sandbox.stop().await.unwrap();
    let again = attach(&local, "weak").await;
    found["kept"] = ok(&again, "cat /etc/kept").await.into();
    found["moved"] = ok(&again, "ls -d moved").await.into();
    let slept = bash(&again, "sleep 1000 & disown; echo started").await;
    assert!(!slept.is_error, "{}", text(&slept));
    again.pause().await.unwrap();
    again.resume().await.unwrap();
    again.stop().await.unwrap();
    templates::import(&dir, templates::tar(templates::little().path()), "little");
    let on = templates::on(&local, "on", "little").await;
    let seen = "cat /opt/there/mark; echo own > /usr/lib/own; cat /usr/lib/own; ls /usr";
    found["template"] = ok(&on, seen).await.into();
    on.stop().await.unwrap();
    local.delete(&id("on")).await.unwrap();
    found["steering"] = format!("{:?}", local.try_network().await).into();
    let doctor = local.probe().await;
    assert!(doctor.can_run(), "{doctor:?}");
    let lines = doctor.findings.iter().map(|finding| finding.detail.clone());
    found["doctor"] = lines.collect::<Vec<_>>().into();
    local.delete(&id("weak")).await.unwrap();
    let mut config = Config::beside(&sandboxes);
    config.allowance.disk = Disk {
        bytes: 64 << 20,
        files: 0,
        kind: DiskKind::Image,
    };
    let hard = Local::new(sandboxes.clone(), config).unwrap();
    found["image"] = match hard.attach(Spec::new(id("hard"))).await {
        Err(Error::Unsupported { step, .. }) => step.into(),
        Err(other) => other.to_string().into(),
        Ok(_) => "it has one".into(),
    };
    hard.delete(&id("hard")).await.unwrap();
    let trash = dir.join("trash");
    until("the trash is empty", || async {
        std::fs::read_dir(&trash).unwrap().next().is_none()
    })
    .await;
    let left = std::fs::read_dir(&sandboxes).unwrap().flatten();
    let left = left.map(|entry| entry.file_name().into_string().unwrap());
    found["left"] = left
        .filter(|name| !name.starts_with('.'))
        .collect::<Vec<_>>()
        .into();
    local.shutdown().await;
    println!("{FOUND}{found}");
}

#[tokio::test]
async fn root_gives_ids_of_their_own_and_says_which_level_that_is() {
    let host = host();
    let sandbox = host.attach("strong").await;
    let isolation = sandbox.isolation().unwrap();
    assert!(
        isolation.own_ids && isolation.level >= Level::Ids,
        "{isolation:?}"
    );
    assert_eq!(host.local.isolation().await.unwrap(), isolation);
    let map = ok(&sandbox, "cat /proc/self/uid_map").await;
    let map: Vec<_> = map.split_whitespace().collect();
    assert!(
        map[0] == "0" && map[1] != "0" && map[2] == "65536",
        "{map:?}"
    );
}
