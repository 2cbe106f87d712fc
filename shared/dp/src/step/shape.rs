//! What the coordinates of a contribution are, and contributions in factored form.

use super::error::StepError;

/// Largest input or output width of a linear block, 2^16: exact inner products of 16-bit rows then stay below 2^46.
pub const MAX_WIDTH: usize = 1 << 16;

/// A run of coordinates of a contribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// Gradient of a linear map: the weight `[outputs, inputs]` row by row, then the bias `[outputs]`.
    ///
    /// A unit's contribution to it is `sum_t left_t (x) right_t` for the weight and the sum of some of its `left_t` for the
    /// bias, see [`Factor`].
    Linear {
        /// Output width, at most [`MAX_WIDTH`].
        outputs: usize,
        /// Input width, at most [`MAX_WIDTH`].
        inputs: usize,
    },
    /// Gradient of a matrix `[outputs, inputs]` without bias, row by row: as [`Self::Linear`], with no `constant` factor.
    Matrix {
        /// Output width, at most [`MAX_WIDTH`].
        outputs: usize,
        /// Input width, at most [`MAX_WIDTH`].
        inputs: usize,
    },
    /// Coordinates that are handed over one by one.
    Dense {
        /// Number of coordinates.
        length: usize,
    },
}

impl Block {
    /// Number of coordinates; saturates where there are more than can be addressed.
    pub(super) fn length(self) -> usize {
        match self {
            Self::Linear { outputs, inputs } => outputs.saturating_mul(inputs.saturating_add(1)),
            Self::Matrix { outputs, inputs } => outputs.saturating_mul(inputs),
            Self::Dense { length } => length,
        }
    }
}

/// The blocks of a contribution, in order.
///
/// A number of coordinates is the shape of one dense block: `ContributionShape::from(70)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContributionShape {
    blocks: Vec<Block>,
}

impl ContributionShape {
    /// Blocks that cover all coordinates, in order.
    #[must_use]
    pub fn new(blocks: Vec<Block>) -> Self {
        Self { blocks }
    }

    /// Number of coordinates `P'`; saturates where there are more than can be addressed.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.blocks.iter().fold(0, |total: usize, block| total.saturating_add(block.length()))
    }

    /// Number of coordinates in dense blocks.
    #[must_use]
    pub fn dense(&self) -> usize {
        let dense = self.blocks.iter().filter(|block| matches!(block, Block::Dense { .. }));
        dense.fold(0, |total: usize, block| total.saturating_add(block.length()))
    }

    /// The blocks, each with its first coordinate.
    pub(super) fn placed(&self) -> impl Iterator<Item = (usize, Block)> {
        self.blocks.iter().scan(0_usize, |next, &block| {
            let first = *next;
            *next += block.length();
            Some((first, block))
        })
    }

    /// Output and input widths of the linear blocks, with and without bias, in order.
    pub(super) fn linear(&self) -> impl Iterator<Item = (usize, usize)> {
        self.blocks.iter().filter_map(|block| match *block {
            Block::Linear { outputs, inputs } | Block::Matrix { outputs, inputs } => Some((outputs, inputs)),
            Block::Dense { .. } => None,
        })
    }
}

impl From<usize> for ContributionShape {
    fn from(length: usize) -> Self {
        Self::new(vec![Block::Dense { length }])
    }
}

/// One factor of a linear block's contributions, for all rows of a group: row t adds `left_t (x) right_t` to its unit's
/// weight gradient and, if `constant`, `left_t` to its unit's bias gradient.
///
/// Has no `Debug`: the values derive from patients' values.
#[derive(Clone, Copy)]
pub struct Factor<'a> {
    /// Output side, `[rows, outputs]`.
    pub left: &'a [f32],
    /// Input side, `[rows, inputs]`.
    pub right: &'a [f32],
    /// Whether the rows add to the bias gradient; in a block without bias they then only count as longer.
    pub constant: bool,
}

/// Contributions of several whole units in factored form, before clipping.
///
/// Has no `Debug`: the values derive from patients' values.
#[derive(Clone, Copy)]
pub struct UnitGroup<'a> {
    /// Rows of unit u are `offsets[u]..offsets[u + 1]`; U + 1 values, the first 0.
    pub offsets: &'a [usize],
    /// What unit u's contribution is multiplied by, `min(1, clip / norm)`; a unit whose factor is not finite and positive
    /// counts as the zero vector. `[U]`.
    pub clip_factors: &'a [f32],
    /// Factors of each linear block, in the order of the blocks.
    pub linear: &'a [&'a [Factor<'a>]],
    /// Coordinates of the dense blocks, unit by unit, `[U, dense]`.
    pub dense: &'a [f32],
}

impl UnitGroup<'_> {
    /// Number of units U.
    pub(super) fn units(&self) -> usize {
        self.clip_factors.len()
    }

    /// An error unless all lengths fit each other and the shape.
    pub(super) fn check(&self, shape: &ContributionShape) -> Result<(), StepError> {
        let equal = |what, expected, found| {
            if expected == found { Ok(()) } else { Err(StepError::Shape { what, expected, found }) }
        };
        equal("unit offsets", self.units() + 1, self.offsets.len())?;
        let ordered = self.offsets[0] == 0 && self.offsets.windows(2).all(|pair| pair[0] <= pair[1]);
        if !ordered {
            return Err(StepError::UnitOffsets);
        }
        let rows = self.offsets[self.units()];
        equal("dense coordinates", self.units().saturating_mul(shape.dense()), self.dense.len())?;
        equal("linear blocks", shape.linear().count(), self.linear.len())?;
        for (factors, (outputs, inputs)) in self.linear.iter().zip(shape.linear()) {
            for factor in *factors {
                equal("left factors", rows.saturating_mul(outputs), factor.left.len())?;
                equal("right factors", rows.saturating_mul(inputs), factor.right.len())?;
            }
        }
        Ok(())
    }
}
