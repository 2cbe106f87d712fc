//! Both passes of a paired batch, down to the factors of each layer's gradient.

use super::Checked;
use crate::kernel::{axpy, dot_wide, subtract};
use crate::model::{Model, PrivateObjective, Workspace, loss};
use crate::network::Tape;
use crate::real::Real;

/// A sum of outer products over rows: `sum_t left_t (x) right_t`, and `sum_t left_t` for the bias where `constant`.
///
/// Has no `Debug`: the values derive from patients' values.
#[derive(Clone, Copy)]
pub struct Factor<'a, F> {
    /// Output side, `[rows, outputs]`.
    pub left: &'a [F],
    /// Input side, `[rows, inputs]`.
    pub right: &'a [F],
    /// Whether the input side has a further entry 1, that of the bias; else that entry is 0.
    pub constant: bool,
}

impl Model {
    /// Runs both views and leaves in the workspace what [`Self::linear_factors`] and [`Self::norm_factors`] read.
    pub(super) fn factors<F: Real>(
        &self,
        params: &[F],
        batch: &Checked<'_, F>,
        workspace: &mut Workspace<F>,
    ) {
        self.passes(params, batch, workspace);
        let Workspace { real, hybrid, real_residuals, hybrid_residuals, d_hidden, input_difference, .. } =
            workspace;
        let has_hidden = batch.objective.has_consistency() && real.hidden().is_some();
        let derivative = has_hidden.then_some(&d_hidden[..]);
        self.tower.propagate(params, real_residuals, derivative, real);
        let Some(hybrid_input) = batch.hybrid else { return };
        if has_hidden {
            d_hidden.iter_mut().for_each(|d| *d = -*d);
        }
        let derivative = has_hidden.then_some(&d_hidden[..]);
        self.tower.propagate(params, hybrid_residuals, derivative, hybrid);
        input_difference.clear();
        input_difference.extend_from_slice(batch.real.values());
        subtract(input_difference, hybrid_input.values());
        subtract_views(real, hybrid);
    }

    /// Runs both views forward: losses per record, output derivatives, and the derivative of the consistency term.
    pub(super) fn passes<F: Real>(&self, params: &[F], batch: &Checked<'_, F>, workspace: &mut Workspace<F>) {
        let Workspace { real, hybrid, real_residuals, hybrid_residuals, d_hidden, losses, .. } = workspace;
        let labels = batch.labels;
        self.tower.run(params, batch.real, None, real);
        losses.clear();
        losses.resize(labels.len(), 0.0);
        residuals(real.output(), labels, Sign::Plus, real_residuals, losses);
        let Some(hybrid_input) = batch.hybrid else { return };
        self.tower.run(params, hybrid_input, None, hybrid);
        residuals(hybrid.output(), labels, Sign::Minus, hybrid_residuals, losses);
        if batch.objective.has_consistency() {
            let hidden = match (real.hidden(), hybrid.hidden()) {
                (Some(real), Some(hybrid)) => (real, hybrid),
                // Without hidden layers h is the input itself, which no parameter moves: a constant in the loss.
                _ => (batch.real.values(), hybrid_input.values()),
            };
            consistency(batch.objective, hidden, self.hidden_width(), d_hidden, losses);
        }
    }

    /// Factors of the weight gradient of a linear layer.
    #[inline(always)]
    pub(super) fn linear_factors<'w, F: Real>(
        &self,
        layer: usize,
        batch: &Checked<'w, F>,
        workspace: &'w Workspace<F>,
    ) -> Factors<'w, F> {
        let input = |tape: &'w Tape<F>, dense: &'w [F]| match layer.checked_sub(1) {
            None => dense,
            Some(previous) => &tape.layers[previous].activation[..],
        };
        let (real, hybrid) = (&workspace.real, &workspace.hybrid);
        let left = &real.layers[layer].delta[..];
        match batch.hybrid {
            None => Factors::direct(left, input(real, batch.real.values())),
            Some(hybrid_input) => Factors::paired(
                (left, input(real, &workspace.input_difference)),
                (&hybrid.layers[layer].delta, input(hybrid, hybrid_input.values())),
            ),
        }
    }

    /// Factors, elementwise, of the gain gradient of a layer's LayerNorm; its shift takes the `constant` part.
    #[inline(always)]
    pub(super) fn norm_factors<'w, F: Real>(
        &self,
        layer: usize,
        batch: &Checked<'w, F>,
        workspace: &'w Workspace<F>,
    ) -> Factors<'w, F> {
        let real = &workspace.real.layers[layer];
        if batch.hybrid.is_none() {
            return Factors::direct(&real.slope, &real.normalized);
        }
        let hybrid = &workspace.hybrid.layers[layer];
        Factors::paired((&real.slope, &real.normalized), (&hybrid.slope, &hybrid.normalized))
    }
}

/// One or two factors.
#[derive(Clone, Copy)]
pub(super) enum Factors<'a, F> {
    /// Direct loss: `b a^T`.
    Direct(Factor<'a, F>),
    /// Difference loss: `b_r (a_r - a_h)^T + (b_r + b_h) a_h^T`.
    Paired([Factor<'a, F>; 2]),
}

impl<'a, F> Factors<'a, F> {
    #[inline(always)]
    fn direct(left: &'a [F], right: &'a [F]) -> Self {
        Self::Direct(Factor { left, right, constant: true })
    }

    #[inline(always)]
    fn paired(difference: (&'a [F], &'a [F]), sum: (&'a [F], &'a [F])) -> Self {
        Self::Paired([
            Factor { left: difference.0, right: difference.1, constant: false },
            Factor { left: sum.0, right: sum.1, constant: true },
        ])
    }

    /// The factors in order; the last one is `constant`.
    #[inline(always)]
    pub(super) fn as_slice(&self) -> &[Factor<'a, F>] {
        match self {
            Self::Direct(factor) => std::slice::from_ref(factor),
            Self::Paired(factors) => factors,
        }
    }
}

impl<'a, F> Factor<'a, F> {
    /// The same factor on some of its rows.
    #[inline(always)]
    pub(super) fn rows(&self, rows: &std::ops::Range<usize>, outputs: usize, inputs: usize) -> Self {
        Self {
            left: &self.left[rows.start * outputs..rows.end * outputs],
            right: &self.right[rows.start * inputs..rows.end * inputs],
            constant: self.constant,
        }
    }
}

/// Sign of a view's loss in the objective.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// Real view.
    Plus,
    /// Hybrid view.
    Minus,
}

/// Derivatives of the signed cross-entropy by the logits; adds the signed losses.
pub(super) fn residuals<F: Real>(
    logits: &[F],
    labels: &[F],
    sign: Sign,
    residuals: &mut Vec<F>,
    losses: &mut [f64],
) {
    residuals.clear();
    for ((&logit, &label), total) in logits.iter().zip(labels).zip(losses) {
        let value = loss::cross_entropy(logit, label).wide();
        let residual = loss::residual(logit, label);
        let (value, residual) = if sign == Sign::Plus { (value, residual) } else { (-value, -residual) };
        *total += value;
        residuals.push(residual);
    }
}

/// Adds the consistency term to the losses and writes its derivative by the real view's hidden layer.
fn consistency<F: Real>(
    objective: &PrivateObjective,
    (real, hybrid): (&[F], &[F]),
    width: usize,
    d_hidden: &mut Vec<F>,
    losses: &mut [f64],
) {
    d_hidden.clear();
    d_hidden.extend(real.iter().zip(hybrid).map(|(&real, &hybrid)| real - hybrid));
    for (difference, total) in d_hidden.chunks_exact_mut(width).zip(losses) {
        let (value, factor) = objective.consistency(dot_wide(difference, difference));
        *total += value;
        let factor = F::of(factor);
        difference.iter_mut().for_each(|d| *d *= factor);
    }
}

/// Turns the real pass into real minus hybrid on the input side, the hybrid pass into real plus hybrid on the output side.
fn subtract_views<F: Real>(real: &mut Tape<F>, hybrid: &mut Tape<F>) {
    let last = real.layers.len() - 1;
    for (index, (real, hybrid)) in real.layers.iter_mut().zip(&mut hybrid.layers).enumerate() {
        axpy(F::one(), &real.delta, &mut hybrid.delta);
        if index < last {
            axpy(F::one(), &real.slope, &mut hybrid.slope);
            subtract(&mut real.activation, &hybrid.activation);
            subtract(&mut real.normalized, &hybrid.normalized);
        }
    }
}
