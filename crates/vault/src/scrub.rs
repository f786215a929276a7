//! Takes secrets out of texts that others wrote: whatever a foreign server says may repeat what it was told,
//! as it stands or encoded. Says nothing of secrets that it was not given.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use contract::secret::Secret;
use zeroize::Zeroizing;

/// What stands in place of a secret.
const MARK: &str = "[redacted]";

/// Characters below which a secret would be found everywhere.
const SHORTEST: usize = 4;

/// `text` without these secrets, in whatever of the usual forms they stand: plain, as JSON writes it,
/// percent-encoded, base64 at any place of a longer text, or hexadecimal.
#[must_use]
pub fn scrub(text: &str, secrets: &[&Secret]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|s| s.expose().len() >= SHORTEST) {
        for form in forms(secret.expose()) {
            if text.contains(form.as_str()) {
                text = text.replace(form.as_str(), MARK);
            }
        }
    }
    text
}

/// The longest first, so that none is cut in half by another.
fn forms(secret: &str) -> Vec<Zeroizing<String>> {
    let bytes = secret.as_bytes();
    let hex = |digits: &[u8; 16]| {
        let mut out = Zeroizing::new(String::with_capacity(2 * bytes.len()));
        for byte in bytes {
            out.push(char::from(digits[usize::from(byte >> 4)]));
            out.push(char::from(digits[usize::from(byte & 15)]));
        }
        out
    };
    let mut forms = vec![
        hex(b"0123456789abcdef"),
        hex(b"0123456789ABCDEF"),
        percent(bytes),
        Zeroizing::new(secret.to_owned()),
    ];
    if let Ok(json) = serde_json::to_string(secret) {
        let json = Zeroizing::new(json);
        forms.push(Zeroizing::new(json.trim_matches('"').to_owned()));
    }
    for skipped in 0..3 {
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            forms.extend(within_base64(bytes, skipped, engine));
        }
    }
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms.dedup();
    forms
}

fn percent(bytes: &[u8]) -> Zeroizing<String> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = Zeroizing::new(String::with_capacity(3 * bytes.len()));
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(char::from(*byte));
        } else {
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    out
}

/// The characters that a base64 text has for `bytes` wherever they begin in a group of three: those that depend
/// on no neighbour.
fn within_base64(
    bytes: &[u8],
    skipped: usize,
    engine: &base64::engine::GeneralPurpose,
) -> Option<Zeroizing<String>> {
    let inside = bytes.get(skipped..)?;
    let whole = inside.get(..inside.len() / 3 * 3)?;
    let form = engine.encode(whole);
    (form.len() >= 2 * SHORTEST).then(|| Zeroizing::new(form))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "s3cr3t/token+with \"marks\"";

    #[test]
    fn a_secret_is_taken_out_in_every_form() {
        let secret = Secret::new(SECRET.to_owned());
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("client:{SECRET}"));
        let hex = SECRET
            .bytes()
            .map(|b| format!("{b:02x}"))
            .collect::<String>();
        let json = serde_json::json!({"error": SECRET}).to_string();
        let percent = "s3cr3t%2Ftoken%2Bwith%20%22marks%22".to_owned();
        for said in [SECRET.to_owned(), basic, hex, json, percent] {
            let text = format!("you sent {said}, which is wrong");
            let shown = scrub(&text, &[&secret]);
            assert!(shown.contains(MARK), "{text}: {shown}");
            let tail = &said[said.len() / 2..said.len() / 2 + 8];
            assert!(!shown.contains(tail), "{text}: {shown}");
        }
    }

    #[test]
    fn other_text_stays_as_it_is() {
        let secret = Secret::new("abc".to_owned());
        assert_eq!(
            scrub("abc def", &[&secret]),
            "abc def",
            "too short to mean it"
        );
        let secret = Secret::new(SECRET.to_owned());
        assert_eq!(scrub("nothing of it", &[&secret]), "nothing of it");
    }
}
