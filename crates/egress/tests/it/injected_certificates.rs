//! Certificates that the operator has servers be shown, from inside a real sandbox: no program there has the key, nor
//! knows of it.

use std::process::Command;

use egress::audit::Action;
use egress::inject::{CredentialFile, CredentialsFile, Template};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

use crate::ground::{Ground, OTHER, SERVER, on_ground, run, unrestricted};
use crate::injected::{credential, id};
use crate::programs::{Running, certificate, client, start};

/// The root of clients that nginx takes.
fn clients() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "clients");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// nginx, which answers nobody without a certificate of a client, and says whose it was.
fn nginx(ground: &Ground, root: &str) -> (Running, TempDir) {
    let home = tempfile::tempdir().unwrap();
    certificate(home.path(), &["allowed.test", "other.test"]);
    std::fs::write(home.path().join("clients.crt"), root).unwrap();
    let at = home.path().display();
    let config = format!(
        "daemon off; master_process off; pid {at}/pid; error_log {at}/log;
         events {{}}
         http {{
           access_log off;
           client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
           uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
           server {{
             listen {SERVER}:443 ssl http2; listen {SERVER}:8443 ssl; listen {OTHER}:443 ssl http2; listen {SERVER}:80;
             ssl_certificate {at}/server.crt; ssl_certificate_key {at}/server.key;
             ssl_client_certificate {at}/clients.crt; ssl_verify_client on;
             location / {{ return 200 '$ssl_client_s_dn $ssl_client_verify $server_protocol'; }}
           }}
         }}"
    );
    std::fs::write(home.path().join("nginx.conf"), config).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-e").arg(home.path().join("log"));
    command.arg("-c").arg(home.path().join("nginx.conf"));
    let running = start(ground, command, &[(SERVER, 443), (OTHER, 443)]);
    (running, home)
}

fn shown(number: u128, (chain, key): &(String, String), hosts: &[&str]) -> CredentialFile {
    CredentialFile {
        header: false,
        body: false,
        template: Some(Template::Certificate {
            chain: chain.clone(),
        }),
        ..credential(number, key, Some(hosts))
    }
}

#[test]
fn the_operators_certificate_is_shown_to_its_hosts_and_to_no_other() {
    on_ground(unrestricted(), |ground| async move {
        let root = clients();
        let own = client("agents", &root);
        let (_nginx, _home) = nginx(&ground, &root.pem());
        let set = |credentials| {
            *ground.credentials.lock().unwrap() = CredentialsFile {
                // In clear text there is none to be shown, whatever is allowed.
                cleartext: true,
                credentials,
            };
        };
        set(vec![shown(1, &own, &["allowed.test"])]);
        let sandbox = ground.sandbox("shows").await;
        let ask = "curl -sS --max-time 60 -w ' %{http_code}'";
        for (port, spoken) in [(443, "HTTP/2.0"), (8443, "HTTP/1.1")] {
            for version in ["--http1.1", "--http2"] {
                let ask = format!("{ask} {version} https://allowed.test:{port}/");
                let told = run(&sandbox, &ask).await;
                assert_eq!(told, format!("CN=agents SUCCESS {spoken} 200"));
            }
        }
        // The same server under a name that it is not for.
        let other = run(&sandbox, &format!("{ask} -k https://other.test/")).await;
        assert!(
            other.contains("No required SSL certificate was sent"),
            "{other}"
        );
        let clear = run(&sandbox, &format!("{ask} http://allowed.test/")).await;
        assert!(
            clear.contains("over TLS only") && clear.ends_with("403"),
            "{clear}"
        );
        let used = ground
            .recorded("is of it", |it| it.credential == Some(id(1)))
            .await;
        assert_eq!(used.action, Action::Allowed);

        // One that does not open, and one of a root that the server does not know.
        let stranger = client("stranger", &clients());
        set(vec![CredentialFile {
            lent: None,
            ..shown(2, &own, &["allowed.test"])
        }]);
        let unopened = ground.sandbox("unopened").await;
        let refused = run(&unopened, &format!("{ask} https://allowed.test/")).await;
        assert!(
            refused.contains("cannot be opened") && refused.ends_with("403"),
            "{refused}"
        );
        set(vec![shown(3, &stranger, &["allowed.test"])]);
        let unknown = ground.sandbox("unknown").await;
        let refused = run(&unknown, &format!("{ask} https://allowed.test/")).await;
        assert!(refused.contains("The SSL certificate error"), "{refused}");
    });
}
