//! What is sealed of a credential: its token and, for OAuth, what refreshes it. The form is binary, so
//! that no serialiser leaves copies of a secret behind.

use contract::ids::{CredentialId, WorkspaceId};
use contract::secret::Secret;
use store::vaults::Sealed;
use zeroize::Zeroizing;

use crate::crypt::{OpenError, Place};
use crate::handle::Vault;

/// The secrets of one credential.
#[derive(Debug)]
pub struct CredentialSecret {
    /// `token`, `secret_value` or `access_token`.
    pub token: Secret,
    /// OAuth: `refresh_token`.
    pub refresh_token: Option<Secret>,
    /// OAuth: `client_secret`.
    pub client_secret: Option<Secret>,
}

impl CredentialSecret {
    /// A credential with one secret.
    #[must_use]
    pub fn token(token: Secret) -> Self {
        Self {
            token,
            refresh_token: None,
            client_secret: None,
        }
    }

    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let fields = [
            (1u8, Some(&self.token)),
            (2, self.refresh_token.as_ref()),
            (3, self.client_secret.as_ref()),
        ];
        let present = || {
            fields
                .iter()
                .filter_map(|(tag, s)| s.map(|s| (*tag, s.expose())))
        };
        let room = present().map(|(_, text)| 5 + text.len()).sum();
        let mut out = Zeroizing::new(Vec::with_capacity(room));
        for (tag, text) in present() {
            // A request body is far below 4 GiB, and so is each of its fields.
            let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
            out.push(tag);
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let (mut token, mut refresh_token, mut client_secret) = (None, None, None);
        while let Some((tag, rest)) = bytes.split_first() {
            let (len, rest) = rest.split_first_chunk::<4>()?;
            let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
            let (text, rest) = rest.split_at_checked(len)?;
            let text = Some(Secret::new(std::str::from_utf8(text).ok()?.to_owned()));
            match tag {
                1 => token = text,
                2 => refresh_token = text,
                3 => client_secret = text,
                _ => return None,
            }
            bytes = rest;
        }
        Some(Self {
            token: token?,
            refresh_token,
            client_secret,
        })
    }
}

/// Where the secrets of the credential `record` belong.
pub(crate) fn place(workspace: WorkspaceId, record: &str) -> Place<'_> {
    Place {
        workspace,
        record,
        column: "credentials.sealed",
    }
}

impl Vault {
    /// Seals the secrets of a credential into its row.
    #[must_use]
    pub fn seal_credential(
        &self,
        workspace: WorkspaceId,
        id: CredentialId,
        secret: &CredentialSecret,
    ) -> Sealed {
        let record = id.to_string();
        self.seal(&place(workspace, &record), &secret.encode())
    }

    /// Opens the secrets of a credential.
    ///
    /// # Errors
    /// [`OpenError`]; it names no content.
    pub fn open_credential(
        &self,
        workspace: WorkspaceId,
        id: CredentialId,
        sealed: &Sealed,
    ) -> Result<CredentialSecret, OpenError> {
        let record = id.to_string();
        let opened = self.open(&place(workspace, &record), sealed)?;
        CredentialSecret::decode(&opened).ok_or(OpenError::Damaged)
    }
}
