//! The shapes of lists (api.md §1.7). What a cursor means belongs to whoever makes it.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::ids;

/// A page with a cursor forward.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Page<T> {
    /// The items.
    pub data: Vec<T>,
    /// The cursor of the next page; null on the last.
    pub next_page: Option<String>,
}

/// A page with cursors both ways: sessions only.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct BidiPage<T> {
    /// The items.
    pub data: Vec<T>,
    /// The cursor of the next page; null on the last.
    pub next_page: Option<String>,
    /// The cursor of the page before; null on the first.
    pub prev_page: Option<String>,
}

/// A page whose cursors are ids: models, and files as their beta listed them.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct IdPage<T> {
    /// The items.
    pub data: Vec<T>,
    /// Whether there are more in this direction.
    pub has_more: bool,
    /// The first item's id.
    pub first_id: Option<String>,
    /// The last item's id.
    pub last_id: Option<String>,
}

/// A thing that can be deleted: its id brings the word of the answer.
pub trait Deletable: Serialize + JsonSchema {
    /// `session_deleted` and the like.
    const DELETED: &'static str;
}

/// The answer to a delete: `{id, type}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted<I> {
    /// What was deleted.
    pub id: I,
}

impl<I: Deletable> Serialize for Deleted<I> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut fields = s.serialize_struct("Deleted", 2)?;
        fields.serialize_field("id", &self.id)?;
        fields.serialize_field("type", I::DELETED)?;
        fields.end()
    }
}

impl<I: Deletable> JsonSchema for Deleted<I> {
    fn schema_name() -> Cow<'static, str> {
        format!("Deleted{}", I::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let id = generator.subschema_for::<I>();
        let fields = json_schema!({"type": "object", "properties": {"id": id}, "required": ["id"]});
        crate::schema::variant(I::DELETED, fields)
    }
}

macro_rules! deletable {
    ($($id:ident => $word:literal;)*) => {$(
        impl Deletable for ids::$id {
            const DELETED: &'static str = $word;
        }
    )*};
}

deletable! {
    EnvironmentId => "environment_deleted";
    SessionId => "session_deleted";
    ResourceId => "session_resource_deleted";
    VaultId => "vault_deleted";
    CredentialId => "vault_credential_deleted";
    FileId => "file_deleted";
    SkillId => "skill_deleted";
    SkillVersionId => "skill_version_deleted";
    MemoryStoreId => "memory_store_deleted";
    MemoryId => "memory_deleted";
}
