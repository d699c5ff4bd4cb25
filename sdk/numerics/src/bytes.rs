//! Numbers as the bytes in which tensors travel.

/// The little-endian bytes of numbers.
#[inline(never)]
pub fn to_bytes(numbers: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(numbers.len() * 4);
    numbers.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes()));
    bytes
}

/// Adds the numbers that little-endian bytes are.
#[inline(never)]
pub fn from_bytes(bytes: &[u8], numbers: &mut Vec<f32>) {
    numbers.extend(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_the_way_there_and_back() {
        let mut back = vec![1.0];
        from_bytes(&to_bytes(&[0.5, -3.25, f32::INFINITY]), &mut back);
        assert_eq!(back, [1.0, 0.5, -3.25, f32::INFINITY]);
    }
}
