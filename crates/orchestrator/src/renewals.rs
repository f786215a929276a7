//! Tokens that their servers refused to programs in sandboxes: refreshed, as for everybody, by one at a time. It tells
//! nobody the new one; what is lent is made anew by [`crate::network`].

use contract::ids::SessionId;
use egress::host::RefusedToken;
use store::Store;
use store::sessions::Scope;
use vault::refresh::{Refresher, TokenError};

/// Why there is no other token.
#[derive(Debug, thiserror::Error)]
enum NoToken {
    #[error("it is no credential of that sandbox")]
    Foreign,
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("what was lent does not open")]
    Sealed(#[from] vault::OpenError),
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// Has the token of that credential refreshed, unless it is another one already. What could not be done is in the log;
/// it is looked after all the same. Returns what it was asked about.
pub(crate) async fn looked_after(
    store: Store,
    refresher: Refresher,
    refused: RefusedToken,
) -> RefusedToken {
    let (sandbox, credential_id) = (&refused.sandbox, refused.credential);
    match refreshed(&store, &refresher, &refused).await {
        Ok(()) => {
            tracing::info!(sandbox, %credential_id, "a token that was refused to a program has been replaced");
        }
        Err(error) => {
            tracing::warn!(sandbox, %credential_id, %error, "a token that was refused to a program stays");
        }
    }
    refused
}

async fn refreshed(
    store: &Store,
    refresher: &Refresher,
    refused: &RefusedToken,
) -> Result<(), NoToken> {
    let session = refused.sandbox.parse::<SessionId>();
    let session = session.map_err(|_| NoToken::Foreign)?;
    let row = store.session(Scope::Any, session).await?;
    let named = crate::credentials::named(store, &row, refused.credential).await?;
    let named = named.ok_or(NoToken::Foreign)?;
    let token = refused.lent.open()?.token;
    refresher.after_refusal(named, &token).await?;
    Ok(())
}
