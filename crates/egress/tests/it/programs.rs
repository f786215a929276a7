//! Servers of the system's own, among the servers of a ground: started with a certificate of the root that the egress
//! process trusts, and gone with the test.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, CertifiedIssuer, DnType, KeyPair};

use crate::ground::{Ground, PATIENCE};
use crate::upstreams::ROOT;

/// A program that runs until this is dropped.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a program among the servers, and waits until each of `addresses` is listened on.
pub fn start(ground: &Ground, mut command: Command, addresses: &[(&str, u16)]) -> Running {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut running = ground.among_servers(move || Running(command.spawn().unwrap()));
    for (ip, port) in addresses {
        let address = SocketAddr::new(ip.parse().unwrap(), *port);
        let deadline = Instant::now() + PATIENCE;
        while ground
            .among_servers(move || TcpStream::connect(address))
            .is_err()
        {
            let ended = running.0.try_wait().unwrap();
            assert_eq!(ended, None, "it has ended instead of listening");
            assert!(Instant::now() < deadline, "nobody listens on {address}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    running
}

/// Writes a certificate for those names, and its key, into that directory.
pub fn certificate(dir: &Path, names: &[&str]) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let params = CertificateParams::new(names).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &ROOT).unwrap();
    std::fs::write(dir.join("server.crt"), certificate.pem()).unwrap();
    std::fs::write(dir.join("server.key"), key.serialize_pem()).unwrap();
}

/// A certificate of a client of that name, and its key, as PEM.
pub fn client(name: &str, issuer: &CertifiedIssuer<'static, KeyPair>) -> (String, String) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    (certificate.pem(), key.serialize_pem())
}
