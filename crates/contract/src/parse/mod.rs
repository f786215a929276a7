//! Reading request bodies: strict, and every refusal names the place. It never guesses, never coerces
//! and never drops what it does not know.
//!
//! serde's own tagged enums buffer, lose the path and accept unknown fields (serde-rs/serde#2123,
//! #2294), so unions go through [`tagged!`] and a deserializer of ours ([`node`]) that carries the path.

mod invalid;
pub(crate) mod node;
mod unique;

pub use invalid::Invalid;

use serde::de::DeserializeOwned;

/// Reads a JSON body strictly.
///
/// # Errors
/// The body is not UTF-8, not JSON, has a key twice, a lone surrogate or a NUL character, or does not
/// have the shape of `T`; the path says where.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Invalid> {
    let text = std::str::from_utf8(body).map_err(|bad| {
        Invalid::body(format!(
            "not UTF-8: the byte at offset {} is invalid",
            bad.valid_up_to()
        ))
    })?;
    if text.trim().is_empty() {
        return Err(Invalid::body("expected a JSON object, got an empty body"));
    }
    let unique::Unique(value) = serde_json::from_str(text)
        .map_err(|bad| Invalid::body(format!("malformed JSON: {bad}")))?;
    parse_value(value)
}

/// Reads a JSON value with the strictness of [`parse`].
///
/// # Errors
/// As [`parse`].
pub fn parse_value<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, Invalid> {
    T::deserialize(node::Node(value))
}

/// Implements `Deserialize` and `JsonSchema` for an enum that the wire tells apart by `type`. Each variant is a unit or
/// holds one struct, which is read strictly and without the tag; errors keep their path.
macro_rules! tagged {
    ($name:ident { $($tag:literal => $variant:ident $(($inner:ty))?),+ $(,)? }) => {
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                const TAGS: &[&str] = &[$($tag),+];
                struct Reader;
                impl<'de> serde::de::Visitor<'de> for Reader {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object with `type`")
                    }

                    fn visit_enum<A: serde::de::EnumAccess<'de>>(
                        self,
                        access: A,
                    ) -> Result<$name, A::Error> {
                        let (tag, content) =
                            access.variant_seed($crate::parse::node::Tag(TAGS))?;
                        match tag.as_str() {
                            $($tag => tagged!(@read content, $name, $variant $(, $inner)?),)+
                            other => Err(serde::de::Error::unknown_variant(other, TAGS)),
                        }
                    }

                    // Any other deserializer (stored JSON): through a value and ours.
                    fn visit_newtype_struct<F: serde::Deserializer<'de>>(
                        self,
                        foreign: F,
                    ) -> Result<$name, F::Error> {
                        let value = serde_json::Value::deserialize(foreign)?;
                        $name::deserialize($crate::parse::node::Node(value))
                            .map_err(serde::de::Error::custom)
                    }
                }
                d.deserialize_newtype_struct($crate::parse::node::TAGGED, Reader)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            // Two modules may have a type of one name.
            fn schema_id() -> std::borrow::Cow<'static, str> {
                concat!(module_path!(), "::", stringify!($name)).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let variants = [$(tagged!(@schema generator, $tag $(, $inner)?)),+];
                schemars::json_schema!({"oneOf": variants})
            }
        }
    };
    (@schema $generator:ident, $tag:literal) => {
        $crate::schema::unit($generator, $tag)
    };
    (@schema $generator:ident, $tag:literal, $inner:ty) => {{
        let inner = <$inner as schemars::JsonSchema>::json_schema($generator);
        $crate::schema::variant($tag, inner)
    }};
    (@read $content:ident, $name:ident, $variant:ident) => {
        serde::de::VariantAccess::newtype_variant::<$crate::parse::node::Empty>($content)
            .map(|_| $name::$variant)
    };
    (@read $content:ident, $name:ident, $variant:ident, $inner:ty) => {
        serde::de::VariantAccess::newtype_variant::<$inner>($content).map($name::$variant)
    };
}
pub(crate) use tagged;

/// A union of a string and an object, told apart by the JSON type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StringOr<T> {
    /// The short form.
    String(String),
    /// The long form.
    Object(T),
}

impl<'de, T: serde::Deserialize<'de>> serde::Deserialize<'de> for StringOr<T> {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Reader<T>(std::marker::PhantomData<T>);
        impl<'de, T: serde::Deserialize<'de>> serde::de::Visitor<'de> for Reader<T> {
            type Value = StringOr<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string or an object")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(StringOr::String(text.to_owned()))
            }

            fn visit_newtype_struct<F: serde::Deserializer<'de>>(
                self,
                object: F,
            ) -> Result<Self::Value, F::Error> {
                T::deserialize(object).map(StringOr::Object)
            }
        }
        d.deserialize_newtype_struct(node::STRING_OR, Reader(std::marker::PhantomData))
    }
}
