//! What block formats have in common, and where they differ.

use super::BLOCK;
use crate::Representation;
use crate::lanes::LANES;
use aehost_formats::Encoding;

/// Small integers that each record has beside its codes, one or two a row, which multiply the header's scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Small {
    /// None: the header's scale is that of all codes.
    None,
    /// A scale and a minimum for all 32 columns, unsigned.
    Whole,
    /// A scale for each 16 columns, signed.
    Halves,
    /// A scale and a minimum for each 16 columns, four bits each.
    Nibbles,
}

/// What a format keeps, and where. A *group* is [`LANES`] rows of as many columns as share a header: float16 scales, float16
/// minima where there are any, then a record for each 32 columns: small scales where there are any, and codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Bits of a code.
    pub bits: u32,
    /// Whether the header has minima; codes are otherwise centred on half their range.
    pub minimum: bool,
    /// Scales of records.
    pub small: Small,
    /// Records that share a header.
    pub records: usize,
    /// What codes stand for, with 128 added; none where they are numbers themselves.
    pub table: Option<[u8; 16]>,
}

impl Layout {
    /// The layout of a block format, if the representation is one.
    pub fn of(form: Representation) -> Option<Self> {
        let plain = |bits, minimum, records| Self { bits, minimum, small: Small::None, records, table: None };
        let super_block = |bits, minimum, small| Self { bits, minimum, small, records: 8, table: None };
        Some(match form {
            Representation::Blocked(encoding) => match encoding {
                Encoding::Q4_0 => plain(4, false, 1),
                Encoding::Q4_1 => plain(4, true, 1),
                Encoding::Q5_0 => plain(5, false, 1),
                Encoding::Q5_1 => plain(5, true, 1),
                Encoding::Q8_0 => plain(8, false, 1),
                Encoding::Q2K => super_block(2, true, Small::Nibbles),
                Encoding::Q3K => super_block(3, false, Small::Halves),
                Encoding::Q4K => super_block(4, true, Small::Whole),
                Encoding::Q5K => super_block(5, true, Small::Whole),
                Encoding::Q6K => super_block(6, false, Small::Halves),
                _ => return None,
            },
            Representation::Affine(affine) => plain(affine.bits.into(), !affine.symmetric, affine.group / BLOCK),
            Representation::Codebook(codebook) => {
                let table = Some(codebook.table.map(|entry| entry as u8 ^ 128));
                Self { table, ..plain(4, false, codebook.group / BLOCK) }
            }
            Representation::Dense(_) | Representation::Sparse(_) => return None,
        })
    }

    /// Bytes of a group's header.
    pub const fn header(self) -> usize {
        LANES * if self.minimum { 4 } else { 2 }
    }

    /// Bytes of a record's small scales.
    pub const fn small_scales(self) -> usize {
        if matches!(self.small, Small::None) { 0 } else { 2 * LANES }
    }

    /// Bytes of a record.
    pub const fn record(self) -> usize {
        self.small_scales() + LANES * BLOCK * self.bits as usize / 8
    }

    /// Bytes of a group.
    pub const fn group(self) -> usize {
        self.header() + self.records * self.record()
    }

    /// Columns of a group.
    pub const fn columns(self) -> usize {
        self.records * BLOCK
    }

    /// What a code of 0 stands for, in scales, where there is no minimum.
    pub const fn zero(self) -> i32 {
        zero(self.bits, self.table.is_some())
    }
}

/// Bits of a code that lie in the first bytes of a record; the others follow.
pub(super) const fn low_bits(bits: u32) -> u32 {
    match bits {
        2 | 3 => 2,
        8 => 8,
        _ => 4,
    }
}

/// As [`Layout::zero`]; what a table has is multiplied like a code of eight bits.
pub(super) const fn zero(bits: u32, table: bool) -> i32 {
    -(1 << (if table { 8 } else { bits } - 1))
}
