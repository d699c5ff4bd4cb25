//! How a weight is kept in memory while the model runs.

use aehost_common::{Fault, Setting, Settings, Value};
use aehost_formats::Encoding;
use serde::{Deserialize, Serialize};

/// A floating-point type of dense weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FloatType {
    /// IEEE single precision.
    #[serde(rename = "float32")]
    F32,
    /// IEEE half precision.
    #[serde(rename = "float16")]
    F16,
    /// bfloat16.
    #[serde(rename = "bfloat16")]
    BF16,
}

impl FloatType {
    /// The contract's word.
    pub fn name(self) -> &'static str {
        match self {
            FloatType::F32 => "float32",
            FloatType::F16 => "float16",
            FloatType::BF16 => "bfloat16",
        }
    }

    /// The type with this name.
    pub fn parse(name: &str) -> Option<Self> {
        [FloatType::F32, FloatType::F16, FloatType::BF16].into_iter().find(|t| t.name() == name)
    }

    /// The same type as candle's.
    pub(crate) fn dtype(self) -> candle_core::DType {
        match self {
            FloatType::F32 => candle_core::DType::F32,
            FloatType::F16 => candle_core::DType::F16,
            FloatType::BF16 => candle_core::DType::BF16,
        }
    }

    /// The same type as an encoding of checkpoints.
    pub fn encoding(self) -> Encoding {
        match self {
            FloatType::F32 => Encoding::F32,
            FloatType::F16 => Encoding::F16,
            FloatType::BF16 => Encoding::BF16,
        }
    }
}

/// A representation of the contract: dense numbers, or ggml's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Representation {
    /// One number an element.
    Dense(FloatType),
    /// A block format of ggml.
    Blocked(Encoding),
}

/// The block formats that the engine runs.
pub const BLOCKED: [Encoding; 10] = [
    Encoding::Q8_0,
    Encoding::Q6K,
    Encoding::Q5K,
    Encoding::Q4K,
    Encoding::Q3K,
    Encoding::Q2K,
    Encoding::Q5_1,
    Encoding::Q5_0,
    Encoding::Q4_1,
    Encoding::Q4_0,
];

impl Representation {
    /// From the contract's kind and settings.
    pub fn parse(kind: &str, settings: &Settings) -> Result<Self, Fault> {
        let word = |name: &str| {
            settings
                .get(name)
                .and_then(Value::as_text)
                .ok_or_else(|| Fault::invalid(format!("representation `{kind}` needs the setting `{name}`")))
        };
        match kind {
            "dense" => {
                let name = word("dtype")?;
                let ty = FloatType::parse(name).ok_or_else(|| {
                    Fault::unsupported(format!("dtype `{name}` is unknown; known: float32, float16, bfloat16"))
                })?;
                Ok(Representation::Dense(ty))
            }
            "blocked" => {
                let name = word("format")?;
                BLOCKED.into_iter().find(|e| e.name() == name).map(Representation::Blocked).ok_or_else(|| {
                    let known: Vec<&str> = BLOCKED.iter().map(|e| e.name()).collect();
                    Fault::unsupported(format!("block format `{name}` is unknown; known: {}", known.join(", ")))
                })
            }
            other => Err(Fault::unsupported(format!("representation `{other}` is unknown; known: dense, blocked"))),
        }
    }

    /// The representation with this encoding, where the engine runs it.
    pub fn of(encoding: Encoding) -> Option<Self> {
        let dense = [FloatType::F32, FloatType::F16, FloatType::BF16].into_iter().find(|t| t.encoding() == encoding);
        dense
            .map(Representation::Dense)
            .or_else(|| BLOCKED.contains(&encoding).then_some(Representation::Blocked(encoding)))
    }

    /// The contract's kind.
    pub fn kind(self) -> &'static str {
        match self {
            Representation::Dense(_) => "dense",
            Representation::Blocked(_) => "blocked",
        }
    }

    /// The contract's settings.
    pub fn settings(self) -> Settings {
        Settings(vec![match self {
            Representation::Dense(ty) => Setting::new("dtype", ty.name()),
            Representation::Blocked(encoding) => Setting::new("format", encoding.name()),
        }])
    }

    /// The same as an encoding of checkpoints.
    pub fn encoding(self) -> Encoding {
        match self {
            Representation::Dense(ty) => ty.encoding(),
            Representation::Blocked(encoding) => encoding,
        }
    }

    /// Bytes of a weight of this shape; none when its rows are no multiple of the block.
    pub fn bytes(self, shape: &[usize]) -> Option<u64> {
        self.encoding().bytes_of(shape).map(|b| b as u64)
    }
}

impl std::fmt::Display for Representation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.encoding().name())
    }
}
