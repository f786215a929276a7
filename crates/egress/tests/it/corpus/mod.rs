//! The corpus of attacks on the network of a sandbox, each from inside a real one. What attacks secrets or looks into
//! TLS stands elsewhere. A case that is not refused with exactly what it says, that a server has seen a byte of, or
//! whose control does not succeed fails the test of its subject by its name.

mod addresses;
mod bounds;
mod case;
mod http;
mod names;
mod protocols;
mod resolver;
mod table;

use case::Case;

/// Every case, by its subject.
const SUBJECTS: &[(&str, &[Case])] = &[
    ("Names as a way out", resolver::CASES),
    ("Names that differ", names::CASES),
    ("Requests and paths", http::CASES),
    ("What has no end", bounds::CASES),
    ("Addresses", addresses::CASES),
    ("Protocols", protocols::CASES),
];

#[test]
pub fn names_as_a_way_out() {
    case::prove(resolver::CASES);
}

#[test]
fn names_that_differ() {
    case::prove(names::CASES);
}

#[test]
fn requests_and_paths() {
    case::prove(http::CASES);
}

#[test]
fn what_has_no_end() {
    case::prove(bounds::CASES);
}

#[test]
fn addresses() {
    case::prove(addresses::CASES);
}

#[test]
pub fn protocols() {
    case::prove(protocols::CASES);
}
