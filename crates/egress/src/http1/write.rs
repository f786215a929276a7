//! A head in the one form in which it is forwarded. It must never write what was not read, but for `Host`.

use super::head::{Head, Header, TargetForm, Upgrade, Version};
use crate::name::Target;

impl Head<'_> {
    /// The bytes to forward: the canonical path, one `Host` in front, and no upgrade but to a WebSocket.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        let version = match self.version {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        };
        let target = match &self.target {
            TargetForm::Asterisk => "*".to_owned(),
            TargetForm::Path(path, None) => path.as_str().to_owned(),
            TargetForm::Path(path, Some(query)) => format!("{}?{query}", path.as_str()),
        };
        let host = self.host();
        let first = format!("{} {target} {version}\r\nHost: {host}\r\n", self.method);
        out.extend_from_slice(first.as_bytes());
        for header in self.headers.iter().filter(|header| self.keeps(header)) {
            out.extend_from_slice(header.name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(header.value);
            out.extend_from_slice(b"\r\n");
        }
        if self.upgrade == Upgrade::Other {
            let connection = if self.keep_alive {
                "keep-alive"
            } else {
                "close"
            };
            out.extend_from_slice(format!("Connection: {connection}\r\n").as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out
    }

    fn host(&self) -> String {
        let host = match &self.authority.host {
            Target::Name(name) => name.to_string(),
            Target::Address(std::net::IpAddr::V4(v4)) => v4.to_string(),
            Target::Address(std::net::IpAddr::V6(v6)) => format!("[{v6}]"),
        };
        match self.authority.port {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    }

    /// Everything, unless an upgrade is left out: then with it what names it.
    fn keeps(&self, header: &Header<'_>) -> bool {
        let of_upgrade = ["upgrade", "connection", "http2-settings"];
        self.upgrade != Upgrade::Other || !of_upgrade.iter().any(|name| header.is(name))
    }
}
