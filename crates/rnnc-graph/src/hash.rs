//! Hashes that are the same on every machine and in every version: FNV-1a, 64 bits.

use std::fmt;

/// The hash of a text, which is written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextHash(u64);

impl TextHash {
    /// The number that stands for what was written.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl Default for TextHash {
    fn default() -> TextHash {
        TextHash(0xcbf2_9ce4_8422_2325)
    }
}

impl fmt::Write for TextHash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let next = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        self.0 = text.bytes().fold(self.0, next);
        Ok(())
    }
}

/// A number that stands for a name.
pub fn name_key(name: &str) -> u64 {
    let mut hash = TextHash::default();
    // It takes whatever is written.
    let _ = fmt::Write::write_str(&mut hash, name);
    hash.number()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_that_are_published() {
        // Of the vectors of draft-eastlake-fnv.
        for (text, hash) in
            [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)]
        {
            assert_eq!(name_key(text), hash, "{text}");
        }
    }
}
