//! The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), as PostgreSQL speaks it. The password leaves it only as what
//! proves that it is known; it must never take a server for the right one that does not know it too.

use std::num::NonZeroU32;

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use aws_lc_rs::{constant_time, hmac, pbkdf2, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// The mechanism's name.
pub(super) const NAME: &[u8] = b"SCRAM-SHA-256";

/// Rounds that a server may ask for: 25 times PostgreSQL's 4,096. What asks for more is after our processor.
const ROUNDS: u32 = 100_000;

/// Bytes of randomness in a nonce, as libpq has them.
const NONCE: usize = 18;

/// Why a login does not go on: one line, without any secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's SCRAM is wrong: {0}")]
pub(super) struct Wrong(&'static str);

/// One login.
pub(super) struct Scram {
    password: Zeroizing<Vec<u8>>,
    nonce: String,
    /// The first message without what is said of channel binding.
    first: String,
    /// What only a server that knows the password can say.
    expected: Option<hmac::Tag>,
}

impl Scram {
    /// With that password.
    ///
    /// # Errors
    /// There is no randomness.
    pub(super) fn new(password: &str) -> Result<Self, Wrong> {
        let mut nonce = [0; NONCE];
        rand::fill(&mut nonce).map_err(|_| Wrong("there is no randomness for it here"))?;
        // PostgreSQL takes the user from the start of the connection.
        Ok(Self::with("", STANDARD.encode(nonce), password))
    }

    fn with(user: &str, nonce: String, password: &str) -> Self {
        // As PostgreSQL does: what cannot be prepared counts as it is.
        let password = match stringprep::saslprep(password) {
            Ok(prepared) => Zeroizing::new(prepared.as_bytes().to_vec()),
            Err(_) => Zeroizing::new(password.as_bytes().to_vec()),
        };
        Self {
            password,
            first: format!("n={user},r={nonce}"),
            nonce,
            expected: None,
        }
    }

    /// What the client says first: it binds no channel, since its own ends at us.
    pub(super) fn first(&self) -> String {
        format!("n,,{}", self.first)
    }

    /// What it says to a server that has answered so, once. It computes for as long as the server wants, up to
    /// 100,000 rounds: no thread that others wait for does this.
    ///
    /// # Errors
    /// [`Wrong`].
    pub(super) fn answer(&mut self, server: &[u8]) -> Result<String, Wrong> {
        if self.expected.is_some() {
            return Err(Wrong("it asks twice"));
        }
        let server = std::str::from_utf8(server).map_err(|_| Wrong("it is no text"))?;
        let mut parts = server.split(',');
        let mut part = |name: &str| parts.next().and_then(|part| part.strip_prefix(name));
        let nonce = part("r=").ok_or(Wrong("it has no nonce"))?;
        let salt = part("s=").and_then(|salt| STANDARD.decode(salt).ok());
        let salt = salt.ok_or(Wrong("it has no salt"))?;
        let rounds = part("i=").and_then(|rounds| rounds.parse::<NonZeroU32>().ok());
        let rounds = rounds.ok_or(Wrong("it has no number of rounds"))?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(Wrong("its nonce is not an answer to ours"));
        }
        if rounds.get() > ROUNDS {
            return Err(Wrong("it asks for more than 100,000 rounds"));
        }
        let mut salted = Zeroizing::new([0; SHA256_OUTPUT_LEN]);
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            rounds,
            &salt,
            &self.password,
            &mut *salted,
        );
        let last = format!("c=biws,r={nonce}");
        let said = format!("{},{server},{last}", self.first);
        let key = keyed(&*salted, b"Client Key");
        let signature = keyed(digest(&SHA256, key.as_ref()).as_ref(), said.as_bytes());
        let both = key.as_ref().iter().zip(signature.as_ref());
        let proof: Zeroizing<Vec<u8>> = Zeroizing::new(both.map(|(a, b)| a ^ b).collect());
        let server_key = keyed(&*salted, b"Server Key");
        self.expected = Some(keyed(server_key.as_ref(), said.as_bytes()));
        Ok(format!("{last},p={}", STANDARD.encode(&*proof)))
    }

    /// Holds what the server says last against what only the right one can say.
    ///
    /// # Errors
    /// [`Wrong`].
    pub(super) fn check(&self, server: &[u8]) -> Result<(), Wrong> {
        let shown = server
            .strip_prefix(b"v=")
            .and_then(|it| STANDARD.decode(it).ok());
        let shown = shown.ok_or(Wrong("it does not show that it knows the password"))?;
        let expected = self
            .expected
            .as_ref()
            .ok_or(Wrong("it ends before it has begun"))?;
        constant_time::verify_slices_are_equal(&shown, expected.as_ref())
            .map_err(|_| Wrong("it does not know the password"))
    }
}

fn keyed(key: &[u8], text: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    /// The exchange of RFC 7677 §3.
    fn example() -> Scram {
        Scram::with("user", "rOprNGfwEbeRWgbNEkqO".to_owned(), "pencil")
    }

    #[test]
    fn the_exchange_is_that_of_the_standard() {
        let mut scram = example();
        assert_eq!(scram.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        assert_eq!(
            scram.answer(SERVER.as_bytes()).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        let last = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(scram.check(last), Ok(()));
    }

    #[test]
    fn a_server_that_does_not_know_the_password_or_asks_for_too_much_is_not_believed() {
        for wrong in [
            SERVER.replace("r=rOpr", "r=xOpr"),
            "r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".to_owned(),
            SERVER.replace("4096", "0"),
            SERVER.replace("4096", "100001"),
            SERVER.replace("s=", "x="),
            SERVER.replace("W22Z", "!"),
            String::new(),
        ] {
            assert!(example().answer(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let mut scram = example();
        assert!(
            scram
                .check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
                .is_err()
        );
        scram.answer(SERVER.as_bytes()).unwrap();
        assert_eq!(scram.answer(SERVER.as_bytes()), Err(Wrong("it asks twice")));
        for wrong in [&b"v=AAAA"[..], b"e=other-error", b"v=", b""] {
            assert!(scram.check(wrong).is_err(), "{wrong:?}");
        }
    }
}
