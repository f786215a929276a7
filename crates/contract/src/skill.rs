//! Skills that are uploaded, and their versions (api.md §14): forms and objects. What is in an archive is read
//! elsewhere; here stand the rules for its names.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check;
use crate::dialect::Vintage;
use crate::ids::{SkillId, SkillVersionId};
use crate::limits::{SKILL_DESCRIPTION, SKILL_DISPLAY_NAME, SKILL_FILES, SKILL_NAME};
use crate::parse::Invalid;
use crate::query::Pairs;
use crate::schema::constants;
use crate::time::Micros;

constants! { SkillTag = Skill; SkillVersionTag = SkillVersion; }

/// A skill as it is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's, api.md §14
pub struct Skill {
    pub id: SkillId,
    #[serde(rename = "type")]
    pub kind: SkillTag,
    pub display_name: String,
    pub latest_version_id: SkillVersionId,
    pub source: SkillSource,
    pub created_at: Micros,
    pub updated_at: Micros,
}

/// Where a skill comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SkillSource {
    /// From whom.
    #[serde(rename = "type")]
    pub kind: SkillOrigin,
}

/// From whom a skill comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the values are the contract's
pub enum SkillOrigin {
    Custom,
    Anthropic,
    AnthropicExample,
    Plugin,
}

/// A version of a skill as it is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's, api.md §14
pub struct SkillVersion {
    pub id: SkillVersionId,
    #[serde(rename = "type")]
    pub kind: SkillVersionTag,
    pub skill_id: SkillId,
    /// What it calls itself; every version of a skill has the same.
    pub name: String,
    pub description: String,
    pub created_at: Micros,
}

/// A skill as its beta knew it ([`Vintage::Beta`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's
pub struct BetaSkill {
    pub id: SkillId,
    #[serde(rename = "type")]
    pub kind: SkillTag,
    pub display_title: String,
    /// The number of the latest version.
    pub latest_version: String,
    pub source: SkillOrigin,
    pub created_at: Micros,
    pub updated_at: Micros,
}

/// A version of a skill as its beta knew it: found by its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's
pub struct BetaSkillVersion {
    pub id: SkillVersionId,
    #[serde(rename = "type")]
    pub kind: SkillVersionTag,
    pub skill_id: SkillId,
    /// Its number; see [`version_number`].
    pub version: String,
    /// The top folder of its archive, which is its name.
    pub directory: String,
    pub name: String,
    pub description: String,
    pub created_at: Micros,
}

/// The number of a version in the beta: the microseconds of its creation.
#[must_use]
pub fn version_number(created_at: Micros) -> String {
    created_at.0.to_string()
}

impl Skill {
    /// The same in the words of the beta; `latest` is when its latest version was made.
    #[must_use]
    pub fn beta(self, latest: Micros) -> BetaSkill {
        BetaSkill {
            id: self.id,
            kind: self.kind,
            display_title: self.display_name,
            latest_version: version_number(latest),
            source: self.source.kind,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}

impl From<SkillVersion> for BetaSkillVersion {
    fn from(version: SkillVersion) -> Self {
        Self {
            id: version.id,
            kind: version.kind,
            skill_id: version.skill_id,
            version: version_number(version.created_at),
            directory: version.name.clone(),
            name: version.name,
            description: version.description,
            created_at: version.created_at,
        }
    }
}

/// The text parts of `POST /v1/skills`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateSkill {
    /// `None`: what the skill calls itself.
    pub display_name: Option<String>,
}

/// The text parts of `POST /v1/skills/{skill_id}/versions`: there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreateSkillVersion;

impl CreateSkill {
    /// The parts that hold the files; the name of each file is its path.
    pub const FILES: &str = "files[]";

    /// Reads the text parts: name and content. In the beta the name was a title.
    ///
    /// # Errors
    /// An unknown part, one that stands twice, a name that is too long; the path is the part's name.
    pub fn parse(parts: Vec<(String, String)>, vintage: Vintage) -> Result<Self, Invalid> {
        let field = match vintage {
            Vintage::General => "display_name",
            Vintage::Beta => "display_title",
        };
        let mut parts = Pairs::form(parts);
        let display_name = parts.text(field)?;
        parts.finish()?;
        if let Some(name) = &display_name {
            check::length(field, name, 1, SKILL_DISPLAY_NAME)?;
        }
        Ok(Self { display_name })
    }
}

impl CreateSkillVersion {
    /// Reads the text parts: name and content.
    ///
    /// # Errors
    /// There is one; the path is its name.
    pub fn parse(parts: Vec<(String, String)>) -> Result<Self, Invalid> {
        Pairs::form(parts).finish()?;
        Ok(Self)
    }
}

/// The one folder that holds all files of a skill, with `SKILL.md` at its root (api.md §14).
///
/// # Errors
/// No files or too many, a path that leaves the folder or stands twice, two folders, no `SKILL.md`; the path is
/// `files[i]`, or `files` for all of them.
pub fn folder<'a>(paths: &[&'a str]) -> Result<&'a str, Invalid> {
    let Some(first) = paths.first() else {
        return Err(Invalid::at("files", "must hold at least one file"));
    };
    check::count("files", paths.len(), SKILL_FILES)?;
    let folder = first.split('/').next().unwrap_or_default();
    let mut seen = std::collections::BTreeSet::new();
    for (index, path) in paths.iter().enumerate() {
        let bad = |problem: &str| Err(Invalid::at(format!("files[{index}]"), problem));
        let mut segments = path.split('/');
        let top = segments.next().unwrap_or_default();
        let plain = |segment: &str| {
            !matches!(segment, "" | "." | "..")
                && !segment.contains(|c: char| c.is_control() || c == '\\')
        };
        if !plain(top) || !segments.all(plain) {
            return bad("the file's name must be a relative path such as `my-skill/SKILL.md`");
        }
        if top != folder || !path.contains('/') {
            return bad("all files must be in one folder, which is part of their names");
        }
        if !seen.insert(*path) {
            return bad("repeats the path of an earlier file");
        }
    }
    if !seen.contains(format!("{folder}/SKILL.md").as_str()) {
        let problem = format!("there is no `{folder}/SKILL.md`");
        return Err(Invalid::at("files", problem));
    }
    Ok(folder)
}

/// Checks what a `SKILL.md` says of itself (behaviours §16).
///
/// # Errors
/// A name that is no slug of at most 64 characters or poses as the vendor's, no description or one that is too
/// long; the path starts with `SKILL.md`.
pub fn check_front_matter(name: &str, description: &str) -> Result<(), Invalid> {
    let slug = name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    check::length("SKILL.md.name", name, 1, SKILL_NAME)?;
    if !slug {
        let problem = "must be lower-case letters, digits and hyphens";
        return Err(Invalid::at("SKILL.md.name", problem));
    }
    if ["anthropic", "claude"]
        .iter()
        .any(|word| name.contains(word))
    {
        let problem = "must not contain `anthropic` or `claude`";
        return Err(Invalid::at("SKILL.md.name", problem));
    }
    check::length("SKILL.md.description", description, 1, SKILL_DESCRIPTION)
}
