//! Looks for secrets where none may be, in every form in which they usually leak. It only looks: what to look
//! through is the test's matter.

use std::collections::BTreeSet;

/// A secret whose every occurrence is a leak.
#[derive(Debug)]
pub struct Canary {
    /// What it is called in a finding.
    pub name: &'static str,
    /// Each form as a leak shows it, and the part of that which is there whatever stands beside.
    forms: Vec<(&'static str, Vec<u8>, Vec<u8>)>,
}

/// The forms in which a secret is looked for.
pub const FORMS: [&str; 9] = [
    "plain",
    "reversed",
    "hex",
    "HEX",
    "percent-encoded",
    "base64",
    "base64, one byte on",
    "base64, two bytes on",
    "base64 for URLs",
];

impl Canary {
    /// Looks for `secret`, which needs at least 16 bytes, so that chance has no part in a finding. One that a test
    /// makes up has `/` and `+` in it, so that all its forms differ.
    ///
    /// # Panics
    /// It is too short.
    #[must_use]
    pub fn new(name: &'static str, secret: impl AsRef<[u8]>) -> Self {
        let secret = secret.as_ref();
        assert!(secret.len() >= 16, "{name} is too short");
        let forms = FORMS.map(|form| (form, told(form, secret)));
        let forms = forms.map(|(form, text)| {
            let core = core(form, &text);
            (form, text, core)
        });
        Self {
            name,
            forms: forms.into(),
        }
    }

    /// The forms in which it stands in `text`.
    #[must_use]
    pub fn found(&self, text: &[u8]) -> BTreeSet<&'static str> {
        let stands = |form: &[u8]| memchr::memmem::find(text, form).is_some();
        let forms = self.forms.iter().filter(|(_, _, core)| stands(core));
        forms.map(|(name, ..)| *name).collect()
    }

    /// A leak of it in that form, to be planted.
    ///
    /// # Panics
    /// There is no such form.
    #[must_use]
    pub fn leak(&self, form: &str) -> &[u8] {
        let found = self.forms.iter().find(|(name, ..)| *name == form);
        let (_, leak, _) = found.unwrap_or_else(|| panic!("no form {form}"));
        leak
    }
}

/// `secret` as a leak of this form would show it.
///
/// # Panics
/// There is no such form.
#[must_use]
pub fn told(form: &str, secret: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = secret.as_ref();
    let hex = |upper: bool| {
        let digits = bytes.iter().map(|byte| match upper {
            true => format!("{byte:02X}"),
            false => format!("{byte:02x}"),
        });
        digits.collect::<String>().into_bytes()
    };
    match form {
        "plain" => bytes.to_vec(),
        "reversed" => bytes.iter().rev().copied().collect(),
        "hex" => hex(false),
        "HEX" => hex(true),
        "percent-encoded" => percent(bytes),
        "base64" => base64(bytes, b'+', b'/'),
        "base64, one byte on" => base64(&[b":", bytes].concat(), b'+', b'/'),
        "base64, two bytes on" => base64(&[b"u:", bytes].concat(), b'+', b'/'),
        "base64 for URLs" => base64(bytes, b'-', b'_'),
        other => panic!("no form {other}"),
    }
}

/// The part that is there whatever stands beside the secret.
fn core(form: &str, text: &[u8]) -> Vec<u8> {
    if form.starts_with("base64") {
        // A group of four characters at each end may hold bits of a neighbour.
        return text[4..text.len() - 4].to_vec();
    }
    text.to_vec()
}

fn percent(bytes: &[u8]) -> Vec<u8> {
    let one = |byte: &u8| match byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
        true => vec![*byte],
        false => format!("%{byte:02X}").into_bytes(),
    };
    bytes.iter().flat_map(one).collect()
}

fn base64(bytes: &[u8], plus: u8, slash: u8) -> Vec<u8> {
    let letter = |n: u8| match n {
        0..=25 => b'A' + n,
        26..=51 => b'a' + n - 26,
        52..=61 => b'0' + n - 52,
        62 => plus,
        _ => slash,
    };
    let mut out = Vec::new();
    for group in bytes.chunks(3) {
        let at = |n: usize| u32::from(group.get(n).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..=group.len() {
            let six = (bits >> (18 - 6 * place)) & 63;
            out.push(letter(u8::try_from(six).unwrap_or(0)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_is_found_in_each_form_and_in_no_other_text() {
        let secret = "canary/of+16-characters~ and more";
        let canary = Canary::new("test", secret);
        for form in FORMS {
            let leak = [&b"before "[..], &told(form, secret), b" after"].concat();
            assert!(canary.found(&leak).contains(form), "{form}");
        }
        assert!(canary.found(b"canary/of+16-character").is_empty());
        assert_eq!(
            base64(b"any carnal pleas", b'+', b'/'),
            b"YW55IGNhcm5hbCBwbGVhcw"
        );
    }
}
