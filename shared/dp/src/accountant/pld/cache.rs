//! Grids that were made before.

use super::{Direction, Steps, grid::Grid};

/// Most grids kept. A budget is asked for both relations, which have three directions, at one or two deltas.
const MOST_GRIDS: usize = 12;
/// Most numbers kept in all grids but the last one used: 64 MiB.
const MOST_NUMBERS: usize = 1 << 23;

/// Grids of former computations, most recently used last.
#[derive(Default)]
pub(in crate::accountant) struct GridCache(Vec<(Key, Grid)>);

/// What a grid is made for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    direction: Direction,
    delta: u64,
    /// Bits of shift and sampling probability, and number of steps, of each kind.
    kinds: Vec<(u64, u64, u64)>,
}

impl GridCache {
    /// The adaptive grid for these kinds of steps if there are `planned` of each.
    pub(super) fn grid(&mut self, steps: &Steps<'_>, planned: &[u64]) -> &mut Grid {
        let key = Key::of(steps, planned);
        let known = self.0.iter().position(|(other, _)| *other == key);
        let entry = known.map(|place| self.0.remove(place));
        let entry = entry.unwrap_or_else(|| {
            let grid = Grid::adaptive(&steps.ranged(planned), planned, steps.delta);
            (key, grid)
        });
        self.make_room();
        let place = self.0.len();
        self.0.push(entry);
        &mut self.0[place].1
    }

    /// Forgets the grids used longest ago.
    fn make_room(&mut self) {
        let mut size: usize = self.0.iter().map(|(_, grid)| grid.size()).sum();
        while !self.0.is_empty() && (self.0.len() >= MOST_GRIDS || size > MOST_NUMBERS) {
            size -= self.0.remove(0).1.size();
        }
    }
}

impl Key {
    fn of(steps: &Steps<'_>, planned: &[u64]) -> Self {
        let kinds = steps.parts.iter().zip(planned);
        Self {
            direction: steps.direction,
            delta: steps.delta.to_bits(),
            kinds: kinds.map(|(part, &n)| (part.shift.to_bits(), part.probability.to_bits(), n)).collect(),
        }
    }
}

/// The least number of at most four significant bits that is not below `count`.
pub(super) fn rounded_up(count: u64) -> u64 {
    let dropped = (u64::BITS - count.leading_zeros()).saturating_sub(4);
    count.div_ceil(1 << dropped) << dropped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_rounded_up_by_less_than_an_eighth() {
        for count in (0..5_000).chain([10_000, u64::from(u32::MAX)]) {
            let rounded = rounded_up(count);
            assert!(rounded >= count && rounded as f64 <= 1.125 * count as f64, "{count} {rounded}");
            assert_eq!(rounded_up(rounded), rounded);
        }
        assert_eq!([rounded_up(15), rounded_up(17), rounded_up(10_000)], [15, 18, 10_240]);
    }
}
