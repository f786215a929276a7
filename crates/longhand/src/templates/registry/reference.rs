//! Owns how an image in a registry is named: `docker://HOST[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST]`, as other tools
//! spell it, but for the host, which has to be said. It asks nobody.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, bail, ensure};
use url::{Host, Url};

pub(super) const SCHEME: &str = "docker://";
/// The tag that is meant when neither that nor a digest is said.
const LATEST: &str = "latest";
/// Docker's own registry: how people call it, where it answers, and where its own images are.
const HUB: &str = "docker.io";
const HUB_ANSWERS: &str = "registry-1.docker.io";
const HUB_OWN: &str = "library";
/// Characters of a repository's name and of a tag (distribution specification, "Pulling manifests").
const REPOSITORY_CHARS: usize = 255;
const TAG_CHARS: usize = 128;

/// An image in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    /// With its port, if one was said.
    host: String,
    pub(super) repository: String,
    tag: Option<String>,
    /// `sha256:…`
    pub(super) digest: Option<String>,
}

impl Reference {
    /// Whether somebody means an image in a registry.
    pub(crate) fn is_one(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// What the registry is asked for: a digest, where there is one, whatever its tag means by now.
    pub(super) fn wanted(&self) -> &str {
        let tag = self.tag.as_deref().unwrap_or(LATEST);
        self.digest.as_deref().unwrap_or(tag)
    }

    /// Where the registry answers. Without TLS only on this machine itself, or where `plain_http` was asked for.
    pub(super) fn registry(&self, plain_http: bool) -> anyhow::Result<Url> {
        let host = match self.host.as_str() {
            HUB => HUB_ANSWERS,
            other => other,
        };
        let url = |scheme| Url::parse(&format!("{scheme}://{host}/"));
        let not_one = || format!("{:?} is no host of a registry", self.host);
        let secure = url("https").with_context(not_one)?;
        let plain = plain_http || is_loopback(&secure);
        let chosen = if plain {
            url("http").with_context(not_one)?
        } else {
            secure
        };
        ensure!(
            chosen.path() == "/" && chosen.username().is_empty(),
            not_one()
        );
        Ok(chosen)
    }
}

/// Whether a URL is of this machine itself, as it stands there.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

impl FromStr for Reference {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        const FORM: &str = "docker://HOST[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST]";
        let named = text.strip_prefix(SCHEME).context(FORM)?;
        let (host, path) = named.split_once('/').unwrap_or(("", named));
        // Others take a name without a host for one on Docker's registry; here nobody is asked unnamed.
        if !(host.contains(['.', ':']) || host == "localhost") {
            bail!("{text}: name the registry too, as in {SCHEME}{HUB}/{HUB_OWN}/debian:12");
        }
        let letter = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        ensure!(
            host.chars().all(|c| letter(c) || "[]:".contains(c)),
            "{text}: {host:?} is no host of a registry"
        );
        let (path, digest) = match path.split_once('@') {
            Some((path, digest)) => (path, Some(digest.to_owned())),
            None => (path, None),
        };
        let (repository, tag) = match path.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag.to_owned())),
            None => (path, None),
        };
        let lower = |c: char| letter(c) && !c.is_ascii_uppercase();
        let part = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.ends_with(|c: char| c.is_ascii_alphanumeric())
                && part.chars().all(lower)
        };
        ensure!(
            repository.len() <= REPOSITORY_CHARS && repository.split('/').all(part),
            "{text}: {repository:?} is no repository; {FORM}"
        );
        let tagged = |tag: &String| {
            tag.len() <= TAG_CHARS
                && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && tag.chars().all(letter)
        };
        ensure!(tag.iter().all(tagged), "{text}: its tag is none; {FORM}");
        let is_digest = |digest: &String| {
            let digits = digest.strip_prefix("sha256:").unwrap_or_default();
            let digit = |c: char| matches!(c, '0'..='9' | 'a'..='f');
            digits.len() == 64 && digits.chars().all(digit)
        };
        ensure!(
            digest.iter().all(is_digest),
            "{text}: its digest is none that is taken: `sha256:` and 64 digits"
        );
        let repository = match host == HUB && !repository.contains('/') {
            true => format!("{HUB_OWN}/{repository}"),
            false => repository.to_owned(),
        };
        Ok(Self {
            host: host.to_owned(),
            repository,
            tag,
            digest,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.host, self.repository)?;
        match (&self.tag, &self.digest) {
            (Some(tag), _) => write!(f, ":{tag}")?,
            (None, None) => write!(f, ":{LATEST}")?,
            (None, Some(_)) => {}
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_are_read_as_other_tools_spell_them() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (text, shown, asked, wanted) in [
            (
                "docker://docker.io/debian:12",
                "docker://docker.io/library/debian:12",
                "https://registry-1.docker.io/",
                "12",
            ),
            (
                "docker://docker.io/a/b",
                "docker://docker.io/a/b:latest",
                "https://registry-1.docker.io/",
                "latest",
            ),
            (
                "docker://localhost:5000/a.b/c_d:V1.2_x",
                "docker://localhost:5000/a.b/c_d:V1.2_x",
                "http://localhost:5000/",
                "V1.2_x",
            ),
            (
                "docker://[::1]:5000/a",
                "docker://[::1]:5000/a:latest",
                "http://[::1]:5000/",
                "latest",
            ),
            (
                "docker://10.0.0.7/a",
                "docker://10.0.0.7/a:latest",
                "https://10.0.0.7/",
                "latest",
            ),
            // Not this machine, whatever it looks like.
            (
                "docker://localhost.example/a",
                "docker://localhost.example/a:latest",
                "https://localhost.example/",
                "latest",
            ),
        ] {
            let read: Reference = text.parse().unwrap();
            assert_eq!(read.to_string(), shown);
            assert_eq!(read.registry(false).unwrap().as_str(), asked);
            assert_eq!(read.wanted(), wanted);
        }
        let text = format!("docker://r.example/a/b:tag@{digest}");
        let read: Reference = text.parse().unwrap();
        assert_eq!((read.wanted(), read.to_string()), (digest.as_str(), text));
        assert_eq!(read.registry(true).unwrap().as_str(), "http://r.example/");
    }

    #[test]
    fn what_is_no_name_of_an_image_is_refused_before_anybody_is_asked() {
        for text in [
            "docker://",
            "docker://debian:12",
            "docker://library/debian",
            "docker://r.example",
            "docker://r.example/",
            "docker://r.example//a",
            "docker://r.example/a/../b",
            "docker://r.example/A",
            "docker://r.example/a:",
            "docker://r.example/a:b:c",
            "docker://r.example/a:b/c",
            "docker://r.example/a?b",
            "docker://r.example/a@sha512:00",
            "docker://r.example/a@sha256:00",
            "docker://name@r.example/a",
            "docker://r.example:port/a",
        ] {
            let read: anyhow::Result<Reference> = text.parse();
            let asked = read.and_then(|read| read.registry(false));
            assert!(asked.is_err(), "{text}");
        }
    }
}
