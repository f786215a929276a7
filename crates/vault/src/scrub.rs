//! Takes secrets out of texts that others wrote: whatever a foreign server says may repeat what it was told,
//! as it stands or encoded. Says nothing of secrets that it was not given.

use std::cmp::Reverse;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use contract::secret::Secret;
use memchr::memmem::Finder;
use zeroize::Zeroizing;

use crate::placeholder::Placeholder;

/// What stands in place of a secret.
const MARK: &str = "[redacted]";

/// Characters below which a secret would be found everywhere.
const SHORTEST: usize = 4;

/// Takes secrets out of a stream, wherever its chunks are cut, in all the forms in which [`scrub`] finds them; in
/// their place stands what stands for them in the sandbox. It holds back only what may be the beginning of one.
struct Scrubber {
    forms: Arc<Forms>,
    held: Zeroizing<Vec<u8>>,
}

/// The forms of one secret, and what takes their place. To make what finds them takes as long as they are, so it is made once
/// and shared. Whoever frees it wipes it: the processes that look for secrets have an allocator that does.
pub struct Needles {
    forms: Vec<Finder<'static>>,
    placeholder: Placeholder,
}

/// The forms of some secrets, and what takes their place.
pub struct Forms(Vec<Arc<Needles>>);

/// Bytes below which a secret is not looked for in what a server answers: it would be found everywhere, and
/// whoever reads the answer could as well guess it.
pub const SHORTEST_ANSWERED: usize = 8;

impl Needles {
    /// Of that secret; none of one that is not looked for ([`SHORTEST_ANSWERED`]).
    #[must_use]
    pub fn of(secret: &Secret, placeholder: Placeholder) -> Option<Self> {
        let secret = secret.expose();
        (secret.len() >= SHORTEST_ANSWERED).then(|| {
            let forms = forms(secret).into_iter();
            Self {
                forms: forms.map(|it| Finder::new(&*it).into_owned()).collect(),
                placeholder,
            }
        })
    }
}

impl Forms {
    /// Of these secrets, for whoever has them alone.
    #[must_use]
    pub fn of(secrets: &[(&Secret, Placeholder)]) -> Self {
        let each = secrets.iter();
        let each = each.filter_map(|(secret, placeholder)| Needles::of(secret, *placeholder));
        Self(each.map(Arc::new).collect())
    }

    /// Of secrets that others look for too.
    #[must_use]
    pub fn shared(secrets: Vec<Arc<Needles>>) -> Self {
        Self(secrets)
    }

    fn each(&self) -> impl Iterator<Item = (&Finder<'static>, &Placeholder)> {
        self.0.iter().flat_map(|one| {
            let forms = one.forms.iter();
            forms.map(move |form| (form, &one.placeholder))
        })
    }

    /// Whether there is nothing to be looked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `text` without the secrets; none if there are none in it.
    #[must_use]
    pub fn whole(self: &Arc<Self>, text: &[u8]) -> Option<Vec<u8>> {
        if !self.each().any(|(form, _)| form.find(text).is_some()) {
            return None;
        }
        let (mut scrubber, mut out) = (Scrubber::new(Arc::clone(self)), Vec::new());
        scrubber.push(text, &mut out);
        scrubber.finish(&mut out);
        Some(out)
    }

    /// Whether any of them is in the name of a field, which is in lower case.
    #[must_use]
    pub fn are_in_name(&self, name: &str) -> bool {
        let name = name.as_bytes();
        self.each().any(|(form, _)| {
            // Most forms are longer than any name.
            form.needle().len() <= name.len() && {
                let lower = Zeroizing::new(form.needle().to_ascii_lowercase());
                memchr::memmem::find(name, &lower).is_some()
            }
        })
    }

    /// Replaces the secrets in `text` by as many bytes of what stands for them, for what must keep its length.
    pub fn mask(&self, text: &mut [u8]) {
        if !self.each().any(|(form, _)| form.find(text).is_some()) {
            return;
        }
        // Each is looked for in what was said: one may have another in it, or begin in its midst.
        let said = Zeroizing::new(text.to_vec());
        for (form, placeholder) in self.each() {
            let length = form.needle().len();
            for found in form.find_iter(&said) {
                let mask = placeholder.bytes().iter().chain(std::iter::repeat(&b'*'));
                let masked = text.iter_mut().skip(found).take(length);
                masked.zip(mask).for_each(|(byte, mask)| *byte = *mask);
            }
        }
    }

    /// How many of the last bytes of `text` may be the beginning of a secret.
    #[must_use]
    pub fn begun(&self, text: &[u8]) -> usize {
        let of_one = |(form, _): (&Finder<'static>, _)| {
            let form = form.needle();
            let most = text.len().min(form.len().saturating_sub(1));
            let (_, tail) = text.split_at(text.len() - most);
            let first = form.first().copied().unwrap_or_default();
            let mut starts = memchr::memchr_iter(first, tail);
            let begun = starts.find(|at| form.starts_with(tail.get(*at..).unwrap_or_default()));
            begun.map_or(0, |at| tail.len() - at)
        };
        self.each().map(of_one).max().unwrap_or(0)
    }
}

impl Scrubber {
    /// A scrubber at the beginning of a stream.
    fn new(forms: Arc<Forms>) -> Self {
        Self {
            forms,
            held: Zeroizing::default(),
        }
    }

    /// Takes the next chunk and appends to `out` what is decided by now.
    fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        let mut joined = std::mem::take(&mut self.held);
        let text = if joined.is_empty() {
            chunk
        } else {
            joined.extend_from_slice(chunk);
            &joined
        };
        let rest = self.replace(text, out);
        let (done, held) = rest.split_at(rest.len() - self.forms.begun(rest));
        out.extend_from_slice(done);
        self.held = Zeroizing::new(held.to_vec());
    }

    /// Appends what was held back: at the end of the stream it is no secret.
    fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
    }

    /// Appends `text` to `out` up to behind the last secret in it, and returns the rest.
    fn replace<'t>(&self, text: &'t [u8], out: &mut Vec<u8>) -> &'t [u8] {
        let each = self.forms.each();
        // The next place of each that is in it.
        let mut next: Vec<_> = each
            .filter_map(|(form, placeholder)| Some((form.find(text)?, form, placeholder)))
            .collect();
        let mut at = 0;
        loop {
            // The longest of those that begin at one place.
            let first = next
                .iter()
                .min_by_key(|(place, form, _)| (*place, Reverse(form.needle().len())));
            let Some(&(place, form, placeholder)) = first else {
                return text.get(at..).unwrap_or_default();
            };
            out.extend_from_slice(text.get(at..place).unwrap_or_default());
            out.extend_from_slice(placeholder.bytes());
            at = place + form.needle().len();
            let rest = text.get(at..).unwrap_or_default();
            next.retain_mut(|(place, form, _)| {
                if *place >= at {
                    return true;
                }
                let found = form.find(rest);
                *place = at + found.unwrap_or_default();
                found.is_some()
            });
        }
    }
}

/// `text` without these secrets, in whatever of the usual forms they stand: plain, as JSON writes it,
/// percent-encoded, base64 at any place of a longer text, or hexadecimal.
#[must_use]
pub fn scrub(text: &str, secrets: &[&Secret]) -> String {
    let sought = secrets.iter().map(|secret| secret.expose());
    let sought = sought.filter(|secret| secret.len() >= SHORTEST);
    let mut forms: Vec<_> = sought.flat_map(forms).collect();
    // The longest first, so that none is cut in half by another, also of another secret.
    forms.sort_by_key(|form| Reverse(form.len()));
    let mut text = text.to_owned();
    for form in forms {
        if text.contains(form.as_str()) {
            text = text.replace(form.as_str(), MARK);
        }
    }
    text
}

/// The longest first.
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
        percent(bytes, b"0123456789ABCDEF"),
        percent(bytes, b"0123456789abcdef"),
        Zeroizing::new(secret.to_owned()),
    ];
    if let Ok(json) = serde_json::to_string(secret) {
        let json = Zeroizing::new(json);
        let json = Zeroizing::new(within_marks(&json).to_owned());
        // As PHP writes it.
        forms.push(Zeroizing::new(json.replace('/', "\\/")));
        forms.push(json);
    }
    for skipped in 0..3 {
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            forms.extend(within_base64(bytes, skipped, engine));
        }
    }
    forms.sort_by_key(|form| Reverse(form.len()));
    forms.dedup();
    forms
}

/// A text of JSON without its marks; a secret may end with some of its own.
fn within_marks(json: &str) -> &str {
    let inside = json.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    inside.unwrap_or(json)
}

fn percent(bytes: &[u8], digits: &[u8; 16]) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(3 * bytes.len()));
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(char::from(*byte));
        } else {
            out.push('%');
            out.push(char::from(digits[usize::from(byte >> 4)]));
            out.push(char::from(digits[usize::from(byte & 15)]));
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
        let lower = percent.to_lowercase();
        let slash = json.replace('/', "\\/");
        for said in [SECRET.to_owned(), basic, hex, json, slash, percent, lower] {
            let text = format!("you sent {said}, which is wrong");
            let shown = scrub(&text, &[&secret]);
            assert!(shown.contains(MARK), "{text}: {shown}");
            let tail = &said[said.len() / 2..said.len() / 2 + 8];
            assert!(!shown.contains(tail), "{text}: {shown}");
        }
    }

    #[test]
    fn a_secret_that_begins_like_another_shows_nothing_behind_that() {
        let secrets = ["shared-begin", "shared-begin-and-TAIL", "TAIL-of-its-own"];
        let secrets = secrets.map(|text| Secret::new(text.to_owned()));
        let placeholder = Placeholder::parse(&format!("lhph{}", "7".repeat(40))).unwrap();
        let [short, long, next] = &secrets;
        let said = "a shared-begin-and-TAIL b shared-begin-and-TAIL-of-its-own c shared-begin d";
        for order in [[short, long, next], [next, long, short]] {
            let shown = scrub(said, &order[..]);
            assert!(shown.starts_with(&format!("a {MARK} b {MARK}")), "{shown}");
            assert!(shown.ends_with(&format!("c {MARK} d")), "{shown}");
            let forms = Forms::of(&order.map(|secret| (secret, placeholder)));
            let mut masked = said.as_bytes().to_vec();
            forms.mask(&mut masked);
            let masked = String::from_utf8(masked).unwrap();
            assert_eq!(masked.len(), said.len());
            for left in ["TAIL", "begin", "own", "and"] {
                assert!(!masked.contains(left), "{masked}");
            }
        }
    }

    #[test]
    fn a_stream_has_its_placeholder_wherever_it_is_cut() {
        let placeholder = Placeholder::parse(&format!("lhph{}", "7".repeat(40))).unwrap();
        let secret = Secret::new(SECRET.to_owned());
        let forms = Arc::new(Forms::of(&[(&secret, placeholder)]));
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("client:{SECRET}"));
        let text = format!("s3cr{SECRET}{SECRET} and s3cr3t/ and {basic} s3cr");
        let whole = String::from_utf8(forms.whole(text.as_bytes()).unwrap()).unwrap();
        let mark = placeholder.text();
        assert!(
            whole.starts_with(&format!("s3cr{mark}{mark} and s3cr3t/ and ")),
            "{whole}"
        );
        assert_eq!(whole.matches(mark).count(), 3, "{whole}");
        for piece in [1, 2, 3, 5, 8, 13, 64] {
            let (mut scrubber, mut out) = (Scrubber::new(Arc::clone(&forms)), Vec::new());
            text.as_bytes()
                .chunks(piece)
                .for_each(|chunk| scrubber.push(chunk, &mut out));
            scrubber.finish(&mut out);
            assert_eq!(
                String::from_utf8(out).unwrap(),
                whole,
                "in pieces of {piece}"
            );
        }
        let mut masked = text.clone().into_bytes();
        forms.mask(&mut masked);
        assert_eq!(masked.len(), text.len());
        assert!(forms.whole(&masked).is_none());
        assert!(forms.whole(b"nothing of it").is_none());
        let short = Secret::new("1234567".to_owned());
        assert!(Forms::of(&[(&short, placeholder)]).is_empty());
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
