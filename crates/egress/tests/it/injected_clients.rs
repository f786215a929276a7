//! Programs that people use, with a credential that they do not have: each is told a placeholder where its secret is
//! told elsewhere, and the server lets it in.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use sandbox::Sandbox;

use crate::clients::{each, fill};
use crate::ground::{SERVER, on_ground, run, unrestricted};
use crate::injected::{credential, sandbox};
use crate::telltale::PASS;
use crate::upstreams::{BOTH, Shown, https};

/// A program, what it does with a server, and what it prints then. `P1` is the placeholder.
const PROGRAMS: &[(&str, &str, &str)] = &[
    (
        "curl",
        "curl -s -o /dev/null -w '%{http_code} ' https://allowed.test/private/x; curl -sS -H \"Authorization: Bearer $P1\" https://allowed.test/private/x; \
         printf 'machine allowed.test login me password %s\\n' $P1 >/tmp/netrc; curl -sS --netrc-file /tmp/netrc https://allowed.test/private/x",
        "401 hello /x\nhello /x",
    ),
    (
        "wget",
        "wget -q -O - --header \"X-Api-Key: $P1\" https://allowed.test/private/x; wget -q -O - --user me --password $P1 https://allowed.test/private/x",
        "hello /x\nhello /x",
    ),
    (
        "git",
        "cd /tmp && rm -rf one && git clone -q https://x-access-token:$P1@allowed.test/private/git/one.git && cd one && cat README && echo more >>README && git -c user.name=a -c user.email=a@a.test commit -qam more && git push -q origin HEAD && \
         git -c http.extraHeader=\"Authorization: Bearer $P1\" ls-remote -q https://allowed.test/private/git/one.git HEAD | cut -c41- && GIT_TERMINAL_PROMPT=0 git ls-remote https://allowed.test/private/git/one.git 2>&1 | grep -c 'terminal prompts disabled'",
        "read me\n\tHEAD\n1",
    ),
    // What `gh api` does.
    (
        "python3",
        "GH_TOKEN=$P1 /usr/bin/python3 -c \"
import os, urllib.request as u
def call(**more): return u.urlopen(u.Request('https://allowed.test/private/mirror', headers={'Authorization': 'token ' + os.environ['GH_TOKEN'], 'Accept': 'application/vnd.github+json'}, **more)).read().decode()
print(call().splitlines()[0][::-1].endswith('/mirror'), call(data=b'{}', method='PATCH').splitlines()[-1])\"",
        "True }{",
    ),
    (
        "pip3",
        "rm -rf /tmp/pip && PIP_INDEX_URL=https://agent:$P1@allowed.test/private/simple /usr/bin/python3 -m pip install -q --no-cache-dir --no-deps --disable-pip-version-check --root-user-action=ignore --break-system-packages --target /tmp/pip lhtest && PYTHONPATH=/tmp/pip /usr/bin/python3 -c 'import lhtest; print(lhtest.here)'",
        "from a wheel",
    ),
    (
        "npm",
        "rm -rf /tmp/npm && mkdir -p /tmp/npm && cd /tmp/npm && printf 'registry=https://allowed.test/private/\\n//allowed.test/private/:_authToken=${P1}\\n' >.npmrc && npm install --silent --no-audit --no-fund --cache /tmp/npm/cache lhnpm >/dev/null && node -p \"require('lhnpm')\"",
        "from a tarball",
    ),
    (
        "node",
        "node -e \"fetch('https://allowed.test/private/x', {headers: {'x-api-key': process.env.P1}}).then(async r => console.log(r.status, (await r.text()).trim()))\"",
        "200 hello /x",
    ),
    // An MCP client (Streamable HTTP).
    (
        "python3",
        "/usr/bin/python3 -c \"
import json, os, urllib.request as u
def call(method, **params):
    body = json.dumps({'jsonrpc': '2.0', 'id': 1, 'method': method, 'params': params}).encode()
    asked = u.Request('https://allowed.test/private/mcp', body, {'Authorization': 'Bearer ' + os.environ['P1'], 'Content-Type': 'application/json', 'Accept': 'application/json, text/event-stream'})
    return json.load(u.urlopen(asked))['result']
print(call('initialize', protocolVersion='2025-06-18', capabilities={}, clientInfo={'name': 'c', 'version': '1'})['serverInfo']['name'],
    call('tools/list')['tools'][0]['name'], call('tools/call', name='say', arguments={'what': 'said'})['content'][0]['text'])\"",
        "private say said",
    ),
];

/// The official SDKs, where this tree has them.
const SDKS: &[(&str, &str, &str)] = &[
    (
        "/workspace/python/anthropic/__init__.py",
        "ANTHROPIC_API_KEY=$P1 ANTHROPIC_BASE_URL=https://allowed.test/private PYTHONPATH=/workspace/python /usr/bin/python3 -c \"
import anthropic
said = anthropic.Anthropic(max_retries=0).messages.create(model='m', max_tokens=10, messages=[{'role': 'user', 'content': 'hello'}])
print(said.content[0].text)
try: anthropic.Anthropic(api_key='another', max_retries=0).messages.create(model='m', max_tokens=10, messages=[{'role': 'user', 'content': 'hello'}])
except anthropic.AuthenticationError as e: print(e.status_code)\"",
        "heard\n401",
    ),
    (
        "/workspace/typescript/node_modules/@anthropic-ai/sdk/package.json",
        "cd /workspace/typescript && ANTHROPIC_API_KEY=$P1 ANTHROPIC_BASE_URL=https://allowed.test/private node -e \"
const { default: Anthropic } = require('@anthropic-ai/sdk');
const ask = key => new Anthropic({maxRetries: 0, ...key}).messages.create({model: 'm', max_tokens: 10, messages: [{role: 'user', content: 'hello'}]});
ask({}).then(said => { console.log(said.content[0].text); return ask({apiKey: 'another'}); }).catch(e => console.log(e.status))\"",
        "heard\n401",
    ),
];

#[test]
fn programs_are_let_in_with_a_credential_that_they_do_not_have() {
    on_ground(unrestricted(), |ground| async move {
        let served = tempfile::tempdir().unwrap();
        fill(served.path());
        let server = ground.server(SERVER, 443, https(BOTH, Shown::Good));
        let all = vec![credential(1, PASS, Some(&["allowed.test"]))];
        let sandbox = sandbox(&ground, "let-in", all).await;
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        if let Some(python) = site_packages(&tree.join("target/sdk-python/lib")) {
            let tools = [
                "pip",
                "setuptools",
                "pkg_resources",
                "_pytest",
                "pygments",
                "__pycache__",
            ];
            let names = std::fs::read_dir(&python).unwrap().flatten();
            let names = names.map(|entry| entry.file_name().into_string().unwrap());
            let names: Vec<_> = names
                .filter(|name| !tools.contains(&name.as_str()))
                .collect();
            bring(&sandbox, &python, &names, "python").await;
        }
        let node = tree.join("sdk-tests/typescript");
        if node.join("node_modules").is_dir() {
            let modules = [
                "@anthropic-ai",
                "json-schema-to-ts",
                "@babel",
                "@opentelemetry",
                "ts-algebra",
                "standardwebhooks",
                "@stablelib",
                "fast-sha256",
            ];
            let modules = modules.map(|name| format!("node_modules/{name}"));
            bring(&sandbox, &node, &modules, "typescript").await;
        }

        let mut absent = each(&sandbox, PROGRAMS).await;
        absent.extend(each(&sandbox, SDKS).await);
        println!("not on this machine: {absent:?}");
        let seen = server.text();
        assert!(
            !seen.contains(PASS) && seen.contains("/private/x"),
            "{seen}"
        );
        let searched = run(&sandbox, "grep -ra --exclude-dir=proc --exclude-dir=sys --exclude-dir=usr -c 'pass/of[+]' / 2>/dev/null | grep -v ':0$'; env | grep -c 'pass/of[+]'").await;
        assert_eq!(searched, "0", "none of them has kept what it never had");
    });
}

/// The packages of an environment of Python's that has its libraries below `lib`; none if there is none for the
/// sandbox's Python.
fn site_packages(lib: &Path) -> Option<PathBuf> {
    let version = "import sys; print('python%d.%d' % sys.version_info[:2], end='')";
    let version = Command::new("/usr/bin/python3")
        .args(["-c", version])
        .output();
    let version = String::from_utf8(version.ok()?.stdout).ok()?;
    Some(lib.join(version).join("site-packages")).filter(|it| it.is_dir())
}

/// Puts what there is of `names` below `from` into a directory of the sandbox's workspace.
async fn bring(sandbox: &Arc<dyn Sandbox>, from: &Path, names: &[String], to: &str) {
    let there = names.iter().filter(|name| from.join(name).exists());
    let archive = Command::new("tar")
        .args([
            "--exclude=__pycache__",
            "--exclude=*.map",
            "--exclude=*.d.ts",
            "-C",
        ])
        .arg(from)
        .args(["-czf", "-", "--"])
        .args(there)
        .output();
    let archive = archive.unwrap().stdout;
    let mut upload = sandbox
        .write("/workspace/brought.tgz", Some(0o600))
        .await
        .unwrap();
    upload.send(&archive).await.unwrap();
    upload.finish().await.unwrap();
    let unpack = format!(
        "mkdir -p /workspace/{to} && tar -C /workspace/{to} -xzf /workspace/brought.tgz && echo ok"
    );
    assert_eq!(run(sandbox, &unpack).await, "ok");
}
