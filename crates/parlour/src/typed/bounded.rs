//! Limits on the nesting depth and the number of elements of a value that is deserialised.
//!
//! A message of a few bytes may announce 2^60 elements that take no bytes each. A message of some kilobytes may nest
//! options until the stack is exhausted. The format limits neither, so the wrappers of this module stand between the
//! format and the type. Every value that contains others, and every element, passes through them.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};

/// The maximum nesting depth of values. Structs, enums, options, sequences and maps count one level each. The limit is
/// far higher than messages need, and low enough for the stack of a thread.
pub(super) const LEVELS_MAX: usize = 128;

/// The number of elements that a message may have in addition to one for each of its bytes. Only elements that take no
/// bytes, such as `()`, need this.
pub(super) const ELEMENTS_BEYOND_BYTES: usize = 65_536;

/// The remaining budget of one message.
pub(super) struct Budget {
    levels: Cell<usize>,
    elements: Cell<usize>,
    exceeded: Cell<Option<&'static str>>,
}

impl Budget {
    pub(super) fn for_message(bytes: usize) -> Self {
        Self {
            levels: Cell::new(LEVELS_MAX),
            elements: Cell::new(bytes.saturating_add(ELEMENTS_BEYOND_BYTES)),
            exceeded: Cell::new(None),
        }
    }

    /// Wraps a deserializer, so that it spends this budget.
    pub(super) fn bound<D>(&self, inner: D) -> Bounded<'_, D> {
        Bounded { inner, budget: self }
    }

    /// Returns the error text of the limit that ended the decoding, or `None`.
    pub(super) fn exceeded(&self) -> Option<&'static str> {
        self.exceeded.get()
    }

    fn refuse<E: Error>(&self, why: &'static str) -> E {
        self.exceeded.set(Some(why));
        E::custom(why)
    }

    /// Enters one nesting level while `visit` runs.
    fn nested<T, E: Error>(&self, visit: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let left = self.levels.get();
        let Some(below) = left.checked_sub(1) else { return Err(self.refuse("the values are nested too deeply")) };
        self.levels.set(below);
        let value = visit();
        self.levels.set(left);
        value
    }

    fn take_element<E: Error>(&self) -> Result<(), E> {
        match self.elements.get().checked_sub(1) {
            Some(left) => {
                self.elements.set(left);
                Ok(())
            }
            None => Err(self.refuse("the message has too many elements for its length")),
        }
    }
}

/// A deserializer, or one of its access objects, whose values spend a [`Budget`].
pub(super) struct Bounded<'a, D> {
    inner: D,
    budget: &'a Budget,
}

/// Forwards methods for values that contain no others, so that no limit applies.
macro_rules! forward {
    ($($method:ident)+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method(visitor)
        })+
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Bounded<'_, D> {
    type Error = D::Error;

    forward! {
        deserialize_bool
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64 deserialize_char
        deserialize_str deserialize_string
        deserialize_unit deserialize_identifier
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(name, visitor)
    }

    // The input decides about the type of these, so they may contain anything.

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(Inside { visitor, budget: self.budget, counted: true })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_ignored_any(Inside { visitor, budget: self.budget, counted: true })
    }

    // The message determines the number of elements. JSON has bytes as a sequence of numbers.

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_bytes(Inside { visitor, budget: self.budget, counted: true })
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_byte_buf(Inside { visitor, budget: self.budget, counted: true })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_seq(Inside { visitor, budget: self.budget, counted: true })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_map(Inside { visitor, budget: self.budget, counted: true })
    }

    // The type determines the number of elements.

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_option(Inside { visitor, budget: self.budget, counted: false })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_newtype_struct(name, Inside { visitor, budget: self.budget, counted: false })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_tuple(len, Inside { visitor, budget: self.budget, counted: false })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_tuple_struct(name, len, Inside { visitor, budget: self.budget, counted: false })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_struct(name, fields, Inside { visitor, budget: self.budget, counted: false })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_enum(name, variants, Inside { visitor, budget: self.budget, counted: false })
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// A visitor of a value that contains others.
struct Inside<'a, V> {
    visitor: V,
    budget: &'a Budget,
    /// The message determines the number of elements, so they are counted.
    counted: bool,
}

/// Forwards the methods that a self-describing deserializer may call.
macro_rules! pass {
    ($($method:ident($value:ty))+) => {
        $(fn $method<E: Error>(self, value: $value) -> Result<V::Value, E> {
            self.visitor.$method(value)
        })+
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Inside<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    pass! {
        visit_bool(bool)
        visit_i8(i8) visit_i16(i16) visit_i32(i32) visit_i64(i64) visit_i128(i128)
        visit_u8(u8) visit_u16(u16) visit_u32(u32) visit_u64(u64) visit_u128(u128)
        visit_f32(f32) visit_f64(f64) visit_char(char)
        visit_str(&str) visit_borrowed_str(&'de str) visit_string(String)
        visit_bytes(&[u8]) visit_borrowed_bytes(&'de [u8]) visit_byte_buf(Vec<u8>)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.budget.nested(|| self.visitor.visit_some(self.budget.bound(inner)))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.budget.nested(|| self.visitor.visit_newtype_struct(self.budget.bound(inner)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let elements = Elements { inner, budget: self.budget, counted: self.counted };
        self.budget.nested(|| self.visitor.visit_seq(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let elements = Elements { inner, budget: self.budget, counted: self.counted };
        self.budget.nested(|| self.visitor.visit_map(elements))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.budget.nested(|| self.visitor.visit_enum(self.budget.bound(inner)))
    }
}

/// The elements of a sequence or the entries of a map.
struct Elements<'a, A> {
    inner: A,
    budget: &'a Budget,
    counted: bool,
}

impl<A> Elements<'_, A> {
    fn take<E: Error>(&self) -> Result<(), E> {
        if self.counted { self.budget.take_element() } else { Ok(()) }
    }

    /// Caps the size hint. Types reserve memory for the announced number of elements, and no more elements than the
    /// budget allows can follow.
    fn expected(&self, announced: Option<usize>) -> Option<usize> {
        announced.map(|count| if self.counted { count.min(self.budget.elements.get()) } else { count })
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Elements<'_, A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, A::Error> {
        let element = self.inner.next_element_seed(Seed { seed, budget: self.budget })?;
        if element.is_some() {
            self.take()?;
        }
        Ok(element)
    }

    fn size_hint(&self) -> Option<usize> {
        self.expected(self.inner.size_hint())
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Elements<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let key = self.inner.next_key_seed(Seed { seed, budget: self.budget })?;
        if key.is_some() {
            self.take()?;
        }
        Ok(key)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.inner.next_value_seed(Seed { seed, budget: self.budget })
    }

    fn size_hint(&self) -> Option<usize> {
        self.expected(self.inner.size_hint())
    }
}

/// A seed whose value spends the budget.
struct Seed<'a, T> {
    seed: T,
    budget: &'a Budget,
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Seed<'_, T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<T::Value, D::Error> {
        self.seed.deserialize(self.budget.bound(inner))
    }
}

impl<'a, 'de, A: EnumAccess<'de>> EnumAccess<'de> for Bounded<'a, A> {
    type Error = A::Error;
    type Variant = Bounded<'a, A::Variant>;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self::Variant), A::Error> {
        let (which, content) = self.inner.variant_seed(Seed { seed, budget: self.budget })?;
        Ok((which, self.budget.bound(content)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Bounded<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, A::Error> {
        self.inner.newtype_variant_seed(Seed { seed, budget: self.budget })
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.inner.tuple_variant(len, Inside { visitor, budget: self.budget, counted: false })
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.inner.struct_variant(fields, Inside { visitor, budget: self.budget, counted: false })
    }
}
