//! Rules about texts that several types share. A refusal names the path and the rule, never the value.

use crate::limits;
use crate::parse::Invalid;

/// A text has between `least` and `most` characters.
pub(crate) fn length(path: &str, text: &str, least: usize, most: usize) -> Result<(), Invalid> {
    // A text of n bytes has at most n characters, so most texts need no count.
    if text.len() >= least && text.len() <= most && (least <= 1) {
        return Ok(());
    }
    let length = text.chars().count();
    if length < least {
        return Err(Invalid::at(
            path,
            match least {
                1 => "must not be empty".to_owned(),
                _ => format!("has {length} characters; at least {least} are needed"),
            },
        ));
    }
    if length > most {
        return Err(Invalid::at(
            path,
            format!("has {length} characters; at most {most} are allowed"),
        ));
    }
    Ok(())
}

/// A list has at most `most` items.
pub(crate) fn count(path: &str, length: usize, most: usize) -> Result<(), Invalid> {
    if length > most {
        return Err(Invalid::at(
            path,
            format!("has {length} items; at most {most} are allowed"),
        ));
    }
    Ok(())
}

/// An absolute http or https URL with a host, no user info and no fragment.
pub(crate) fn url(path: &str, text: &str) -> Result<(), Invalid> {
    length(path, text, 1, limits::URL)?;
    let bad = |problem: &str| Err(Invalid::at(path, problem));
    if text.bytes().any(|b| b <= b' ' || b == 0x7f || b == b'\\') {
        return bad("must not contain spaces, control characters or backslashes");
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return bad("must be an absolute URL that starts with https:// or http://");
    };
    if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
        return bad("must be an absolute URL that starts with https:// or http://");
    }
    if rest.contains('#') {
        return bad("must not have a fragment");
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return bad("must not contain a user name or password");
    }
    let (host, port) = if let Some(literal) = authority.strip_prefix('[') {
        let Some((host, after)) = literal.split_once(']') else {
            return bad("has a malformed host");
        };
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return bad("has a malformed host");
        }
        (
            host,
            after
                .strip_prefix(':')
                .or((after.is_empty()).then_some("443")),
        )
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, Some("443")),
        }
    };
    if host.is_empty() {
        return bad("has no host");
    }
    match port {
        Some(port)
            if port.bytes().all(|b| b.is_ascii_digit())
                && port.parse::<u16>().is_ok_and(|p| p > 0) =>
        {
            Ok(())
        }
        _ => bad("has a malformed port"),
    }
}

/// Letters, digits and hyphens in labels of 1 to 63, at most 253 in all; also an IPv4 address.
pub(crate) fn is_hostname(text: &str) -> bool {
    text.len() <= 253
        && !text.is_empty()
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

/// A bare host name, an IPv4 address or `*.` and a name of at least two labels.
pub(crate) fn host_pattern(path: &str, text: &str) -> Result<(), Invalid> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let numeric = name
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    let good = is_hostname(name)
        && (!numeric || (name == text && name.parse::<std::net::Ipv4Addr>().is_ok()))
        && (name == text || name.contains('.'));
    if good {
        Ok(())
    } else {
        Err(Invalid::at(
            path,
            "must be a host name such as `api.example.com` or a wildcard such as `*.example.com`, \
             without scheme, port or path",
        ))
    }
}
