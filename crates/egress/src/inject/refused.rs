//! A token that its server does not take: what is known of it, so that the server that lends it can be asked for another
//! one. It must never say the token itself.

use contract::ids::CredentialId;
use contract::secret::Secret;
use vault::Lent;

use super::credentials::Credentials;
use super::spending::Spending;

/// A token that was put into a request and refused, though it can be refreshed.
pub(crate) struct Refused {
    pub(crate) id: CredentialId,
    /// As it was lent.
    pub(crate) lent: Lent,
    token: Secret,
}

impl Spending {
    /// Whether another token could be had if the server refuses the one in the request.
    pub(crate) fn is_renewable(&self) -> bool {
        self.renewable().is_some()
    }

    /// The one that could be renewed, in an answer that refuses it.
    pub(crate) fn refused(&self) -> Option<Refused> {
        let (place, token) = self.renewable()?;
        let one = self.credentials.all.get(place)?;
        Some(Refused {
            id: one.id,
            lent: one.lent.clone()?,
            token: token.copy(),
        })
    }

    fn renewable(&self) -> Option<(usize, &Secret)> {
        let spent = self.spent();
        self.opened.iter().find_map(|(place, opened)| {
            let one = self.credentials.all.get(*place)?;
            let is_put_in = one.renewable && spent.put_in.contains(&one.id);
            Some((*place, opened.secret.as_deref().filter(|_| is_put_in)?))
        })
    }
}

impl Credentials {
    /// Whether another token is there in its place.
    pub(crate) fn have_other(&self, refused: &Refused) -> bool {
        let one = self.all.iter().find(|one| one.id == refused.id);
        let lent = one.and_then(|one| one.lent.as_ref());
        let now = lent.and_then(|lent| lent.open().ok());
        // Both are this process's own: how long it takes tells nobody anything.
        now.is_some_and(|now| now.token.expose() != refused.token.expose())
    }
}
