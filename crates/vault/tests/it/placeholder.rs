//! Placeholders: what they look like, and that a stream comes out with every covered one replaced and nothing
//! else changed.

use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contract::ids::{CredentialId, SessionId};
use contract::secret::Secret;
use proptest::prelude::*;
use vault::Vault;
use vault::limits::PUT_IN_AT_ONCE;
use vault::master::MasterKey;
use vault::placeholder::{
    Covered, LEN, PREFIX, Place, Placeholder, Replaced, Scanner, TooMuch, Unfit,
};

static VAULT: LazyLock<Vault> = LazyLock::new(|| Vault::with(&MasterKey::from_bytes([1; 32])));

static MADE: LazyLock<[Placeholder; 7]> = LazyLock::new(|| {
    let made = |n| VAULT.placeholder(SessionId::from_bits(1), CredentialId::from_bits(n));
    [0, 1, 2, 3, 4, 5, 6].map(made)
});

fn placeholder(n: usize) -> Placeholder {
    MADE[n]
}

/// Placeholders 1 to 3, each with a secret that is harder than the last.
const SECRETS: [&str; 3] = ["short", "sk-\"quoted\"&more=%20\u{e9}", "lhph"];

fn covered(place: Place) -> Covered {
    let mut covered = Covered::nothing();
    for (n, secret) in (1..).zip(SECRETS) {
        let secret = Arc::new(Secret::new(secret.to_owned()));
        covered
            .cover(placeholder(n), &secret, place)
            .expect("it fits");
    }
    covered
}

/// More than any text here grows by.
const ROOM: usize = 1 << 20;

fn replaced(covered: &Covered, text: &[u8]) -> Replaced {
    covered
        .whole(text, ROOM)
        .expect("it has room")
        .expect("replaced")
}

fn streamed(covered: &Covered, chunks: &[&[u8]]) -> (Vec<u8>, Vec<Placeholder>) {
    let (mut scanner, mut out) = (Scanner::new(covered), Vec::new());
    for chunk in chunks {
        scanner.push(chunk, &mut out);
    }
    let found = scanner.finish(&mut out);
    (out, found)
}

#[test]
fn a_placeholder_is_its_sessions_and_its_credentials_and_stays_the_same() {
    let one = placeholder(1);
    assert_eq!(one.text().len(), LEN);
    assert!(one.text().starts_with("lhph"));
    assert!(one.text().bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let again = VAULT.placeholder(SessionId::from_bits(1), CredentialId::from_bits(1));
    assert_eq!(one, again);
    assert_ne!(one, placeholder(2));
    let elsewhere = VAULT.placeholder(SessionId::from_bits(2), CredentialId::from_bits(1));
    assert_ne!(one, elsewhere);
    let other = Vault::with(&MasterKey::from_bytes([2; 32]));
    let guessed = other.placeholder(SessionId::from_bits(1), CredentialId::from_bits(1));
    assert_ne!(one, guessed, "without the pepper nobody can tell");
}

#[test]
fn each_place_has_its_own_way_of_writing_a_secret() {
    let text = [b"a=", &placeholder(2).bytes()[..], b"."].concat();
    let written = |place| replaced(&covered(place), &text).text.to_vec();
    let plain = "a=sk-\"quoted\"&more=%20\u{e9}.";
    assert_eq!(written(Place::Raw), plain.as_bytes());
    assert_eq!(written(Place::Header), plain.as_bytes());
    let percent = "a=sk-%22quoted%22%26more%3D%2520%C3%A9.";
    assert_eq!(written(Place::Query), percent.as_bytes());
    assert_eq!(written(Place::Form), percent.as_bytes());
    let json = format!("{{\"a\":\"{}\"}}", placeholder(2).text());
    let json = replaced(&covered(Place::Json), json.as_bytes()).text;
    let read = serde_json::from_slice::<serde_json::Value>(&json).expect("JSON still");
    assert_eq!(read["a"], SECRETS[1]);
}

#[test]
fn a_secret_with_a_line_break_cannot_stand_in_a_header_and_can_in_json() {
    for text in ["a\nb", "a\rb", "a\0b", "a\x7fb"] {
        let secret = Arc::new(Secret::new(text.to_owned()));
        let mut covered = Covered::nothing();
        let done = covered.cover(placeholder(1), &secret, Place::Header);
        assert_eq!(done, Err(Unfit), "{text:?}");
        assert!(covered.is_empty());
        let done = covered.cover(placeholder(1), &secret, Place::Json);
        assert_eq!(done, Ok(()));
        let json = format!("[\"{}\"]", placeholder(1).text());
        let json = replaced(&covered, json.as_bytes()).text;
        let read = serde_json::from_slice::<serde_json::Value>(&json).expect("JSON still");
        assert_eq!(read[0], text);
    }
}

#[test]
fn basic_is_opened_replaced_and_closed_again() {
    let (header, raw) = (covered(Place::Header), covered(Place::Raw));
    for scheme in ["Basic ", "basic ", "BASIC "] {
        let pair = format!("me:{}", placeholder(2).text());
        for encoded in [
            STANDARD.encode(&pair),
            STANDARD.encode(&pair).trim_end_matches('=').to_owned(),
        ] {
            let value = format!("{scheme}{encoded}");
            let sent = header
                .header(value.as_bytes(), &raw, ROOM)
                .unwrap()
                .expect("replaced")
                .text;
            let expected = format!("{scheme}{}", STANDARD.encode(format!("me:{}", SECRETS[1])));
            assert_eq!(String::from_utf8_lossy(&sent), expected);
        }
    }
    let bearer = format!("Bearer {}", placeholder(1).text());
    let sent = header
        .header(bearer.as_bytes(), &raw, ROOM)
        .unwrap()
        .expect("replaced")
        .text;
    assert_eq!(&**sent, b"Bearer short");
    for untouched in ["Basic !!!", "Basic", "Bearer x", &STANDARD.encode("me:you")] {
        assert!(
            header
                .header(untouched.as_bytes(), &raw, ROOM)
                .unwrap()
                .is_none()
        );
    }
}

#[test]
fn what_is_not_covered_passes_as_it_is() {
    let covered = covered(Place::Raw);
    let foreign = VAULT.placeholder(SessionId::from_bits(9), CredentialId::from_bits(1));
    assert!(
        covered
            .whole(foreign.text().as_bytes(), 0)
            .unwrap()
            .is_none()
    );
    assert!(
        Covered::nothing()
            .whole(placeholder(1).bytes(), 0)
            .unwrap()
            .is_none()
    );
}

#[test]
fn one_that_is_watched_is_found_and_stays_as_it_is() {
    let mut covered = Covered::nothing();
    covered.watch(placeholder(1));
    let pair = STANDARD.encode(format!("me:{}", placeholder(1).text()));
    for text in [placeholder(1).text(), &format!("Basic {pair}")] {
        let seen = covered
            .header(text.as_bytes(), &covered, 0)
            .expect("it does not grow")
            .expect("it is found");
        assert_eq!(
            (&**seen.text, seen.found),
            (text.as_bytes(), vec![placeholder(1)])
        );
    }
    assert!(Placeholder::parse("lhph").is_none());
    assert_eq!(
        Placeholder::parse(placeholder(1).text()),
        Some(placeholder(1))
    );
}

#[test]
fn no_more_than_a_placeholder_is_held_back() {
    let covered = covered(Place::Raw);
    let text = [
        &b"x".repeat(100)[..],
        placeholder(1).bytes(),
        PREFIX,
        PREFIX,
    ]
    .concat();
    let (mut scanner, mut out) = (Scanner::new(&covered), Vec::new());
    for (n, byte) in (1..).zip(&text) {
        scanner.push(&[*byte], &mut out);
        // The secret is shorter than its placeholder.
        let shortened = if n >= 100 + LEN {
            LEN - SECRETS[0].len()
        } else {
            0
        };
        assert!(out.len() + shortened + LEN > n, "{n}");
    }
}

#[test]
fn a_text_grows_by_so_much_and_no_more_and_is_never_here_much_longer() {
    let long = "\u{1}".repeat(contract::limits::SECRET_BYTES);
    let mut covered = covered(Place::Json);
    let secret = Arc::new(Secret::new(long.clone()));
    covered.cover(placeholder(4), &secret, Place::Json).unwrap();
    let text = [placeholder(4).text(), placeholder(1).text(), "and more"].concat();
    let length = 6 * long.len() + SECRETS[0].len() + "and more".len();
    let room = length - text.len();
    let fits = covered.whole(text.as_bytes(), room).unwrap();
    assert_eq!(fits.expect("replaced").text.len(), length);
    let refused = covered.whole(text.as_bytes(), room - 1).err();
    assert_eq!(refused, Some(TooMuch));
    // What shrinks needs no room.
    let short = placeholder(1).text().repeat(1_000);
    let shrunk = covered.whole(short.as_bytes(), 0).unwrap();
    assert_eq!(
        shrunk.expect("replaced").text.len(),
        1_000 * SECRETS[0].len()
    );
    // In steps nothing long comes at once, wherever a placeholder is cut.
    let full = format!("{}{}", "x".repeat(7), placeholder(4).text().repeat(100));
    let mut scanner = Scanner::new(&covered);
    for piece in full.as_bytes().chunks(covered.step()) {
        let mut out = Vec::new();
        scanner.push(piece, &mut out);
        assert!(out.len() <= PUT_IN_AT_ONCE, "{}", out.len());
    }
}

/// A piece of a stream, and what must come out for it.
#[derive(Debug, Clone)]
enum Piece {
    Bytes(Vec<u8>),
    Covered(usize),
    Foreign(usize),
    /// The beginning of a placeholder, or one with a byte changed.
    Begun(usize, usize),
    Altered(usize, usize),
    Prefix,
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        // Letters of the prefix, so that there are many false beginnings.
        proptest::collection::vec(
            prop_oneof![Just(b'l'), Just(b'h'), Just(b'p'), any::<u8>()],
            0..60
        )
        .prop_map(Piece::Bytes),
        (1..=3usize).prop_map(Piece::Covered),
        (4..=6usize).prop_map(Piece::Foreign),
        (1..=3usize, 0..LEN).prop_map(|(n, at)| Piece::Begun(n, at)),
        (1..=3usize, 0..LEN).prop_map(|(n, at)| Piece::Altered(n, at)),
        Just(Piece::Prefix),
    ]
}

fn bytes(piece: &Piece) -> Vec<u8> {
    match piece {
        Piece::Bytes(bytes) => bytes.clone(),
        Piece::Covered(n) | Piece::Foreign(n) => placeholder(*n).bytes().to_vec(),
        Piece::Begun(n, at) => placeholder(*n).bytes()[..*at].to_vec(),
        Piece::Altered(n, at) => {
            let mut bytes = placeholder(*n).bytes().to_vec();
            bytes[*at] = b'-';
            bytes
        }
        Piece::Prefix => PREFIX.to_vec(),
    }
}

/// A secret as that place writes it, by other means than those that are tested.
fn written(secret: &str, place: Place) -> String {
    let byte = |byte: u8| match byte {
        _ if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    match place {
        Place::Raw | Place::Header => secret.to_owned(),
        Place::Query | Place::Form => secret.bytes().map(byte).collect(),
        Place::Json => {
            let text = serde_json::Value::from(secret).to_string();
            text[1..text.len() - 1].to_owned()
        }
    }
}

/// The slow and obvious way: at each byte, is there a covered one?
fn expected(text: &[u8], place: Place) -> (Vec<u8>, Vec<Placeholder>) {
    let (mut out, mut found, mut at) = (Vec::new(), Vec::new(), 0);
    'text: while at < text.len() {
        for (n, secret) in (1..).zip(SECRETS) {
            if text[at..].starts_with(placeholder(n).bytes()) {
                out.extend_from_slice(written(secret, place).as_bytes());
                at += LEN;
                if !found.contains(&placeholder(n)) {
                    found.push(placeholder(n));
                }
                continue 'text;
            }
        }
        out.push(text[at]);
        at += 1;
    }
    (out, found)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn every_covered_placeholder_is_replaced_and_nothing_else_however_the_stream_is_cut(
        pieces in proptest::collection::vec(piece(), 0..12),
        cuts in proptest::collection::vec(0..200usize, 0..40),
        place in proptest::sample::select(vec![Place::Raw, Place::Header, Place::Query, Place::Form, Place::Json]),
    ) {
        let text = pieces.iter().flat_map(bytes).collect::<Vec<_>>();
        let (mut chunks, mut rest) = (Vec::new(), &text[..]);
        for cut in cuts {
            let (chunk, behind) = rest.split_at(cut.min(rest.len()));
            chunks.push(chunk);
            rest = behind;
        }
        chunks.push(rest);
        let covered = covered(place);
        prop_assert_eq!(streamed(&covered, &chunks), expected(&text, place));
        let bytewise = text.chunks(1).collect::<Vec<_>>();
        prop_assert_eq!(streamed(&covered, &bytewise), expected(&text, place));
    }
}
