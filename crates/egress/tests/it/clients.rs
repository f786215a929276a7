//! Programs that people use, as they are, from inside a sandbox to servers whose TLS is looked into: each trusts
//! the sandbox's certificates without being told on its command line.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use sandbox::Sandbox;

use crate::ground::{SERVER, on_ground, policy, run};
use crate::upstreams::{BOTH, FILES, Shown, https};

const RULES: &str = "networking = { type = 'unrestricted' }\n\
    [[rules]]\nname = 'no secrets'\naction = 'deny'\nto = ['allowed.test']\npaths = ['/secret']\n\
    [[rules]]\nname = 'the database'\naction = 'allow'\nto = ['10.0.0.5']\nports = [5432]\n";

/// A program, what it does with a server, and what it prints then.
const PROGRAMS: &[(&str, &str, &str)] = &[
    (
        "curl",
        "curl -sS https://allowed.test/x; curl -s -o /dev/null -w '%{http_code}' https://allowed.test/secret",
        "hello /x\n403",
    ),
    (
        "wget",
        "wget -q -O - https://allowed.test/x; wget -q -O - https://allowed.test/secret; echo $?",
        "hello /x\n8",
    ),
    (
        "openssl",
        "printf 'GET /x HTTP/1.0\\r\\nHost: allowed.test\\r\\n\\r\\n' | openssl s_client -quiet -verify_return_error -servername allowed.test -connect allowed.test:443 2>/dev/null | tail -1",
        "hello /x",
    ),
    (
        "python3",
        "/usr/bin/python3 -c \"import urllib.request as u; print(u.urlopen('https://allowed.test/x').read().decode().strip())\"",
        "hello /x",
    ),
    (
        "python3",
        "/usr/bin/python3 -c \"from pip._vendor import requests as r; s = r.Session(); print([s.get('https://allowed.test' + p).status_code for p in ('/x', '/secret', '/y')])\"",
        "[200, 403, 200]",
    ),
    (
        "pip3",
        "/usr/bin/python3 -m pip install -q --no-deps --disable-pip-version-check --root-user-action=ignore --break-system-packages --index-url https://allowed.test/simple --target /tmp/pip lhtest && PYTHONPATH=/tmp/pip /usr/bin/python3 -c 'import lhtest; print(lhtest.here)'",
        "from a wheel",
    ),
    (
        "node",
        "node -e \"(async () => { for (const p of ['/x', '/secret']) { const r = await fetch('https://allowed.test' + p); console.log(r.status, (await r.text()).trim().slice(0, 8)); } })()\"",
        "200 hello /x\n403 longhand",
    ),
    (
        "node",
        "node -e \"const c = require('http2').connect('https://allowed.test'); const r = c.request({':path': '/trailers', te: 'trailers'}); let b = ''; r.on('data', d => b += d); r.on('trailers', t => { console.log(b, t['grpc-status']); c.close(); }); r.end();\"",
        "body 0",
    ),
    (
        "npm",
        "mkdir -p /tmp/npm && cd /tmp/npm && npm install --silent --no-audit --no-fund --registry https://allowed.test/ lhnpm >/dev/null && node -p \"require('lhnpm')\"",
        "from a tarball",
    ),
    (
        "git",
        "cd /tmp && git clone -q https://allowed.test/git/one.git && cd one && cat README && echo more >>README && git -c user.name=a -c user.email=a@a.test commit -qam more && git push -q origin HEAD && git ls-remote -q origin HEAD | cut -c41- && git status -sb | head -1",
        "read me\n\tHEAD\n## main...origin/main",
    ),
    (
        "javac",
        "cd /tmp && printf 'import java.net.http.*; import java.net.*; public class Get { public static void main(String[] a) throws Exception { var c = HttpClient.newHttpClient(); for (var p : a) { var r = c.send(HttpRequest.newBuilder(URI.create(\"https://allowed.test\" + p)).build(), HttpResponse.BodyHandlers.ofString()); System.out.println(r.statusCode() + \" \" + r.version()); } } }' >Get.java && $(dirname $(readlink -f $(command -v javac)))/java Get.java /x /secret && keytool -list -cacerts -storepass changeit -alias longhand-egress 2>/dev/null | cut -d, -f1 | head -1",
        "200 HTTP_2\n403 HTTP_2\nlonghand-egress",
    ),
    (
        "/workspace/cargo",
        "mkdir -p /tmp/crate/src /tmp/cargo && cd /tmp/crate && touch src/lib.rs && printf '[package]\nname = \"a\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\nlhcrate = \"1\"\n' >Cargo.toml && \
         printf '[source.crates-io]\nreplace-with = \"here\"\n[source.here]\nregistry = \"sparse+https://allowed.test/index/\"\n' >/tmp/cargo/config.toml && \
         CARGO_HOME=/tmp/cargo /workspace/cargo vendor -q --versioned-dirs --respect-source-config >/dev/null && cat vendor/lhcrate-1.0.0/src/lib.rs",
        "// from a crate",
    ),
    // In Go, over gRPC.
    (
        "etcdctl",
        "ETCDCTL_API=3 etcdctl --endpoints=https://allowed.test:443 --command-timeout=20s get key -w json",
        "{}",
    ),
    (
        "python3",
        "/usr/bin/python3 -c \"
import grpc
to = grpc.secure_channel('allowed.test:443', grpc.ssl_channel_credentials())
def call(path, what):
    try: return to.unary_unary(path)(what, timeout=20).decode()
    except grpc.RpcError as e: return e.code().name
print(call('/lh.Echo/Say', b'hello'), call('/secret/Say', b'hello'))\" 2>/dev/null",
        "hello PERMISSION_DENIED",
    ),
    (
        "python3",
        "/usr/bin/python3 -c \"import httpx; c = httpx.Client(); print([c.get('https://allowed.test' + p).status_code for p in ('/x', '/secret', '/y')])\"",
        "[200, 403, 200]",
    ),
    (
        "python3",
        "/usr/bin/python3 -c \"
import aiohttp, asyncio
async def main():
    async with aiohttp.ClientSession() as s:
        for p in ('/x', '/secret'):
            async with s.get('https://allowed.test' + p) as r: print(r.status, (await r.text())[:8])
        async with s.ws_connect('https://allowed.test/ws') as w:
            await w.send_str('to and fro'); print((await w.receive()).data)
asyncio.run(main())\"",
        "200 hello /x\n403 longhand\nto and fro",
    ),
    (
        "python3",
        "/usr/bin/python3 -c \"
import asyncio, websockets
async def main():
    async with websockets.connect('wss://allowed.test/ws') as w:
        await w.send('hello'); print(await w.recv())
    try: await websockets.connect('wss://allowed.test/secret')
    except websockets.InvalidStatusCode as e: print(e.status_code)
asyncio.run(main())\"",
        "hello\n403",
    ),
    // The directory of certificates, without the file.
    (
        "openssl",
        "printf 'GET /x HTTP/1.0\\r\\nHost: allowed.test\\r\\n\\r\\n' | SSL_CERT_FILE=/nowhere SSL_CERT_DIR=/etc/ssl/certs openssl s_client -quiet -verify_return_error -servername allowed.test -connect allowed.test:443 2>/dev/null | tail -1",
        "hello /x",
    ),
    (
        "psql",
        "PGCONNECT_TIMEOUT=20 psql -At 'host=10.0.0.5 user=agent dbname=one sslmode=disable' -c 'select 1'; PGCONNECT_TIMEOUT=20 psql -At 'host=192.168.0.5 user=agent dbname=one' -c 'select 1' 2>&1 | grep -c -e reset -e closed",
        "42\n1",
    ),
];

#[test]
fn programs_reach_what_they_may_and_are_told_what_they_may_not() {
    on_ground(policy(RULES), |ground| async move {
        let served = tempfile::tempdir().unwrap();
        fill(served.path());
        let _server = ground.server(SERVER, 443, https(BOTH, Shown::Good));
        let _database = ground.server("10.0.0.5", 5432, postgres);
        let other = ground.server("192.168.0.5", 5432, postgres);
        let sandbox = ground.sandbox("clients").await;
        // No template has it: the one that builds this.
        let cargo = std::fs::read(env!("CARGO")).unwrap();
        let mut upload = sandbox
            .write("/workspace/cargo", Some(0o755))
            .await
            .unwrap();
        upload.send(&cargo).await.unwrap();
        upload.finish().await.unwrap();
        let absent = each(&sandbox, PROGRAMS).await;
        println!("not on this machine: {absent:?}");
        assert_eq!(other.connections(), 0);
        let text = String::from_utf8(FILES.lock().unwrap()["git"].clone()).unwrap();
        let log = Command::new("git")
            .args(["-C", &format!("{text}/one.git"), "log", "--format=%s"])
            .output();
        if !absent.contains(&"git") {
            assert_eq!(
                String::from_utf8_lossy(&log.unwrap().stdout),
                "more\nfirst\n"
            );
        }
        ground
            .recorded("is of the push", |it| {
                it.path.as_deref() == Some("/git/one.git/git-receive-pack")
            })
            .await;
        ground
            .recorded("is of the database", |it| {
                it.port == Some(5432) && it.bytes_in > 0
            })
            .await;
    });
}

/// Has each program do what it does, and looks at what it prints; those that are not there.
pub async fn each<'a>(
    sandbox: &Arc<dyn Sandbox>,
    programs: &[(&'a str, &str, &str)],
) -> Vec<&'a str> {
    let mut absent = Vec::new();
    for (program, command, expected) in programs {
        let is_there =
            format!("{{ command -v {program} || ls {program}; }} >/dev/null 2>&1 && echo yes");
        if run(sandbox, &is_there).await != "yes" {
            absent.push(*program);
            continue;
        }
        let said = run(sandbox, &format!("({command}) 2>&1")).await;
        assert_eq!(said, expected.trim(), "{program}: {command}");
    }
    absent
}

/// A wheel, a tarball and a repository, made by the tools of this machine.
pub fn fill(dir: &Path) {
    let made = Command::new("sh")
        .arg("-ec")
        .arg(
            "mkdir -p w/lhtest-1.0.dist-info package git; echo \"here = 'from a wheel'\" >w/lhtest.py\n\
             printf 'Metadata-Version: 2.1\\nName: lhtest\\nVersion: 1.0\\n' >w/lhtest-1.0.dist-info/METADATA\n\
             printf 'Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n' >w/lhtest-1.0.dist-info/WHEEL\n\
             printf 'lhtest.py,,\\nlhtest-1.0.dist-info/METADATA,,\\nlhtest-1.0.dist-info/WHEEL,,\\nlhtest-1.0.dist-info/RECORD,,\\n' >w/lhtest-1.0.dist-info/RECORD\n\
             python3 -c 'import shutil; shutil.make_archive(\"wheel\", \"zip\", \"w\")'\n\
             printf '{\"name\":\"lhnpm\",\"version\":\"1.0.0\",\"main\":\"i.js\"}' >package/package.json; echo \"module.exports = 'from a tarball'\" >package/i.js\n\
             tar czf package.tgz package\n\
             mkdir -p lhcrate-1.0.0/src; echo '// from a crate' >lhcrate-1.0.0/src/lib.rs\n\
             printf '[package]\\nname = \"lhcrate\"\\nversion = \"1.0.0\"\\nedition = \"2021\"\\n' >lhcrate-1.0.0/Cargo.toml\n\
             tar czf lhcrate.crate lhcrate-1.0.0; sha256sum lhcrate.crate | cut -c1-64 | tr -d '\\n' >sum\n\
             git init -q -b main seed; cd seed; echo 'read me' >README; git add README; git -c user.name=a -c user.email=a@a.test commit -qm first\n\
             git clone -q --bare . ../git/one.git; git -C ../git/one.git config http.receivepack true",
        )
        .current_dir(dir)
        .env("HOME", dir)
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    let mut files = FILES.lock().unwrap();
    let mut put = |path: &str, content: Vec<u8>| files.insert(path.to_owned(), content);
    let link = "<a href=\"/files/lhtest-1.0-py3-none-any.whl\">lhtest-1.0-py3-none-any.whl</a>";
    put("/simple/lhtest/", link.into());
    put("/files/lhtest-1.0-py3-none-any.whl", read("wheel.zip"));
    let described = "{\"name\":\"lhnpm\",\"dist-tags\":{\"latest\":\"1.0.0\"},\"versions\":{\"1.0.0\":{\"name\":\"lhnpm\",\"version\":\"1.0.0\",\
        \"dist\":{\"tarball\":\"https://allowed.test/files/lhnpm-1.0.0.tgz\"}}}}";
    put("/lhnpm", described.into());
    put("/files/lhnpm-1.0.0.tgz", read("package.tgz"));
    let index = "{\"dl\":\"https://allowed.test/crates/{crate}-{version}.crate\"}";
    put("/index/config.json", index.into());
    let sum = String::from_utf8(read("sum")).unwrap();
    let version = format!(
        "{{\"name\":\"lhcrate\",\"vers\":\"1.0.0\",\"deps\":[],\"cksum\":\"{sum}\",\"features\":{{}},\"yanked\":false}}\n"
    );
    put("/index/lh/cr/lhcrate", version.into());
    put("/crates/lhcrate-1.0.0.crate", read("lhcrate.crate"));
    put("git", dir.join("git").to_string_lossy().as_bytes().to_vec());
}

/// As much of PostgreSQL as one query takes.
fn postgres(mut stream: std::net::TcpStream, _: &std::sync::Arc<std::sync::Mutex<Vec<u8>>>) {
    let mut buffer = [0; 4096];
    // The start, which asks for no TLS.
    if !matches!(stream.read(&mut buffer), Ok(1..)) {
        return;
    }
    let ready = b"Z\0\0\0\x05I";
    let hello: Vec<u8> = [&b"R\0\0\0\x08\0\0\0\0"[..], &ready[..]].concat();
    stream.write_all(&hello).unwrap();
    if !matches!(stream.read(&mut buffer), Ok(1..)) {
        return;
    }
    let column = b"T\0\0\0\x1a\0\x01a\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0";
    let row = b"D\0\0\0\x0c\0\x01\0\0\0\x0242";
    let done = b"C\0\0\0\x0dSELECT 1\0";
    let answer: Vec<u8> = [&column[..], &row[..], &done[..], &ready[..]].concat();
    stream.write_all(&answer).unwrap();
    // Its farewell.
    let _ = stream.read(&mut buffer);
}
