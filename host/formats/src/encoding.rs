//! How the numbers of a tensor are stored as bytes: plain types, and ggml's block formats, where a fixed number of
//! neighbours in a row share scales.

/// A storage type of tensors. Block formats keep `block_size` elements of a row in `block_bytes` bytes, as ggml lays them
/// out (`ggml-common.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are ggml's and safetensors' own")]
pub enum Encoding {
    F32,
    F16,
    BF16,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q8_1,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Q8K,
}

use Encoding::*;

/// Encoding, name, ggml type id, elements and bytes of a block.
const TABLE: [(Encoding, &str, Option<u32>, usize, usize); 21] = [
    (F32, "F32", Some(0), 1, 4),
    (F16, "F16", Some(1), 1, 2),
    (BF16, "BF16", Some(30), 1, 2),
    (F64, "F64", Some(28), 1, 8),
    (I8, "I8", Some(24), 1, 1),
    (I16, "I16", Some(25), 1, 2),
    (I32, "I32", Some(26), 1, 4),
    (I64, "I64", Some(27), 1, 8),
    (U8, "U8", None, 1, 1),
    (Q4_0, "Q4_0", Some(2), 32, 18),
    (Q4_1, "Q4_1", Some(3), 32, 20),
    (Q5_0, "Q5_0", Some(6), 32, 22),
    (Q5_1, "Q5_1", Some(7), 32, 24),
    (Q8_0, "Q8_0", Some(8), 32, 34),
    (Q8_1, "Q8_1", Some(9), 32, 36),
    (Q2K, "Q2_K", Some(10), 256, 84),
    (Q3K, "Q3_K", Some(11), 256, 110),
    (Q4K, "Q4_K", Some(12), 256, 144),
    (Q5K, "Q5_K", Some(13), 256, 176),
    (Q6K, "Q6_K", Some(14), 256, 210),
    (Q8K, "Q8_K", Some(15), 256, 292),
];

impl Encoding {
    fn row(self) -> &'static (Encoding, &'static str, Option<u32>, usize, usize) {
        let row = &TABLE[self as usize];
        debug_assert_eq!(row.0, self);
        row
    }

    /// All encodings.
    pub fn all() -> impl Iterator<Item = Encoding> {
        TABLE.iter().map(|row| row.0)
    }

    /// ggml's name: `F32`, `Q4_0`, `Q4_K`, ...
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The encoding with this name.
    pub fn parse(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// The number by which GGUF files name it; none when GGUF cannot express it.
    pub fn ggml_id(self) -> Option<u32> {
        self.row().2
    }

    /// The encoding that GGUF files name by this number.
    pub fn from_ggml_id(id: u32) -> Option<Self> {
        TABLE.iter().find(|row| row.2 == Some(id)).map(|row| row.0)
    }

    /// Elements in a block, 1 for plain types.
    pub fn block_size(self) -> usize {
        self.row().3
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        self.row().4
    }

    /// Bits of storage for each element, scales included.
    pub fn bits_per_element(self) -> f64 {
        self.block_bytes() as f64 * 8.0 / self.block_size() as f64
    }

    /// Whether it is one of ggml's block formats.
    pub fn is_blocked(self) -> bool {
        self.block_size() > 1
    }

    /// Bytes of a tensor with this row-major shape; none when the last dimension is no multiple of the block, or the
    /// size overflows.
    pub fn bytes_of(self, shape: &[usize]) -> Option<usize> {
        let last = shape.last().copied().unwrap_or(1);
        if last % self.block_size() != 0 {
            return None;
        }
        let elements = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
        (elements / self.block_size()).checked_mul(self.block_bytes())
    }
}

impl std::fmt::Display for Encoding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_lead_back_to_the_encoding() {
        for encoding in Encoding::all() {
            assert_eq!(Encoding::parse(encoding.name()), Some(encoding));
            assert_eq!(encoding.row().0, encoding);
            if let Some(id) = encoding.ggml_id() {
                assert_eq!(Encoding::from_ggml_id(id), Some(encoding));
            }
        }
    }

    #[test]
    fn sizes_count_whole_blocks_and_refuse_partial_ones_and_overflow() {
        assert_eq!(Q4_0.bytes_of(&[3, 64]), Some(3 * 2 * 18));
        assert_eq!(Q4_0.bytes_of(&[64, 3]), None);
        assert_eq!(F32.bytes_of(&[]), Some(4));
        assert_eq!(F32.bytes_of(&[usize::MAX, 2]), None);
        assert_eq!(Q6K.bits_per_element(), 6.5625);
    }
}
