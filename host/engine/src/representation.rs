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

/// Codes of equal distance: scale x code + minimum, or scale x (code - 2^(bits - 1)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Affine {
    /// Bits of a code: 2, 3, 4 or 8.
    pub bits: u8,
    /// Columns that share a float16 scale and minimum: 32, 64 or 128.
    pub group: usize,
    /// Whether there is no minimum.
    pub symmetric: bool,
}

/// Codes of four bits that stand for sixteen numbers: scale x table(code).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Codebook {
    /// Columns that share a float16 scale: 32, 64 or 128.
    pub group: usize,
    /// In ascending order.
    pub table: [i8; 16],
}

/// A representation of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Representation {
    /// One number an element.
    Dense(FloatType),
    /// A block format of ggml.
    Blocked(Encoding),
    /// Groups of codes of equal distance.
    Affine(Affine),
    /// Groups of codes that a table gives numbers.
    Codebook(Codebook),
    /// Two numbers of every four columns, the others being 0.
    Sparse(FloatType),
}

/// The block formats of ggml that the engine runs.
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

/// Columns of a block of a sparse matrix: a byte says where its four numbers stand.
pub(crate) const SPARSE_BLOCK: usize = 8;

/// Groups that codes may have.
const GROUPS: [usize; 3] = [32, 64, 128];

/// The quantiles of a normal distribution, from QLoRA (arXiv 2305.14314, appendix E), in 127ths.
const NORMAL_FLOAT: [i8; 16] = [-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127];

impl Representation {
    /// From the contract's kind and settings.
    pub fn parse(kind: &str, settings: &Settings) -> Result<Self, Fault> {
        let missing = |name: &str| Fault::invalid(format!("representation `{kind}` needs the setting `{name}`"));
        let word = |name: &str| settings.get(name).and_then(Value::as_text).ok_or_else(|| missing(name));
        let float = |name: &str| {
            FloatType::parse(name).ok_or_else(|| {
                Fault::unsupported(format!("dtype `{name}` is unknown; known: float32, float16, bfloat16"))
            })
        };
        let group = || {
            let given = settings.get("group").and_then(Value::as_integer).ok_or_else(|| missing("group"))?;
            let known = GROUPS.into_iter().find(|g| *g as i64 == given);
            known.ok_or_else(|| Fault::unsupported(format!("groups of {given} columns do not run; known: 32, 64, 128")))
        };
        match kind {
            "dense" => Ok(Representation::Dense(float(word("dtype")?)?)),
            "sparse" => Ok(Representation::Sparse(float(word("dtype")?)?)),
            "blocked" => {
                let name = word("format")?;
                BLOCKED.into_iter().find(|e| e.name() == name).map(Representation::Blocked).ok_or_else(|| {
                    let known: Vec<&str> = BLOCKED.iter().map(|e| e.name()).collect();
                    Fault::unsupported(format!("block format `{name}` is unknown; known: {}", known.join(", ")))
                })
            }
            "affine" => {
                let bits = settings.get("bits").and_then(Value::as_integer).ok_or_else(|| missing("bits"))?;
                let bits = u8::try_from(bits).ok().filter(|bits| [2, 3, 4, 8].contains(bits)).ok_or_else(|| {
                    Fault::unsupported(format!("affine codes of {bits} bits do not run; known: 2, 3, 4, 8"))
                })?;
                let symmetric = settings.get("symmetric").and_then(Value::as_flag).unwrap_or(false);
                Ok(Representation::Affine(Affine { bits, group: group()?, symmetric }))
            }
            "codebook" => {
                let table = match settings.get("table") {
                    None => NORMAL_FLOAT,
                    Some(value) => {
                        let entries = value
                            .as_integers()
                            .and_then(|v| v.iter().map(|n| i8::try_from(*n).ok()).collect::<Option<Vec<i8>>>());
                        let entries = entries.and_then(|v| <[i8; 16]>::try_from(v).ok());
                        entries.filter(|t| t.is_sorted() && t[0] > i8::MIN).ok_or_else(|| {
                            Fault::invalid("a codebook's `table` is 16 integers from -127 to 127, in ascending order")
                        })?
                    }
                };
                Ok(Representation::Codebook(Codebook { group: group()?, table }))
            }
            other => Err(Fault::unsupported(format!(
                "representation `{other}` is unknown; known: dense, blocked, affine, codebook, sparse"
            ))),
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
            Representation::Affine(_) => "affine",
            Representation::Codebook(_) => "codebook",
            Representation::Sparse(_) => "sparse",
        }
    }

    /// The contract's settings.
    pub fn settings(self) -> Settings {
        Settings(match self {
            Representation::Dense(ty) | Representation::Sparse(ty) => vec![Setting::new("dtype", ty.name())],
            Representation::Blocked(encoding) => vec![Setting::new("format", encoding.name())],
            Representation::Affine(Affine { bits, group, symmetric }) => vec![
                Setting::new("bits", i64::from(bits)),
                Setting::new("group", group as i64),
                Setting::new("symmetric", symmetric),
            ],
            Representation::Codebook(Codebook { group, table }) => vec![
                Setting::new("group", group as i64),
                Setting::new("table", Value::Integers(table.map(i64::from).to_vec())),
            ],
        })
    }

    /// The same as an encoding of checkpoints, where there is one.
    pub fn encoding(self) -> Option<Encoding> {
        match self {
            Representation::Dense(ty) => Some(ty.encoding()),
            Representation::Blocked(encoding) => Some(encoding),
            _ => None,
        }
    }

    /// Columns whose bytes belong together.
    pub fn block_size(self) -> usize {
        match self {
            Representation::Dense(_) => 1,
            Representation::Blocked(encoding) => encoding.block_size(),
            Representation::Affine(Affine { group, .. }) | Representation::Codebook(Codebook { group, .. }) => group,
            Representation::Sparse(_) => SPARSE_BLOCK,
        }
    }

    /// Bytes of a block: scale and minimum, then codes; of a sparse one positions, then numbers.
    pub fn block_bytes(self) -> usize {
        match self {
            Representation::Dense(ty) => ty.encoding().block_bytes(),
            Representation::Blocked(encoding) => encoding.block_bytes(),
            Representation::Affine(Affine { bits, group, symmetric }) => {
                (if symmetric { 2 } else { 4 }) + group * usize::from(bits) / 8
            }
            Representation::Codebook(Codebook { group, .. }) => 2 + group / 2,
            Representation::Sparse(ty) => 1 + SPARSE_BLOCK / 2 * ty.encoding().block_bytes(),
        }
    }

    /// Bytes of a weight of this shape; none when its rows are no multiple of the block, or the size overflows.
    pub fn bytes(self, shape: &[usize]) -> Option<u64> {
        let elements = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
        let whole = shape.last().copied().unwrap_or(1).is_multiple_of(self.block_size());
        whole.then(|| (elements / self.block_size()).checked_mul(self.block_bytes()))?.map(|b| b as u64)
    }
}

impl std::fmt::Display for Representation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Representation::Dense(ty) => f.write_str(ty.encoding().name()),
            Representation::Blocked(encoding) => f.write_str(encoding.name()),
            Representation::Affine(Affine { bits, group, symmetric }) => {
                let kind = if *symmetric { "symmetric" } else { "affine" };
                write!(f, "{kind} {bits} bits, groups of {group}")
            }
            Representation::Codebook(Codebook { group, .. }) => write!(f, "codebook, groups of {group}"),
            Representation::Sparse(ty) => write!(f, "2:4 {}", ty.encoding().name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_lead_back_to_the_representation_and_wrong_ones_are_told() {
        let mut table = NORMAL_FLOAT;
        table[3] = -60;
        let forms = [
            Representation::Dense(FloatType::BF16),
            Representation::Blocked(Encoding::Q6K),
            Representation::Affine(Affine { bits: 3, group: 64, symmetric: true }),
            Representation::Codebook(Codebook { group: 128, table }),
            Representation::Sparse(FloatType::F16),
        ];
        for form in forms {
            assert_eq!(Representation::parse(form.kind(), &form.settings()), Ok(form));
        }
        let told = |kind: &str, settings: Vec<Setting>| {
            Representation::parse(kind, &Settings(settings)).unwrap_err().to_string()
        };
        let group = || Setting::new("group", 64i64);
        assert!(told("affine", vec![Setting::new("bits", 5i64), group()]).contains("known: 2, 3, 4, 8"));
        assert!(told("affine", vec![Setting::new("bits", 4i64)]).contains("needs the setting `group`"));
        assert!(told("codebook", vec![Setting::new("group", 48i64)]).contains("known: 32, 64, 128"));
        let unordered = Value::Integers((0..16).rev().collect());
        assert!(told("codebook", vec![group(), Setting::new("table", unordered)]).contains("ascending"));
        assert!(told("ternary", vec![]).contains("known: dense, blocked, affine, codebook, sparse"));
    }

    #[test]
    fn bytes_count_whole_blocks_scales_included() {
        let affine = |bits, symmetric| Representation::Affine(Affine { bits, group: 64, symmetric });
        assert_eq!(affine(3, false).bytes(&[2, 128]), Some(2 * 2 * (4 + 24)));
        assert_eq!(affine(2, true).bytes(&[1, 64]), Some(2 + 16));
        assert_eq!(affine(4, true).bytes(&[1, 96]), None);
        assert_eq!(Representation::Sparse(FloatType::F16).bytes(&[1, 16]), Some(18));
        assert_eq!(affine(4, true).bytes(&[usize::MAX, 64]), None);
    }
}
