//! Small readers of the kernel's text files. Each takes the root of the tree, so that tests can lay out their own.

use std::path::Path;

/// The trimmed content of a file.
pub(crate) fn text(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|content| content.trim().to_owned())
}

/// The number that a file holds.
pub(crate) fn number(path: &Path) -> Option<u64> {
    text(path)?.parse().ok()
}

/// The value behind `key:` in a file of lines such as `VmRSS:  120 kB`, without the key.
pub(crate) fn field(content: &str, key: &str) -> Option<String> {
    content.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    })
}

/// A size such as `120 kB` (`/proc`) or `32768K` (`/sys`), in bytes.
pub(crate) fn bytes(size: &str) -> Option<u64> {
    let digits = size.find(|c: char| !c.is_ascii_digit()).unwrap_or(size.len());
    let count: u64 = size[..digits].parse().ok()?;
    let unit = match size[digits..].trim() {
        "" | "B" => 1,
        "kB" | "K" => 1 << 10,
        "M" | "MB" => 1 << 20,
        "G" | "GB" => 1 << 30,
        _ => return None,
    };
    count.checked_mul(unit)
}

/// A list such as `0-3,8`.
pub(crate) fn numbers(list: &str) -> Vec<u32> {
    let range = |part: &str| -> Option<std::ops::RangeInclusive<u32>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_lists_and_fields_are_read_as_the_kernel_writes_them() {
        assert_eq!(bytes("120 kB"), Some(122_880));
        assert_eq!(bytes("32M"), Some(32 << 20));
        assert_eq!(bytes("7"), Some(7));
        assert_eq!(bytes("7 parsecs"), None);
        assert_eq!(numbers("0-2,8"), [0, 1, 2, 8]);
        assert_eq!(numbers(""), [0u32; 0]);
        assert_eq!(field("VmHWM:\t 12 kB\nVmRSS:\t 8 kB\n", "VmRSS").as_deref(), Some("8 kB"));
        assert_eq!(field("VmHWM:\t 12 kB\n", "VmRSS"), None);
    }
}
