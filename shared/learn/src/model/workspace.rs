//! Buffers that steps use again.

use super::adapter::AdapterRows;
use crate::network::{Tape, Weights};

/// Buffers of a model's passes. They grow on first use; later steps of the same sizes allocate nothing in their loops.
///
/// Has no `Debug`: its contents derive from patients' values.
pub struct Workspace<F> {
    /// The weights of each network of the tower, as forward passes read them.
    pub(crate) weights: Vec<Weights<F>>,
    /// Forward and backward pass of the real view; of the only view where there is one.
    pub(crate) real: Tape<F>,
    /// Forward and backward pass of the hybrid view.
    pub(crate) hybrid: Tape<F>,
    /// Logits of the tower.
    pub(crate) tower: Vec<F>,
    /// Logits, then residuals, of the real view.
    pub(crate) real_residuals: Vec<F>,
    /// Logits, then residuals, of the hybrid view.
    pub(crate) hybrid_residuals: Vec<F>,
    /// Derivative with respect to the last hidden layer of the real view; the hybrid view's is its negative.
    pub(crate) d_hidden: Vec<F>,
    /// Real minus hybrid input.
    pub(crate) input_difference: Vec<F>,
    /// What each adapter makes of its layer's factors.
    pub(crate) adapters: Vec<AdapterRows<F>>,
    /// Gradient of one unit.
    pub(crate) unit: Vec<F>,
    /// Gradient of one unit's gains and shifts.
    pub(crate) unit_norms: Vec<F>,
    /// Gradients, before clipping, of what is not a linear layer, of a group of units.
    pub(crate) dense: Vec<F>,
    /// Clip factors of a group of units.
    pub(crate) clip_factors: Vec<F>,
    /// Inner products between the rows of one unit.
    pub(crate) grams: Grams<F>,
    /// Loss of each record.
    pub(crate) losses: Vec<f64>,
}

// By hand: a derive would ask for `F: Default`.
impl<F> Default for Workspace<F> {
    fn default() -> Self {
        Self {
            weights: Vec::new(),
            real: Tape::default(),
            hybrid: Tape::default(),
            tower: Vec::new(),
            real_residuals: Vec::new(),
            hybrid_residuals: Vec::new(),
            d_hidden: Vec::new(),
            input_difference: Vec::new(),
            adapters: Vec::new(),
            unit: Vec::new(),
            unit_norms: Vec::new(),
            dense: Vec::new(),
            clip_factors: Vec::new(),
            grams: Grams::default(),
            losses: Vec::new(),
        }
    }
}

/// Inner products between the rows of one unit's factors, and scratch.
pub(crate) struct Grams<F> {
    /// Output side of a layer.
    pub(crate) left: Vec<F>,
    /// Input side of a layer.
    pub(crate) right: Vec<F>,
    /// A transposed operand.
    pub(crate) transposed: Vec<F>,
}

impl<F> Default for Grams<F> {
    fn default() -> Self {
        Self { left: Vec::new(), right: Vec::new(), transposed: Vec::new() }
    }
}
