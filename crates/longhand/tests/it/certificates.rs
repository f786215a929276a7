//! A client certificate of the operator's on its whole way: from the configuration through the server and its egress process
//! to a server that demands one. Its key is in no sandbox.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::injected::own_address;
use crate::stage::{self, Stage};

/// A server that ends where the test does.
pub struct Demanding(Child);

impl Drop for Demanding {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Says its port, then answers each request with the name on the certificate that it was shown, and what it was told, which
/// stands in `heads` too. At a path that ends in `wait` it answers when `go` is there.
const SERVER: &str = "
import http.server, os, ssl, sys, time
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        shown = dict(part[0] for part in self.connection.getpeercert()['subject'])
        head = self.requestline + '\\n' + str(self.headers)
        with open('heads', 'a') as heads: heads.write(head)
        while self.path.split('?')[0].endswith('wait') and not os.path.exists('go'): time.sleep(0.01)
        body = ('shown ' + shown['commonName'] + '\\n' + head).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer((sys.argv[1], 0), Answer)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain('server.crt', 'server.key')
tls.load_verify_locations('root.crt')
tls.verify_mode = ssl.CERT_REQUIRED
server.socket = tls.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()";

/// Makes a root, and a certificate of it for the server and for the client.
pub fn certificates(at: &Path, address: &str) {
    let script = format!(
        "set -e
         new='openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
         $new -x509 -days 2 -keyout root.key -out root.crt -subj /CN=root
         for name in server own; do
           $new -keyout $name.key -out $name.csr -subj /CN=the-$name
           printf 'subjectAltName=IP:{address}\n' >ext
           openssl x509 -req -days 2 -in $name.csr -CA root.crt -CAkey root.key -CAcreateserial -extfile ext -out $name.crt
         done"
    );
    let made = Command::new("sh")
        .args(["-c", &script])
        .current_dir(at)
        .output();
    let made = made.expect("it runs");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let own = PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(at.join("own.key"), own).expect("private");
}

pub fn demanding(at: &Path, address: &str) -> (Demanding, u16) {
    serving(SERVER, at, address)
}

/// One that demands nothing and says that it answered.
pub fn answering(at: &Path, address: &str) -> (Demanding, u16) {
    let shown = "shown = dict(part[0] for part in self.connection.getpeercert()['subject'])";
    let program = SERVER
        .replace(shown, "shown = {}")
        .replace("'shown ' + shown['commonName']", "'answered'")
        .replace("tls.verify_mode = ssl.CERT_REQUIRED", "");
    serving(&program, at, address)
}

fn serving(program: &str, at: &Path, address: &str) -> (Demanding, u16) {
    let mut server = Command::new("/usr/bin/python3");
    let server = server.args(["-c", program, address]).current_dir(at);
    let mut child = server.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut port = String::new();
    let said = child.stdout.take().expect("what it says");
    BufReader::new(said).read_line(&mut port).expect("its port");
    (Demanding(child), port.trim().parse().expect("a port"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_demands_a_certificate_is_shown_the_operators() {
    let home = tempfile::tempdir().expect("a directory");
    let (at, address) = (home.path(), own_address());
    certificates(at, &address.to_string());
    let (_server, port) = demanding(at, &address.to_string());
    let path = |name: &str| at.join(name).display().to_string();
    let config = at.join("longhand.toml");
    let text = format!(
        "[egress]\nca_file = '{}'\n[[egress.credentials]]\nname = 'ours'\nhosts = ['{address}']\ncertificate = '{}'\nsecret_file = '{}'\n",
        path("root.crt"),
        path("own.crt"),
        path("own.key")
    );
    std::fs::write(&config, text).expect("written");
    let (launch, model) = stage::carried(address).await;
    let launch = launch.arguments(&["--config", config.to_str().expect("a text")]);
    let stage = Stage::on(launch, model, 1).await;
    let session = stage.subjects[0].session.clone();
    let ask = format!("curl -sSk --max-time 60 https://{address}:{port}/");
    let (said, _) = stage.told(&session, "asks", &ask).await;
    assert!(said.contains("shown the-own"), "{said}");
    // Whoever shows none is not answered.
    let bare = Command::new("curl")
        .args([
            "-sS",
            "--cacert",
            &path("root.crt"),
            &format!("https://{address}:{port}/"),
        ])
        .output();
    let bare = bare.expect("it runs");
    assert!(!bare.status.success() && bare.stdout.is_empty(), "{bare:?}");
    crate::egress::end(stage).await;
}
