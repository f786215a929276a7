//! The server as a process of its own.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

#[test]
fn it_prints_its_address_and_ends_with_its_input() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_scripted"))
        .args(["--listen", "127.0.0.1:0", "--until-stdin-closes"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let said: serde_json::Value = serde_json::from_str(&line).unwrap();
    let addr: std::net::SocketAddr = said["listen"].as_str().unwrap().parse().unwrap();
    assert!(std::net::TcpStream::connect(addr).is_ok());
    assert_eq!(said["base_url"], format!("http://{addr}"));
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn wrong_arguments_are_refused() {
    assert_eq!(
        scripted::main_with_args(["--listen".to_owned(), "nowhere".to_owned()]),
        2
    );
    assert_eq!(scripted::main_with_args(["--help".to_owned()]), 2);
}
