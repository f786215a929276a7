//! A sealed secret opens in its own row, whole, under its own key; nowhere else and not otherwise.

use contract::ids::{CredentialId, MintedWorkspaceId, WorkspaceId};
use contract::secret::Secret;
use store::vaults::Sealed;
use vault::master::MasterKey;
use vault::secret::CredentialSecret;
use vault::{OpenError, Place, Vault};

fn vault(key: u8) -> Vault {
    Vault::with(&MasterKey::from_bytes([key; 32]))
}

fn place(record: &str) -> Place<'_> {
    Place {
        workspace: WorkspaceId::Default,
        record,
        column: "c",
    }
}

#[test]
fn a_secret_opens_where_it_was_sealed() {
    let sealed = vault(1).seal(&place("r"), b"hunter2");
    assert_eq!(
        *vault(1).open(&place("r"), &sealed).expect("opened"),
        b"hunter2"
    );
    assert!(!sealed.blob.windows(7).any(|w| w == b"hunter2"));
}

#[test]
fn the_same_secret_never_looks_the_same() {
    let v = vault(1);
    assert_ne!(
        v.seal(&place("r"), b"x").blob,
        v.seal(&place("r"), b"x").blob
    );
}

#[test]
fn a_secret_moved_to_another_row_column_or_workspace_does_not_open() {
    let v = vault(1);
    let sealed = v.seal(&place("r"), b"hunter2");
    let elsewhere = WorkspaceId::Minted(MintedWorkspaceId::from_bits(1));
    for wrong in [
        place("s"),
        place("rc"),
        Place {
            column: "d",
            ..place("r")
        },
        Place {
            workspace: elsewhere,
            ..place("r")
        },
    ] {
        assert_eq!(
            v.open(&wrong, &sealed).err(),
            Some(OpenError::Damaged),
            "{wrong:?}"
        );
    }
}

#[test]
fn a_change_of_any_byte_or_length_is_noticed() {
    let v = vault(1);
    let sealed = v.seal(&place("r"), b"hunter2");
    for at in 0..sealed.blob.len() {
        let mut blob = sealed.blob.clone();
        blob[at] ^= 1;
        let forged = Sealed {
            blob,
            ..sealed.clone()
        };
        assert!(v.open(&place("r"), &forged).is_err(), "byte {at}");
        let blob = sealed.blob[..at].to_vec();
        let cut = Sealed {
            blob,
            ..sealed.clone()
        };
        assert!(v.open(&place("r"), &cut).is_err(), "cut at {at}");
    }
}

#[test]
fn parts_of_two_secrets_do_not_make_a_third() {
    let v = vault(1);
    let (one, two) = (v.seal(&place("r"), b"first"), v.seal(&place("s"), b"other"));
    // The wrapped key of the one over the text of the other.
    let head = 1 + 12 + 48;
    let blob = [&one.blob[..head], &two.blob[head..]].concat();
    let mixed = Sealed {
        blob,
        key_version: 1,
    };
    assert!(v.open(&place("r"), &mixed).is_err());
    assert!(v.open(&place("s"), &mixed).is_err());
}

#[test]
fn another_master_key_or_key_version_does_not_open() {
    let sealed = vault(1).seal(&place("r"), b"hunter2");
    assert_eq!(
        vault(2).open(&place("r"), &sealed).err(),
        Some(OpenError::Damaged)
    );
    let later = Sealed {
        key_version: 2,
        ..sealed
    };
    let opened = vault(1).open(&place("r"), &later).err();
    assert_eq!(opened, Some(OpenError::KeyVersion { found: 2, have: 1 }));
}

#[test]
fn all_secrets_of_a_credential_come_back() {
    let v = vault(1);
    let id = CredentialId::from_bits(1);
    let secret = CredentialSecret {
        token: Secret::new("tök".to_owned()),
        refresh_token: None,
        client_secret: Some(Secret::new(String::new())),
    };
    let sealed = v.seal_credential(WorkspaceId::Default, id, &secret);
    let opened = v
        .open_credential(WorkspaceId::Default, id, &sealed)
        .expect("opened");
    assert_eq!(opened.token.expose(), "tök");
    assert!(opened.refresh_token.is_none());
    assert_eq!(opened.client_secret.expect("there").expose(), "");
    let other = CredentialId::from_bits(2);
    assert!(
        v.open_credential(WorkspaceId::Default, other, &sealed)
            .is_err()
    );
}

#[test]
fn debug_output_shows_no_secret() {
    let secret = CredentialSecret::token(Secret::new("hunter2".to_owned()));
    let shown = format!(
        "{secret:?} {:?} {:?}",
        vault(1),
        MasterKey::from_bytes([7; 32])
    );
    assert!(
        !shown.contains("hunter2") && !shown.contains('7'),
        "{shown}"
    );
}
