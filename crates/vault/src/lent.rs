//! A secret on its way to the process that spends it: sealed, with the one data key that opens it. Whoever lends
//! does not open the secret, and whoever borrows can open nothing else. Only what refreshes a token stays with the
//! lender, who opens that credential to leave it out.

use aws_lc_rs::aead::NONCE_LEN;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use contract::ids::{CredentialId, WorkspaceId};
use contract::secret::Secret;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use store::vaults::Sealed;
use zeroize::Zeroizing;

use crate::crypt::{self, OpenError};
use crate::handle::Vault;
use crate::master::LEN;
use crate::secret::{CredentialSecret, place};

/// The sealed secret of one credential and its data key. Serialised it is as good as the secret: it goes from
/// process to process in memory, and never to a disk or a log.
#[derive(Clone)]
pub struct Lent {
    key: Zeroizing<[u8; LEN]>,
    /// Nonce and ciphertext.
    body: Vec<u8>,
    /// What it is bound to.
    bound: Vec<u8>,
}

impl std::fmt::Debug for Lent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lent(…)")
    }
}

impl Vault {
    /// What opens the secrets of that credential, and nothing else, without opening them here.
    ///
    /// # Errors
    /// [`OpenError`]: its data key does not open.
    pub fn lend_credential(
        &self,
        workspace: WorkspaceId,
        id: CredentialId,
        sealed: &Sealed,
    ) -> Result<Lent, OpenError> {
        let record = id.to_string();
        let place = place(workspace, &record);
        let (key, body) = self.reading(|ring| {
            let (key, body) = crypt::data_key(ring, &place, sealed)?;
            Ok::<_, OpenError>((key, body.to_vec()))
        })?;
        Ok(Lent {
            key,
            body,
            bound: crypt::bound(&place),
        })
    }

    /// The same for a credential with more secrets than its token: that alone, sealed under a key of its own. It is
    /// opened here for that, as it is to be refreshed.
    ///
    /// # Errors
    /// [`OpenError`]: it does not open.
    pub fn lend_token(
        &self,
        workspace: WorkspaceId,
        id: CredentialId,
        sealed: &Sealed,
    ) -> Result<Lent, OpenError> {
        let opened = self.open_credential(workspace, id, sealed)?;
        let record = id.to_string();
        let place = place(workspace, &record);
        let alone = CredentialSecret::token(opened.token);
        let (key, body) = crypt::under_new_key(&place, &alone.encode());
        Ok(Lent {
            key,
            body,
            bound: crypt::bound(&place),
        })
    }
}

impl Lent {
    /// Bytes of it, about.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        LEN + self.body.len() + self.bound.len()
    }

    /// Opens the secrets. The caller drops them as soon as they are spent.
    ///
    /// # Errors
    /// [`OpenError`]; it names no content.
    pub fn open(&self) -> Result<CredentialSecret, OpenError> {
        let (nonce, body) = crypt::split(&self.body, NONCE_LEN)?;
        let opened = crypt::unseal(&self.key, nonce, self.bound.clone(), body)?;
        CredentialSecret::decode(&opened).ok_or(OpenError::Damaged)
    }
}

impl Serialize for Lent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let key = Zeroizing::new(STANDARD_NO_PAD.encode(*self.key));
        let (body, bound) = (&self.body, &self.bound);
        (
            key.as_str(),
            STANDARD_NO_PAD.encode(body),
            STANDARD_NO_PAD.encode(bound),
        )
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Lent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = || D::Error::custom("what was lent is damaged");
        let plain = |text: &str| STANDARD_NO_PAD.decode(text).map_err(|_| wrong());
        let (key, body, bound) = <(Secret, String, String)>::deserialize(deserializer)?;
        let mut opened = Zeroizing::new([0; LEN]);
        // Room for one that is too long, which is refused.
        let mut decoded = Zeroizing::new([0; 2 * LEN]);
        match STANDARD_NO_PAD.decode_slice(key.expose(), &mut *decoded) {
            Ok(LEN) => opened.copy_from_slice(&decoded[..LEN]),
            Ok(_) | Err(_) => return Err(wrong()),
        }
        Ok(Self {
            key: opened,
            body: plain(&body)?,
            bound: plain(&bound)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::MasterKey;

    #[test]
    fn what_is_lent_opens_its_credential_and_says_nothing_of_it_before() {
        let vault = Vault::with(&MasterKey::from_bytes([7; 32]));
        let (workspace, id) = (WorkspaceId::Default, CredentialId::from_bits(5));
        let secret = CredentialSecret::token(Secret::new("a-canary-of-the-vault".to_owned()));
        let sealed = vault.seal_credential(workspace, id, &secret);
        let before = vault.opened();
        let lent = vault.lend_credential(workspace, id, &sealed).unwrap();
        assert_eq!(vault.opened(), before, "the lender opens nothing");
        let text = serde_json::to_string(&lent).unwrap();
        assert!(!text.contains("canary") && !format!("{lent:?}").contains("canary"));
        let taken: Lent = serde_json::from_str(&text).unwrap();
        assert_eq!(
            taken.open().unwrap().token.expose(),
            "a-canary-of-the-vault"
        );

        let secret = CredentialSecret {
            token: Secret::new("a-canary-of-the-vault".to_owned()),
            refresh_token: Some(Secret::new("what-refreshes-it".to_owned())),
            client_secret: Some(Secret::new("who-refreshes-it".to_owned())),
        };
        let renewable = vault.seal_credential(workspace, id, &secret);
        let alone = vault.lend_token(workspace, id, &renewable).unwrap();
        let alone = alone.open().unwrap();
        assert_eq!(alone.token.expose(), "a-canary-of-the-vault");
        assert!(alone.refresh_token.is_none() && alone.client_secret.is_none());

        let other = CredentialId::from_bits(6);
        assert!(vault.lend_token(workspace, other, &renewable).is_err());
        assert!(vault.lend_credential(workspace, other, &sealed).is_err());
        let stranger = Vault::with(&MasterKey::from_bytes([8; 32]));
        assert!(stranger.lend_credential(workspace, id, &sealed).is_err());
        for damaged in [
            text.replace("\",\"", "AAAA\",\""),
            text.replacen('"', "\"AAAA", 1),
        ] {
            let read = serde_json::from_str::<Lent>(&damaged);
            assert!(
                !matches!(read.map(|lent| lent.open()), Ok(Ok(_))),
                "{damaged}"
            );
        }
    }
}
