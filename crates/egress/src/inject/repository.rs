//! Which requests are about one repository and nothing else: git over smart HTTP, LFS included, and REST as GitHub has it.
//! Pure. Whatever another reading of a path could make of it, or is not named here, is not about the repository.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};

use super::template::To;
use crate::name::{HostPattern, Target};

/// Bytes of an owner or of a name.
const PART: usize = 100;

/// Fields by which some servers take a request for one of another path.
const OTHER_PATHS: [HeaderName; 2] = [
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
];

/// A repository on its hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// `owner/name`, in the case that its server has it in.
    pub name: String,
    /// Hosts that serve it with git, at `/owner/name` or `/owner/name.git`.
    pub git: Vec<String>,
    /// Hosts with REST about it, at `/repos/owner/name`; one that serves git as well has that below `/api/v3`.
    pub api: Vec<String>,
}

/// How the secret is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// As the password of `x-access-token`: git knows nothing else.
    Basic,
    /// As a bearer token.
    Bearer,
}

impl Repository {
    /// Whether it names one.
    ///
    /// # Errors
    /// One line.
    pub(super) fn check(&self) -> Result<(), String> {
        let wrong = || format!("{:?} is no repository: owner/name", self.name);
        let (owner, name) = self.name.split_once('/').ok_or_else(wrong)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        for part in [owner, name] {
            let is_part = !part.is_empty() && part.len() <= PART && part.bytes().all(plain);
            if !is_part || part == "." || part == ".." {
                return Err(wrong());
            }
        }
        if has_git_suffix(name) {
            return Err(format!("{:?}: leave `.git` out", self.name));
        }
        if self.git.is_empty() && self.api.is_empty() {
            return Err(format!("{:?} has no host", self.name));
        }
        Ok(())
    }

    /// How the secret is shown in that request; none if it is not about the repository.
    pub(super) fn shown(&self, to: To<'_>, query: Option<&str>) -> Option<Shown> {
        let (target, path) = (to.target, to.path);
        // One that a server could read otherwise is another's.
        path.is_plain().then_some(())?;
        let (git, api) = (covers(&self.git, target), covers(&self.api, target));
        let rest = match (git, api) {
            (_, false) => None,
            (false, true) => path.as_str().strip_prefix("/repos/"),
            (true, true) => path.as_str().strip_prefix("/api/v3/repos/"),
        };
        let rest = rest.and_then(|rest| rest.strip_prefix(self.name.as_str()));
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            return Some(Shown::Bearer);
        }
        (git && self.is_of_git(to.method, path.as_str(), query)).then_some(Shown::Basic)
    }

    fn is_of_git(&self, method: &Method, path: &str, query: Option<&str>) -> bool {
        let rest = path.strip_prefix('/');
        let rest = rest.and_then(|rest| rest.strip_prefix(self.name.as_str()));
        let Some(rest) = rest.map(|rest| rest.strip_prefix(".git").unwrap_or(rest)) else {
            return false;
        };
        match (method.as_str(), rest) {
            ("GET", "/info/refs") => matches!(
                query,
                Some("service=git-upload-pack" | "service=git-receive-pack")
            ),
            ("POST", "/git-upload-pack" | "/git-receive-pack") => query.is_none(),
            (_, rest) => rest.starts_with("/info/lfs/"),
        }
    }
}

/// Writes it into the request, in place of what the client has there.
pub(super) fn put(value: HeaderValue, headers: &mut HeaderMap) {
    for name in &OTHER_PATHS {
        headers.remove(name);
    }
    headers.insert(AUTHORIZATION, value);
}

fn has_git_suffix(name: &str) -> bool {
    let at = name.len().saturating_sub(4);
    name.get(at..)
        .is_some_and(|end| end.eq_ignore_ascii_case(".git"))
}

fn covers(hosts: &[String], target: &Target) -> bool {
    hosts.iter().any(|host| match target {
        Target::Name(name) => HostPattern::parse(host).is_ok_and(|pattern| pattern.covers(name)),
        Target::Address(ip) => host.parse() == Ok(*ip),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;
    use crate::path::Path;

    fn repository() -> Repository {
        Repository {
            name: "acme/tools".to_owned(),
            git: vec!["git.test".to_owned(), "both.test".to_owned()],
            api: vec!["api.test".to_owned(), "both.test".to_owned()],
        }
    }

    fn shown(method: &Method, host: &str, asked: &str) -> Option<Shown> {
        let (path, query) = match asked.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (asked, None),
        };
        // What cannot be read is refused before anybody asks.
        let path = Path::parse(path).ok()?;
        let to = To {
            target: &Target::Name(Name::parse(host).unwrap()),
            port: 443,
            method,
            path: &path,
        };
        repository().shown(to, query)
    }

    #[test]
    fn what_is_about_the_repository_is_shown_its_token_as_its_server_wants_it() {
        use Shown::{Basic, Bearer};
        let (get, post) = (&Method::GET, &Method::POST);
        for (method, host, asked, wanted) in [
            (
                get,
                "git.test",
                "/acme/tools.git/info/refs?service=git-upload-pack",
                Basic,
            ),
            (
                get,
                "git.test",
                "/acme/tools/info/refs?service=git-receive-pack",
                Basic,
            ),
            (post, "git.test", "/acme/tools.git/git-upload-pack", Basic),
            (post, "git.test", "/acme/tools/git-receive-pack", Basic),
            (
                post,
                "git.test",
                "/acme/tools.git/info/lfs/objects/batch",
                Basic,
            ),
            (
                get,
                "git.test",
                "/%61cme/x/../tools.git/info/refs?service=git-upload-pack",
                Basic,
            ),
            (get, "api.test", "/repos/acme/tools", Bearer),
            (
                &Method::PATCH,
                "api.test",
                "/repos/acme/tools/issues/1?x=1",
                Bearer,
            ),
            (get, "both.test", "/api/v3/repos/acme/tools/pulls", Bearer),
            (post, "both.test", "/acme/tools.git/git-upload-pack", Basic),
        ] {
            assert_eq!(
                shown(method, host, asked),
                Some(wanted),
                "{method} {host}{asked}"
            );
        }
    }

    #[test]
    fn nothing_else_is_about_it() {
        let (get, post) = (&Method::GET, &Method::POST);
        for (method, host, asked) in [
            // Another repository.
            (
                get,
                "git.test",
                "/acme/other.git/info/refs?service=git-upload-pack",
            ),
            (
                get,
                "git.test",
                "/acme/tools-2.git/info/refs?service=git-upload-pack",
            ),
            (
                get,
                "git.test",
                "/acme/tools.github/info/refs?service=git-upload-pack",
            ),
            (
                get,
                "git.test",
                "/acme/tools.git.git/info/refs?service=git-upload-pack",
            ),
            (
                get,
                "git.test",
                "/x/acme/tools.git/info/refs?service=git-upload-pack",
            ),
            (
                get,
                "git.test",
                "/Acme/tools.git/info/refs?service=git-upload-pack",
            ),
            (
                get,
                "git.test",
                "/acme/tools.GIT/info/refs?service=git-upload-pack",
            ),
            (
                post,
                "git.test",
                "/acme/tools.git/../other.git/git-upload-pack",
            ),
            (
                post,
                "git.test",
                "/acme/tools.git/%2e%2e/other.git/git-upload-pack",
            ),
            (
                post,
                "git.test",
                "/acme/tools.git/..%2fother.git/git-upload-pack",
            ),
            (get, "api.test", "/repos/acme/tools/../other"),
            (get, "api.test", "/repos/acme/tools/%2e%2e/other"),
            (get, "api.test", "/repos/acme/toolsmith"),
            // Paths that some servers read otherwise.
            (post, "git.test", "/acme//tools.git/git-upload-pack"),
            (post, "git.test", "//acme/tools.git/git-upload-pack"),
            (post, "git.test", "/acme/tools.git;x/git-upload-pack"),
            (get, "api.test", "/repos/acme/tools;x/issues"),
            (get, "api.test", "/repos/acme/tools/..;/other"),
            (get, "api.test", "/repos/acme/tools//issues"),
            // Not git, not REST, not the repository's.
            (get, "git.test", "/acme/tools.git/info/refs"),
            (
                get,
                "git.test",
                "/acme/tools.git/info/refs?service=git-upload-archive",
            ),
            (
                get,
                "git.test",
                "/acme/tools.git/info/refs?service=git-upload-pack&service=x",
            ),
            (get, "git.test", "/acme/tools.git/git-upload-pack"),
            (post, "git.test", "/acme/tools.git/git-upload-pack?x"),
            (get, "git.test", "/acme/tools/settings"),
            (get, "git.test", "/repos/acme/tools"),
            (get, "git.test", "/api/v3/repos/acme/tools"),
            (
                get,
                "api.test",
                "/acme/tools.git/info/refs?service=git-upload-pack",
            ),
            (get, "api.test", "/user"),
            (post, "api.test", "/graphql"),
            (get, "both.test", "/repos/acme/tools"),
            // Another host.
            (get, "other.test", "/repos/acme/tools"),
            (post, "other.test", "/acme/tools.git/git-upload-pack"),
        ] {
            assert_eq!(shown(method, host, asked), None, "{method} {host}{asked}");
        }
    }

    #[test]
    fn a_repository_that_is_none_is_refused() {
        for name in [
            "",
            "acme",
            "acme/",
            "/tools",
            "acme/tools/x",
            "acme/..",
            "acme/to ols",
            "acme/tools.git",
            "acme/t.GIT",
        ] {
            let wrong = Repository {
                name: name.to_owned(),
                ..repository()
            };
            assert!(wrong.check().is_err(), "{name}");
        }
        assert_eq!(repository().check(), Ok(()));
        let nowhere = Repository {
            git: Vec::new(),
            api: Vec::new(),
            ..repository()
        };
        assert!(nowhere.check().unwrap_err().contains("no host"));
    }
}
