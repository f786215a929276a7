//! A path is judged and forwarded in one form, and no server reads another one than was judged.

use egress::{Path, PathError, Reading};
use proptest::prelude::*;

fn path(text: &str) -> Path {
    Path::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn dots_and_escapes_are_resolved() {
    for (text, canonical) in [
        ("/", "/"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e", "/"),
        ("/a/b/..", "/a/"),
        ("/a/b/.", "/a/b/"),
        ("/%61%7e", "/a~"),
        ("/a%20b%c3%bc", "/a%20b%C3%BC"),
        ("/a//b", "/a//b"),
        ("/a;x=1/b", "/a;x=1/b"),
        ("/100%25", "/100%25"),
        ("/...", "/..."),
    ] {
        assert_eq!(path(text).as_str(), canonical, "{text}");
    }
}

#[test]
fn what_two_servers_read_differently_is_refused() {
    let long = format!("/{}", "a".repeat(8_192));
    for (text, why) in [
        ("", PathError::NotAbsolute),
        ("a", PathError::NotAbsolute),
        ("*", PathError::NotAbsolute),
        ("/a%2fb", PathError::EncodedSlash),
        ("/a%5Cb", PathError::EncodedSlash),
        ("/a\\b", PathError::Byte),
        ("/a b", PathError::Byte),
        ("/a\r\nb", PathError::Byte),
        ("/ü", PathError::Byte),
        ("/a?b", PathError::Byte),
        ("/a#b", PathError::Byte),
        ("/%00", PathError::EncodedControl),
        ("/%0d%0a", PathError::EncodedControl),
        ("/%", PathError::Percent),
        ("/%2", PathError::Percent),
        ("/%zz", PathError::Percent),
        ("/%+1", PathError::Percent),
        ("/%252e%252e", PathError::DoubleEncoding),
        ("/%252f", PathError::DoubleEncoding),
        ("/%25252f", PathError::DoubleEncoding),
        ("/..", PathError::AboveRoot),
        ("/a/../..", PathError::AboveRoot),
        ("/a/..;/b", PathError::AboveRoot),
        ("/a/%2e%2e;x/b", PathError::AboveRoot),
        (long.as_str(), PathError::TooLong),
    ] {
        assert_eq!(Path::parse(text), Err(why), "{text}");
    }
}

#[test]
fn a_prefix_is_held_by_whole_segments() {
    let below = |text: &str, prefix: &str| path(text).is_below(&path(prefix), Reading::Every);
    assert!(below("/v1", "/v1") && below("/v1/x", "/v1") && below("/v1/x", "/v1/"));
    assert!(!below("/v10", "/v1") && !below("/v1", "/v1/") && !below("/V1", "/v1"));
    assert!(below("/anything", "/"));
}

#[test]
fn a_path_that_can_be_read_as_another_is_denied_by_both_and_allowed_by_neither() {
    for text in ["/admin;x", "//admin", "/./;a/admin/x", "/admin;/x"] {
        let it = path(text);
        assert!(it.is_below(&path("/admin"), Reading::Any), "{text}");
        assert!(!it.is_below(&path("/admin"), Reading::Every), "{text}");
    }
    // The other way round: as written it is below the prefix, as read without parameters it is not.
    assert!(path("/open;/x").is_below(&path("/open;"), Reading::Any));
    assert!(!path("/open;/x").is_below(&path("/open;"), Reading::Every));
    assert!(path("/public;/x").is_below(&path("/"), Reading::Every));
}

proptest! {
    #[test]
    fn the_canonical_form_is_its_own_canonical_form(text in "/[a-c./;%2eE5fF]{0,40}") {
        if let Ok(once) = Path::parse(&text) {
            let again = Path::parse(once.as_str()).unwrap();
            prop_assert_eq!(again.as_str(), once.as_str());
            prop_assert!(!once.as_str().split('/').any(|s| s == "." || s == ".."));
        }
    }
}
