//! Metadata values of GGUF.

use aehost_common::Value as Fact;

/// The type of a metadata value, with GGUF's own numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs, reason = "the names are GGUF's own")]
pub enum Kind {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl Kind {
    const ALL: [Kind; 13] = [
        Kind::U8,
        Kind::I8,
        Kind::U16,
        Kind::I16,
        Kind::U32,
        Kind::I32,
        Kind::F32,
        Kind::Bool,
        Kind::String,
        Kind::Array,
        Kind::U64,
        Kind::I64,
        Kind::F64,
    ];

    /// The kind with this number.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.get(id as usize).copied()
    }

    /// Bytes of a value with a fixed size; none for strings and arrays.
    pub(crate) fn size(self) -> Option<usize> {
        match self {
            Kind::U8 | Kind::I8 | Kind::Bool => Some(1),
            Kind::U16 | Kind::I16 => Some(2),
            Kind::U32 | Kind::I32 | Kind::F32 => Some(4),
            Kind::U64 | Kind::I64 | Kind::F64 => Some(8),
            Kind::String | Kind::Array => None,
        }
    }

    /// A number or flag as a fact, from its little-endian bytes; none for reals that are not finite.
    pub(crate) fn fact(self, bytes: &[u8]) -> Option<Fact> {
        fn le<const N: usize>(bytes: &[u8]) -> [u8; N] {
            bytes.try_into().expect("the reader slices as many bytes as the kind has")
        }
        let real = |v: f64| v.is_finite().then_some(Fact::Real(v));
        match self {
            Kind::U8 => Some(Fact::Integer(bytes[0].into())),
            Kind::I8 => Some(Fact::Integer((bytes[0] as i8).into())),
            Kind::Bool => Some(Fact::Flag(bytes[0] != 0)),
            Kind::U16 => Some(Fact::Integer(u16::from_le_bytes(le(bytes)).into())),
            Kind::I16 => Some(Fact::Integer(i16::from_le_bytes(le(bytes)).into())),
            Kind::U32 => Some(Fact::Integer(u32::from_le_bytes(le(bytes)).into())),
            Kind::I32 => Some(Fact::Integer(i32::from_le_bytes(le(bytes)).into())),
            Kind::I64 => Some(Fact::Integer(i64::from_le_bytes(le(bytes)))),
            Kind::U64 => {
                let v = u64::from_le_bytes(le(bytes));
                Some(i64::try_from(v).map_or(Fact::Real(v as f64), Fact::Integer))
            }
            Kind::F32 => real(f32::from_le_bytes(le(bytes)).into()),
            Kind::F64 => real(f64::from_le_bytes(le(bytes))),
            Kind::String | Kind::Array => None,
        }
    }
}

/// A metadata value to be written.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the names are GGUF's own")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    U64(u64),
    I64(i64),
    F64(f64),
    /// Strings, such as a vocabulary.
    Strings(Vec<String>),
    I32s(Vec<i32>),
    U32s(Vec<u32>),
    F32s(Vec<f32>),
    Bools(Vec<bool>),
}

pub(crate) fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

impl Value {
    /// Kind and bytes, as the file stores them after the key.
    pub(crate) fn encode(&self) -> (Kind, Vec<u8>) {
        fn array<T>(kind: Kind, items: &[T], mut put: impl FnMut(&mut Vec<u8>, &T)) -> (Kind, Vec<u8>) {
            let mut out = Vec::new();
            out.extend((kind as u32).to_le_bytes());
            out.extend((items.len() as u64).to_le_bytes());
            items.iter().for_each(|item| put(&mut out, item));
            (Kind::Array, out)
        }
        match self {
            Value::U8(v) => (Kind::U8, vec![*v]),
            Value::I8(v) => (Kind::I8, v.to_le_bytes().into()),
            Value::U16(v) => (Kind::U16, v.to_le_bytes().into()),
            Value::I16(v) => (Kind::I16, v.to_le_bytes().into()),
            Value::U32(v) => (Kind::U32, v.to_le_bytes().into()),
            Value::I32(v) => (Kind::I32, v.to_le_bytes().into()),
            Value::F32(v) => (Kind::F32, v.to_le_bytes().into()),
            Value::Bool(v) => (Kind::Bool, vec![u8::from(*v)]),
            Value::U64(v) => (Kind::U64, v.to_le_bytes().into()),
            Value::I64(v) => (Kind::I64, v.to_le_bytes().into()),
            Value::F64(v) => (Kind::F64, v.to_le_bytes().into()),
            Value::String(v) => {
                let mut out = Vec::new();
                put_string(&mut out, v);
                (Kind::String, out)
            }
            Value::Strings(v) => array(Kind::String, v, |out, s| put_string(out, s)),
            Value::I32s(v) => array(Kind::I32, v, |out, n| out.extend(n.to_le_bytes())),
            Value::U32s(v) => array(Kind::U32, v, |out, n| out.extend(n.to_le_bytes())),
            Value::F32s(v) => array(Kind::F32, v, |out, n| out.extend(n.to_le_bytes())),
            Value::Bools(v) => array(Kind::Bool, v, |out, b| out.push(u8::from(*b))),
        }
    }
}

impl From<&str> for Value {
    fn from(v: &str) -> Self {
        Value::String(v.to_owned())
    }
}
impl From<String> for Value {
    fn from(v: String) -> Self {
        Value::String(v)
    }
}
impl From<u32> for Value {
    fn from(v: u32) -> Self {
        Value::U32(v)
    }
}
impl From<f32> for Value {
    fn from(v: f32) -> Self {
        Value::F32(v)
    }
}
impl From<bool> for Value {
    fn from(v: bool) -> Self {
        Value::Bool(v)
    }
}
