//! Random words and quarters of words in blocks: one call of the generator for hundreds of them.

use rand::Rng;

/// Words of one block, 4 KiB.
pub(super) const BLOCK_WORDS: usize = 512;
/// Quarters of words in one block.
pub(super) const BLOCK_QUARTERS: usize = 4 * BLOCK_WORDS;
/// Bytes of one word.
const WORD_BYTES: usize = 8;

/// Space for a block of random words.
pub(super) struct WordBlock {
    bytes: [u8; BLOCK_WORDS * WORD_BYTES],
}

impl WordBlock {
    /// Space that holds no random words yet.
    pub(super) fn new() -> Self {
        Self { bytes: [0; BLOCK_WORDS * WORD_BYTES] }
    }

    /// Draws the generator's next `count` words, at most [`BLOCK_WORDS`].
    ///
    /// A generator of the ChaCha family gives the same words one by one.
    pub(super) fn draw<'a, R: Rng>(
        &'a mut self,
        count: usize,
        rng: &mut R,
    ) -> impl Iterator<Item = u64> + use<'a, R> {
        let bytes = &mut self.bytes[..count * WORD_BYTES];
        rng.fill_bytes(bytes);
        bytes.as_chunks().0.iter().map(|&word| u64::from_le_bytes(word))
    }

    /// Draws as many of the generator's next words as `count` quarters need, and gives the quarters, the lowest of a word
    /// first; at most [`BLOCK_QUARTERS`].
    pub(super) fn draw_quarters<'a, R: Rng>(
        &'a mut self,
        count: usize,
        rng: &mut R,
    ) -> impl Iterator<Item = u16> + use<'a, R> {
        let bytes = &mut self.bytes[..count.div_ceil(4) * WORD_BYTES];
        rng.fill_bytes(bytes);
        bytes.as_chunks().0.iter().take(count).map(|&quarter| u16::from_le_bytes(quarter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SecureRng;

    #[test]
    fn blocks_hold_the_words_of_the_generator_in_order() {
        let mut one_by_one = SecureRng::seeded_for_simulation(5, 1);
        let mut in_blocks = SecureRng::seeded_for_simulation(5, 1);
        let mut block = WordBlock::new();
        for count in [BLOCK_WORDS, 1, 0, 7, BLOCK_WORDS - 1] {
            let words: Vec<u64> = block.draw(count, &mut in_blocks).collect();
            assert_eq!(words, (0..count).map(|_| one_by_one.next_u64()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn quarters_are_those_of_whole_words() {
        let mut one_by_one = SecureRng::seeded_for_simulation(5, 2);
        let mut in_blocks = SecureRng::seeded_for_simulation(5, 2);
        let mut block = WordBlock::new();
        for count in [BLOCK_QUARTERS, 1, 0, 7, BLOCK_QUARTERS - 1] {
            let quarters: Vec<u16> = block.draw_quarters(count, &mut in_blocks).collect();
            let words = (0..count.div_ceil(4)).map(|_| one_by_one.next_u64());
            let expected = words.flat_map(|word| [0, 16, 32, 48].map(|shift| (word >> shift) as u16));
            assert_eq!(quarters, expected.take(count).collect::<Vec<_>>());
        }
    }
}
