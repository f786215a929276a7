//! The end of what a server has said by now, where it may be the beginning of a secret: what is kept back of it, for how
//! long, and what is remembered of it when it has gone. It must never let the rest of a secret go whose beginning has gone,
//! nor keep anything for ever from a client that the server waits for.
//!
//! A server that waits for an answer may well have ended with what a secret begins with, so in the end whatever is kept goes.
//! A beginning of a few bytes says nothing and is often by chance: it goes soon. A longer one is hardly that: it goes after
//! a silence that is longer than those that a network makes by itself when it loses packets and sends them again.

use std::time::Duration;

use zeroize::Zeroizing;

use super::sought::Sought;

/// Bytes of a beginning that goes soon.
const LITTLE: usize = 4;

/// How long a longer one is kept that nothing follows: four losses of one packet after another (RFC 6298; Linux begins
/// with 200 ms and doubles that).
const LONG: Duration = Duration::from_secs(3);

/// How secrets are taken out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Out {
    /// The placeholder stands there.
    Replaced,
    /// As many bytes of it do.
    Masked,
}

/// What a server says, without secrets.
pub(super) struct Withheld {
    sought: Sought,
    out: Out,
    /// What may be the beginning of a secret.
    text: Zeroizing<Vec<u8>>,
    /// How much of that has gone: it is known only so that what follows it is.
    gone: usize,
}

impl Withheld {
    pub(super) fn new(sought: Sought, out: Out) -> Self {
        Self {
            sought,
            out,
            text: Zeroizing::default(),
            gone: 0,
        }
    }

    /// Takes what comes next and appends to `out` what is decided by now.
    pub(super) fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.text.extend_from_slice(piece);
        self.take_out();
        let decided = self.text.len() - self.sought.begun(&self.text);
        let (done, kept) = self.text.split_at(decided);
        out.extend_from_slice(done.get(self.gone..).unwrap_or_default());
        self.gone = self.gone.saturating_sub(decided);
        self.text = Zeroizing::new(kept.to_vec());
    }

    /// Whether anything is kept back.
    pub(super) fn holds(&self) -> bool {
        self.text.len() > self.gone
    }

    /// How long it is kept if nothing follows it: `soon`, if it is a few bytes.
    pub(super) fn patience(&self, soon: Duration) -> Duration {
        if self.text.len() <= LITTLE {
            soon
        } else {
            LONG
        }
    }

    /// Appends what was kept back: nothing has followed it, or nothing will.
    pub(super) fn let_go(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.text.get(self.gone..).unwrap_or_default());
        self.gone = self.text.len();
    }

    fn take_out(&mut self) {
        match self.out {
            Out::Masked => self.sought.mask(&mut self.text),
            Out::Replaced => {
                let gone = self.text.get(..self.gone).unwrap_or_default().to_vec();
                self.sought.replace(&mut self.text);
                // Where a secret is whole by now whose beginning has gone, all of what replaces it follows that.
                let both = gone.iter().zip(self.text.iter());
                self.gone = both.take_while(|(old, new)| old == new).count();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use contract::secret::Secret;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::time::{Instant, sleep};
    use vault::placeholder::Placeholder;
    use vault::scrub::Forms;

    use super::super::masked::Masked;
    use super::*;

    const SECRET: &str = "sk-live/42+secret";

    fn placeholder() -> Placeholder {
        // No form of the secret begins with what it ends with.
        Placeholder::parse(&format!("lhph{}", "x".repeat(40))).unwrap()
    }

    fn sought() -> Sought {
        let secret = Secret::new(SECRET.to_owned());
        Sought::of(Some(Arc::new(Forms::of(&[(&secret, placeholder())]))))
    }

    fn mask() -> String {
        placeholder().text()[..SECRET.len()].to_owned()
    }

    #[test]
    fn the_rest_of_a_secret_never_goes_wherever_its_beginning_was_let_go() {
        let text = format!("a {SECRET}{SECRET} b sk-live/ c {SECRET}");
        let there = placeholder().text().to_owned();
        for out in [Out::Masked, Out::Replaced] {
            for first in 0..=text.len() {
                for second in first..=text.len() {
                    let (mut withheld, mut said) = (Withheld::new(sought(), out), Vec::new());
                    for piece in [&text[..first], &text[first..second], &text[second..]] {
                        withheld.push(piece.as_bytes(), &mut said);
                        withheld.let_go(&mut said);
                    }
                    let said = String::from_utf8(said).unwrap();
                    // What was let go of it is its beginning; the rest is not there.
                    assert!(!said.contains("et"), "{first} {second}: {said}");
                    assert!(said.contains(" b sk-live/ c "), "{first} {second}: {said}");
                    match out {
                        Out::Masked => assert_eq!(said.len(), text.len()),
                        Out::Replaced => {
                            assert_eq!(said.matches(&there).count(), 3, "{said}");
                        }
                    }
                }
            }
        }
    }

    fn masked() -> (DuplexStream, Masked<DuplexStream>) {
        let (server, far) = tokio::io::duplex(1024);
        (server, Masked::new(far, Some(sought())))
    }

    async fn said(masked: &mut Masked<DuplexStream>) -> String {
        let mut said = vec![0; 1024];
        let length = masked.read(&mut said).await.unwrap();
        String::from_utf8_lossy(&said[..length]).into_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_of_the_network_within_a_secret_shows_nothing_of_it() {
        for cut in 5..SECRET.len() {
            let (mut server, mut masked) = masked();
            let saying = async {
                server.write_all(&SECRET.as_bytes()[..cut]).await.unwrap();
                sleep(Duration::from_secs(2)).await;
                server.write_all(&SECRET.as_bytes()[cut..]).await.unwrap();
                drop(server);
            };
            let mut all = String::new();
            let (_, read) = tokio::join!(saying, masked.read_to_string(&mut all));
            read.unwrap();
            assert_eq!(all, mask(), "cut at {cut}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_server_waits_behind_goes_soon_if_it_is_short_and_later_if_it_is_not() {
        let (mut server, mut masked) = masked();
        let begun = Instant::now();
        server.write_all(b"prompt sk-l").await.unwrap();
        assert_eq!(said(&mut masked).await, "prompt ");
        assert_eq!(said(&mut masked).await, "sk-l");
        assert!(begun.elapsed() < Duration::from_secs(1));
        server.write_all(b"ive/").await.unwrap();
        assert_eq!(said(&mut masked).await, "ive/");
        assert!(begun.elapsed() >= LONG);
        server.write_all(&SECRET.as_bytes()[8..]).await.unwrap();
        assert_eq!(said(&mut masked).await, mask()[8..]);
    }
}
