//! Owns what a registry says when it wants to know who asks (`WWW-Authenticate`, RFC 9110 §11.6.1; distribution
//! specification, "Token Authentication"). It answers nothing.

/// How a registry wants to be asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// With a name and a password.
    Basic,
    /// With a token that this place gives out.
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

impl Challenge {
    /// The first that is understood in a header, tokens before passwords; none if there is none.
    pub(super) fn read(header: &str) -> Option<Self> {
        let mut basic = None;
        let mut rest = header.trim_start();
        while !rest.is_empty() {
            let (scheme, parameters) = rest.split_once(' ').unwrap_or((rest, ""));
            let (read, after) = parameters_of(parameters)?;
            rest = after;
            let said = |name: &str| {
                let found = read.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.clone())
            };
            if scheme.eq_ignore_ascii_case("bearer") {
                return Some(Self::Bearer {
                    realm: said("realm")?,
                    service: said("service"),
                });
            }
            if scheme.trim_end_matches(',').eq_ignore_ascii_case("basic") {
                basic = Some(Self::Basic);
            }
        }
        basic
    }
}

type Parameters = Vec<(String, String)>;

/// The parameters that a challenge begins with, and what comes after them: nothing, or another challenge.
fn parameters_of(text: &str) -> Option<(Parameters, &str)> {
    let mut read = Vec::new();
    let mut rest = text.trim_start();
    while let Some((name, after)) = rest.split_once('=') {
        // `, Basic realm=…`: a word before the name is the next challenge's.
        if name.trim().contains(' ') {
            break;
        }
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let end = after.find(',').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        read.push((name.trim().to_owned(), value));
        rest = after.trim_start().trim_start_matches(',').trim_start();
    }
    Some((read, rest))
}

/// A text up to its closing quotation mark, and what is behind that.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_registries_say_is_understood_and_what_is_none_is_not() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.to_owned(),
                service: service.map(str::to_owned),
            })
        };
        for (header, read) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                bearer("https://auth.docker.io/token", Some("registry.docker.io")),
            ),
            (
                r#"bearer scope="a,b" , realm="https://t/a\"b""#,
                bearer("https://t/a\"b", None),
            ),
            (
                "Bearer realm=https://t/a, service=x",
                bearer("https://t/a", Some("x")),
            ),
            (
                r#"Basic realm="a, b", Bearer realm="https://t/""#,
                bearer("https://t/", None),
            ),
            (r#"Basic realm="Registry""#, Some(Challenge::Basic)),
            ("Basic", Some(Challenge::Basic)),
            (r#"Negotiate, Basic realm="x""#, Some(Challenge::Basic)),
            ("", None),
            ("Digest realm=\"x\"", None),
            ("Bearer", None),
            (r#"Bearer realm="not closed"#, None),
        ] {
            assert_eq!(Challenge::read(header), read, "{header}");
        }
    }
}
