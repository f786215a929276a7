//! The statements of refreshes and of rotations of the master key.

use super::{
    CredentialId, CredentialKind, Cx, NOW, NewCredential, Sealed, Slot, VaultId, WS, credentials,
    json, ok, vaults,
};
use crate::master::Wrapped;
use crate::refreshes::{Due, Holder, Outcome, Patience, Settled};
use crate::sqlite::{master, refreshes};

/// Leaves nothing behind but the rotated key, so that it comes last.
pub(super) fn run(cx: &mut Cx<'_>, vault: VaultId) {
    let credential = CredentialId::from_bits(9);
    let slot = Slot::McpServerUrl("oauth".to_owned());
    let sealed = |key_version| Sealed {
        blob: vec![1],
        key_version,
    };
    let new = NewCredential {
        id: credential,
        kind: CredentialKind::McpOauth,
        slot: Some(slot.clone()),
        auth: json(),
        display_name: None,
        metadata: [].into(),
        sealed: sealed(1),
    };
    ok(credentials::create(cx, WS, vault, new, (NOW, 20)));
    ok(vaults::credential_at(cx.conn, WS, &[vault], &slot));
    ok(refreshes::due(cx.conn, NOW, 1));
    let (due, holder) = (
        Due {
            workspace: WS,
            vault,
            credential,
        },
        Holder(1),
    );
    ok(refreshes::claim(
        cx,
        due,
        holder,
        Patience::Kept,
        (NOW, NOW),
    ));
    let outcome = Outcome::Renewed {
        base: 1,
        auth: json(),
        sealed: sealed(1),
    };
    let settled = Settled {
        outcome,
        due_at: None,
        retry_at: NOW,
    };
    ok(refreshes::settle(cx, due, holder, settled, NOW));
    ok(master::init(cx, b"check", &sealed(1)));
    ok(master::begin(cx, b"next"));
    ok(master::wrapped_under(cx.conn, 1, None, 10));
    ok(master::finish(cx, &sealed(2)));
    let wrapped = Wrapped {
        credential,
        before: vec![1],
        after: sealed(2),
    };
    ok(master::rewrap(cx, &[wrapped]));
    ok(credentials::delete(cx, WS, vault, credential));
}
