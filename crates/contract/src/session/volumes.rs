//! Owns what the metadata of sessions and environments says about volumes. Which there are it does not know.

use crate::limits::{VOLUME_NAME, VOLUMES};
use crate::metadata::Metadata;
use crate::parse::Invalid;

/// The volumes of a session's sandbox: their names with commas between them, each with `:ro` behind it where the
/// sandbox may only read it. Nothing: none.
pub const SANDBOX_VOLUMES: &str = "longhand.volumes";

/// A volume that is wished for a session's sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeWish {
    /// Its name.
    pub name: String,
    /// Whether the sandbox may only read it.
    pub read_only: bool,
}

/// The volumes that this metadata names; none if it says nothing of them.
pub(super) fn volumes(metadata: &Metadata) -> Result<Option<Vec<VolumeWish>>, Invalid> {
    let Some(value) = metadata.get(SANDBOX_VOLUMES) else {
        return Ok(None);
    };
    let at = |problem: String| Invalid::at(format!("metadata.{SANDBOX_VOLUMES}"), problem);
    let mut wishes: Vec<VolumeWish> = Vec::new();
    for word in value.split(',').map(str::trim) {
        if word.is_empty() && value.trim().is_empty() {
            break;
        }
        let wish = wish(word).map_err(at)?;
        if wishes.iter().any(|one| one.name == wish.name) {
            return Err(at(format!("names the volume {:?} twice", wish.name)));
        }
        wishes.push(wish);
    }
    if wishes.len() > VOLUMES {
        let problem = format!("names {} volumes; at most {VOLUMES} may be", wishes.len());
        return Err(at(problem));
    }
    Ok(Some(wishes))
}

/// `name` or `name:ro`.
fn wish(word: &str) -> Result<VolumeWish, String> {
    let (name, read_only) = match word.split_once(':') {
        None => (word, false),
        Some((name, "ro")) => (name, true),
        Some((_, other)) => {
            return Err(format!("may say `:ro` behind a name, not {other:?}"));
        }
    };
    let small = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let starts = name.bytes().next().is_some_and(small);
    let plain = |byte: u8| small(byte) || byte == b'_' || byte == b'-';
    if !starts || name.len() > VOLUME_NAME || !name.bytes().all(plain) {
        return Err(format!(
            "must be names of volumes with commas between them (small letters, digits, `_` and `-`), not {name:?}"
        ));
    }
    Ok(VolumeWish {
        name: name.to_owned(),
        read_only,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(value: &str) -> Result<Option<Vec<VolumeWish>>, Invalid> {
        volumes(&Metadata::from([(
            SANDBOX_VOLUMES.to_owned(),
            value.to_owned(),
        )]))
    }

    #[test]
    fn names_are_told_apart_and_what_is_none_is_refused_by_its_path() {
        assert_eq!(volumes(&Metadata::new()).unwrap(), None);
        assert_eq!(said(" ").unwrap(), Some(Vec::new()));
        let wish = |name: &str, read_only| VolumeWish {
            name: name.to_owned(),
            read_only,
        };
        let two = said("pip-cache, data_2:ro").unwrap().unwrap();
        assert_eq!(two, [wish("pip-cache", false), wish("data_2", true)]);
        let many: Vec<String> = (0..=VOLUMES).map(|n| format!("v{n}")).collect();
        for bad in [
            "a,",
            ",",
            "a b",
            "A",
            "../a",
            "a:rw",
            "a:ro:ro",
            "-a",
            "a,a:ro",
            &many.join(","),
            &"a".repeat(VOLUME_NAME + 1),
        ] {
            let refused = said(bad).unwrap_err().to_string();
            assert!(
                refused.contains("metadata.longhand.volumes"),
                "{bad}: {refused}"
            );
        }
    }
}
