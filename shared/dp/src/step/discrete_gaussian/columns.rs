//! Drawing a strip and part of the acceptance from one number: an alias table in integers (Walker 1977, Vose 1991).

use super::{
    fixed::multiply,
    strips::{STRIPS, Strips},
};

/// One column of the alias table: units that belong to a strip of its own, and the rest to another one.
///
/// From below stand the units of its own strip that are accepted at once, then those of the other strip that are, then
/// all that need a closer look: of its own strip up to `own` units in total, of the other strip the rest.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Column {
    /// Where the units of its own strip end that are accepted at once, in multiples of 1/W units.
    pub(super) own_accepted: u64,
    /// Where the units of both strips end that are accepted at once, in multiples of 1/W units.
    pub(super) accepted: u64,
    /// Number of units of its own strip.
    own: u64,
    /// The other strip.
    pub(super) other: usize,
}

/// Where a unit of a column lies.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// The strip that the unit belongs to.
    pub(super) strip: usize,
    /// Position among the units of that strip in this column, counted from those accepted at once.
    pub(super) position: u64,
    /// Number of units of that strip in this column.
    pub(super) length: u64,
}

impl Column {
    /// The strip and the position of a depth in the column of strip `own_strip`, which is `depth / W` units deep.
    pub(super) fn place(&self, own_strip: usize, depth: u64, log2_width: u32) -> Place {
        let unit = depth >> log2_width;
        let own_accepted = self.own_accepted >> log2_width;
        let other_accepted = (self.accepted >> log2_width) - own_accepted;
        let own = |position| Place { strip: own_strip, position, length: self.own };
        let other = |position| Place { strip: self.other, position, length: height(log2_width) - self.own };
        if unit < own_accepted {
            own(unit)
        } else if unit < own_accepted + other_accepted {
            other(unit - own_accepted)
        } else if unit < self.own + other_accepted {
            own(unit - other_accepted)
        } else {
            other(unit - self.own)
        }
    }

    /// Marks what is accepted at once: of `n` units those that end below `n` times a lower bound of the acceptance.
    fn mark_accepted(&mut self, own_strip: usize, strips: &Strips) {
        let own = multiply(self.own, strips.anywhere[own_strip]);
        let other = multiply(height(strips.log2_width) - self.own, strips.anywhere[self.other]);
        self.own_accepted = own << strips.log2_width;
        self.accepted = (own + other) << strips.log2_width;
    }
}

/// The columns for the given strips, each as high as any other; a strip has as many units as its weight.
pub(super) fn columns(strips: &Strips) -> Box<[Column; STRIPS]> {
    let height = height(strips.log2_width);
    let mut columns = Box::new([Column { own: height, ..Column::default() }; STRIPS]);
    let mut left = strips.weights.clone();
    let (mut low, mut high): (Vec<usize>, Vec<usize>) = (0..STRIPS).partition(|&strip| left[strip] < height);
    while let (Some(own), Some(&other)) = (low.pop(), high.last()) {
        columns[own] = Column { own: left[own], other, ..Column::default() };
        left[other] -= height - left[own];
        if left[other] < height {
            high.pop();
            low.push(other);
        }
    }
    for (strip, column) in columns.iter_mut().enumerate() {
        column.mark_accepted(strip, strips);
    }
    columns
}

/// Units of each column.
pub(super) fn height(log2_width: u32) -> u64 {
    Strips::total(log2_width) / STRIPS as u64
}
