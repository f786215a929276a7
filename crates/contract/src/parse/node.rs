//! The deserializer that carries the path of an error. It reads a JSON value and knows two shapes that
//! serde has no word for: an object told apart by `type`, and a string that stands for an object.

use serde::Deserialize;
use serde::de::{
    DeserializeSeed, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};
use serde_json::{Map, Value};

use super::Invalid;

/// Newtype name by which `tagged!` asks for an object told apart by `type`.
pub(crate) const TAGGED: &str = "$tagged";
/// Newtype name by which [`super::StringOr`] asks for a string or an object.
pub(crate) const STRING_OR: &str = "$string_or";

/// A value being read.
pub(crate) struct Node(pub(crate) Value);

/// The fields of a union's variant that has none besides `type`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Empty {}

/// Reads a `type` that must be one of these.
pub(crate) struct Tag(pub(crate) &'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Tag {
    type Value = String;

    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<String, D::Error> {
        let tag = String::deserialize(d)?;
        if self.0.contains(&tag.as_str()) {
            Ok(tag)
        } else {
            Err(D::Error::unknown_variant(&tag, self.0))
        }
    }
}

fn unexpected(value: &Value) -> Unexpected<'static> {
    match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(b) => Unexpected::Bool(*b),
        Value::Number(n) if n.is_f64() => Unexpected::Float(0.0),
        Value::Number(_) => Unexpected::Signed(0),
        Value::String(_) => Unexpected::Str(""),
        Value::Array(_) => Unexpected::Seq,
        Value::Object(_) => Unexpected::Map,
    }
}

fn no_nul(text: &str) -> Result<(), Invalid> {
    if text.contains('\0') {
        return Err(Invalid::body(
            "contains a NUL character, which cannot be stored",
        ));
    }
    Ok(())
}

impl<'de> serde::Deserializer<'de> for Node {
    type Error = Invalid;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Invalid> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(b),
            Value::Number(n) => match (n.as_u64(), n.as_i64(), n.as_f64()) {
                (Some(n), _, _) => visitor.visit_u64(n),
                (None, Some(n), _) => visitor.visit_i64(n),
                (None, None, Some(n)) => visitor.visit_f64(n),
                (None, None, None) => Err(Invalid::body("the number is out of range")),
            },
            Value::String(text) => {
                no_nul(&text)?;
                visitor.visit_string(text)
            }
            Value::Array(items) => visitor.visit_seq(Items {
                items: items.into_iter(),
                index: 0,
            }),
            Value::Object(fields) => visitor.visit_map(Fields::new(fields)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Invalid> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    // A derived struct would also accept an array of its fields.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Invalid> {
        match self.0 {
            Value::Object(fields) => visitor.visit_map(Fields::new(fields)),
            other => Err(Invalid::invalid_type(unexpected(&other), &"an object")),
        }
    }

    // Enums that are derived are plain strings; unions come as `TAGGED`.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Invalid> {
        match self.0 {
            Value::String(text) => visitor.visit_enum(text.into_deserializer()),
            other => Err(Invalid::invalid_type(unexpected(&other), &"a string")),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Invalid> {
        match (name, self.0) {
            (TAGGED, Value::Object(mut fields)) => match fields.remove("type") {
                Some(tag) => visitor.visit_enum(Tagged { tag, fields }),
                None => Err(Invalid::missing_field("type")),
            },
            (TAGGED, other) => Err(Invalid::invalid_type(
                unexpected(&other),
                &"an object with `type`",
            )),
            (STRING_OR, Value::String(text)) => {
                no_nul(&text)?;
                visitor.visit_string(text)
            }
            (STRING_OR, Value::Object(fields)) => {
                visitor.visit_newtype_struct(Self(Value::Object(fields)))
            }
            (STRING_OR, other) => Err(Invalid::invalid_type(
                unexpected(&other),
                &"a string or an object",
            )),
            (_, value) => visitor.visit_newtype_struct(Self(value)),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items {
    items: std::vec::IntoIter<Value>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Items {
    type Error = Invalid;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Invalid> {
        let Some(item) = self.items.next() else {
            return Ok(None);
        };
        let index = self.index;
        self.index += 1;
        seed.deserialize(Node(item))
            .map(Some)
            .map_err(|bad| bad.under_index(index))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Fields {
    fields: serde_json::map::IntoIter,
    current: Option<(String, Value)>,
}

impl Fields {
    fn new(fields: Map<String, Value>) -> Self {
        Self {
            fields: fields.into_iter(),
            current: None,
        }
    }
}

impl<'de> MapAccess<'de> for Fields {
    type Error = Invalid;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Invalid> {
        let Some((key, value)) = self.fields.next() else {
            return Ok(None);
        };
        if key.contains('\0') {
            return Err(Invalid::body("a key contains a NUL character"));
        }
        let read = seed.deserialize(key.as_str().into_deserializer());
        self.current = Some((key, value));
        read.map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Invalid> {
        let Some((key, value)) = self.current.take() else {
            return Err(Invalid::body("a value was asked for before its key"));
        };
        seed.deserialize(Node(value)).map_err(|bad| bad.under(&key))
    }
}

struct Tagged {
    tag: Value,
    fields: Map<String, Value>,
}

impl<'de> EnumAccess<'de> for Tagged {
    type Error = Invalid;
    type Variant = Rest;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Rest), Invalid> {
        let tag = seed
            .deserialize(Node(self.tag))
            .map_err(|bad| bad.under("type"))?;
        Ok((tag, Rest(self.fields)))
    }
}

/// The fields of a tagged object besides its tag.
struct Rest(Map<String, Value>);

impl<'de> VariantAccess<'de> for Rest {
    type Error = Invalid;

    fn unit_variant(self) -> Result<(), Invalid> {
        Empty::deserialize(Node(Value::Object(self.0))).map(|_| ())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Invalid> {
        seed.deserialize(Node(Value::Object(self.0)))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Invalid> {
        Err(Invalid::invalid_type(Unexpected::Map, &visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Invalid> {
        visitor.visit_map(Fields::new(self.0))
    }
}
