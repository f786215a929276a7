//! Whom programs of real sandboxes trust: nobody of ours until something has to look inside TLS, and then what is started
//! from that moment on, also after a pause, a new start and in a fork.

use std::sync::Arc;

use sandbox::{Provider as _, Sandbox, SandboxId};

use crate::ground::{Ground, on_ground, policy, run, unrestricted};
use crate::upstreams::{BOTH, Shown, https};

/// Something has to look inside.
const LOOKS: &str = "networking = {type = 'unrestricted'}\n[[rules]]\nname = 'no secrets'\naction = 'deny'\nto = ['allowed.test']\npaths = ['/secret']\n";
const SERVER: &str = crate::ground::SERVER;
/// Our file, variables that name it or the bundle, certificates in the bundle that are not the template's, and whether
/// Java's store is not the template's.
const STATE: &str = "echo $(ls /etc/ssl/certs/longhand.pem 2>/dev/null | wc -l) $(env | grep -c =/etc/ssl/certs/) \
    $(($(grep -c BEGIN /etc/ssl/certs/ca-certificates.crt) - $(grep -c BEGIN /etc/longhand/roots.pem))) \
    $([ -e /etc/longhand/roots.jks ] || exit 0; cmp -s /etc/longhand/roots.jks /etc/ssl/certs/java/cacerts; echo $?)";
const GET: &str = "curl -sS --max-time 30 https://allowed.test/x 2>&1";

async fn trusts_nothing_of_ours(sandbox: &Arc<dyn Sandbox>) {
    let said = run(sandbox, STATE).await;
    assert!(["0 0 0 0", "0 0 0"].contains(&said.as_str()), "{said}");
}

async fn trusts_its_authority(sandbox: &Arc<dyn Sandbox>) {
    assert_eq!(run(sandbox, GET).await, "hello /x");
    let said = run(sandbox, STATE).await;
    assert!(["1 9 1 1", "1 9 1"].contains(&said.as_str()), "{said}");
}

async fn stopped(sandbox: Arc<dyn Sandbox>) {
    sandbox.stop().await.unwrap();
}

async fn forked(ground: &Ground, from: &str, to: &str) -> Arc<dyn Sandbox> {
    let id = |name: &str| SandboxId::new(name).unwrap();
    let whole = ground.local.workspaces().unwrap();
    whole.fork(&id(from), &id(to)).await.unwrap();
    ground.sandbox(to).await
}

#[test]
fn where_nothing_looks_into_tls_nothing_of_ours_is_trusted() {
    on_ground(unrestricted(), |ground| async move {
        let _server = ground.server(SERVER, 443, https(BOTH, Shown::Good));
        let sandbox = ground.sandbox("plain").await;
        trusts_nothing_of_ours(&sandbox).await;
        let said = run(&sandbox, "curl -sS --max-time 30 -k https://allowed.test/x").await;
        assert_eq!(said, "hello /x");
        // A rule for requests in clear text looks into no TLS, nor does one that is not about requests.
        let rules = "networking = {type = 'unrestricted'}\n[[rules]]\nname = 'a'\naction = 'deny'\nto = ['allowed.test']\npaths = ['/secret']\nprotocol = 'http'\n[[rules]]\nname = 'b'\naction = 'deny'\nto = ['other.test']\nprotocol = 'tls'\n";
        ground.set_policy("plain", &policy(rules)).await;
        trusts_nothing_of_ours(&sandbox).await;
    });
}

#[test]
fn a_change_that_looks_into_tls_is_trusted_by_what_is_started_then_and_by_what_reads_again() {
    on_ground(unrestricted(), |ground| async move {
        let _server = ground.server(SERVER, 443, https(BOTH, Shown::Good));
        let sandbox = ground.sandbox("later").await;
        // It has read whom to trust, and a program has added to that.
        let runs = "cat >/tmp/before.py <<'END'\n\
            import os, socket, ssl, time\n\
            bundle = '/etc/ssl/certs/ca-certificates.crt'\n\
            read, looks = ssl.create_default_context(cafile=bundle), ssl.create_default_context()\n\
            open('/tmp/ready', 'w').close()\n\
            while not os.path.exists('/tmp/go'): time.sleep(0.01)\n\
            def tried(context):\n    \
                try: context.wrap_socket(socket.create_connection(('allowed.test', 443)), server_hostname='allowed.test').close(); return 'trusted'\n    \
                except ssl.SSLError as e: return e.reason\n\
            print(tried(read), tried(ssl.create_default_context(cafile=bundle)), tried(looks))\n\
            END\n\
            env -u SSL_CERT_FILE python3 /tmp/before.py >/tmp/said 2>&1 & \
            while [ ! -e /tmp/ready ]; do sleep 0.01; done; echo '# mine' >>/etc/ssl/certs/ca-certificates.crt";
        run(&sandbox, runs).await;
        trusts_nothing_of_ours(&sandbox).await;
        ground.set_policy("later", &policy(LOOKS)).await;
        // In the shell that ran already, too.
        trusts_its_authority(&sandbox).await;
        let said = run(&sandbox, "grep -c '^# mine' /etc/ssl/certs/ca-certificates.crt; curl -sS -o /dev/null -w '%{http_code}' https://allowed.test/secret").await;
        assert_eq!(said, "1\n403");
        let said = run(&sandbox, "touch /tmp/go; wait; cat /tmp/said").await;
        // Who has read the bundle has to read it again; who looks into the directory each time does not.
        assert_eq!(said, "CERTIFICATE_VERIFY_FAILED trusted trusted");
        // What is trusted stays as long as it runs: programs have read it.
        ground.set_policy("later", &unrestricted()).await;
        let said = run(&sandbox, STATE).await;
        assert!(said.starts_with("1 9 1"), "{said}");
    });
}

#[test]
fn a_sandbox_that_stands_still_is_told_whom_to_trust_when_it_goes_on() {
    on_ground(unrestricted(), |ground| async move {
        let _server = ground.server(SERVER, 443, https(BOTH, Shown::Good));
        let sandbox = ground.sandbox("paused").await;
        trusts_nothing_of_ours(&sandbox).await;
        sandbox.pause().await.unwrap();
        ground.set_policy("paused", &policy(LOOKS)).await;
        assert!(sandbox.is_paused(), "nobody wakes it for that");
        sandbox.resume().await.unwrap();
        trusts_its_authority(&sandbox).await;
    });
}

#[test]
fn a_new_start_and_a_fork_trust_the_authority_of_now_and_no_former_one() {
    on_ground(policy(LOOKS), |ground| async move {
        let _server = ground.server(SERVER, 443, https(BOTH, Shown::Good));
        let sandbox = ground.sandbox("first").await;
        trusts_its_authority(&sandbox).await;
        let own =
            "cat /etc/ssl/certs/longhand.pem; echo '# mine' >>/etc/ssl/certs/ca-certificates.crt";
        let former = run(&sandbox, own).await;
        stopped(sandbox).await;
        let sandbox = ground.sandbox("first").await;
        trusts_its_authority(&sandbox).await;
        assert_ne!(
            run(&sandbox, "cat /etc/ssl/certs/longhand.pem").await,
            former
        );
        stopped(sandbox).await;
        let fork = forked(&ground, "first", "fork").await;
        trusts_its_authority(&fork).await;
        stopped(fork).await;
        // Nothing looks inside any more: what an earlier start left is gone, and nothing else.
        ground.start_with(unrestricted());
        let sandbox = ground.sandbox("fork").await;
        trusts_nothing_of_ours_and_keeps_mine(&sandbox).await;
        stopped(sandbox).await;
        for sandbox in [
            ground.sandbox("first").await,
            forked(&ground, "fork", "another").await,
        ] {
            trusts_nothing_of_ours_and_keeps_mine(&sandbox).await;
        }
    });
}

async fn trusts_nothing_of_ours_and_keeps_mine(sandbox: &Arc<dyn Sandbox>) {
    trusts_nothing_of_ours(sandbox).await;
    let kept = "grep -c '^# mine' /etc/ssl/certs/ca-certificates.crt";
    assert_eq!(run(sandbox, kept).await, "1");
}
