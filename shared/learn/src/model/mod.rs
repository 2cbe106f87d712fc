//! Models: a logit from encoded input, and the gradients that training needs.
//!
//! | file | what |
//! |---|---|
//! | `spec` | what a study says of its model |
//! | `view`, `batch` | encoded input: N records in one view, U privacy units in both |
//! | `loss`, `objective` | cross-entropy on logits; the private loss and its constants |
//! | `scope`, `range`, `adapter` | where the private gradient goes: everywhere, some layers, low-rank adapters |
//! | `public` | mean gradient of the hybrid view, without clipping |
//! | `input` | derivatives by the input |
//! | `file` | parameters as a safetensors file |
//! | `private/` | per-unit ghost norms and clipped gradients |
//!
//! Passes write into a [`Workspace`], which is kept between steps.

mod adapter;
mod batch;
mod error;
mod file;
mod head;
mod input;
mod loss;
mod objective;
mod private;
mod public;
mod range;
mod scope;
mod spec;
mod tower;
mod view;
mod workspace;

use std::ops::Range;

use ndarray::Array2;

use self::adapter::Adapter;
use self::head::Head;
use self::scope::{Part, Resolved};
use self::tower::Tower;
use crate::kernel::Matrix;
use crate::network::{Dropout, DropoutSeed, Mlp, Normalization};
use crate::real::Real;

pub use crate::network::{ParameterLayout, Tensor};
pub use batch::PairedBatch;
pub use error::ModelError;
pub use file::ParameterFileError;
pub use loss::{cross_entropy, residual, sigmoid};
pub use objective::{PrivateLoss, PrivateObjective};
pub use private::{Directions, Factor, FactorGroup, PrivateBlock};
pub use public::BatchShare;
pub use range::PrivateRange;
pub use scope::{AdapterSpec, PrivateScope};
pub use spec::{HeadColumn, HeadFeature, HeadGradient, InputShape, ModelSpec};
pub use view::View;
use workspace::Grams;
pub use workspace::Workspace;

/// A model without its parameters: it interprets a flat parameter vector `[P]`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Model {
    spec: ModelSpec,
    shape: InputShape,
    tower: Tower,
    head: Option<Head>,
    layout: ParameterLayout,
    public: Range<usize>,
    private: PrivateRange,
    /// Runs of private coordinates, in order; none for a model with a head.
    parts: Vec<Part>,
    adapters: Vec<Adapter>,
    dropout: f64,
}

impl Model {
    /// A model of this architecture for encoded input of this shape.
    ///
    /// Parameters of `linear` and `mlp` are named as in [`Mlp::new`], followed by `A.<i>.up` and `A.<i>.down` per adapter.
    /// Those of `split` are `tower.L.0.weight` and so on, or `tower.<m>.L.0.weight` per member m where there are several,
    /// then `head.<j>` `[bins_j]` per sensitive feature j of the head, or `[groups_j, bins_j]` where it has groups.
    ///
    /// # Errors
    /// A width of 0, a dropout rate outside `[0, 1)`, a number of members out of range, a private scope that does not fit
    /// the network, bins for a model that has no sensitive head, none for one that has.
    pub fn new(spec: &ModelSpec, shape: InputShape) -> Result<Self, ModelError> {
        let (kind, widths, layer_norm, dropout, members) = match spec {
            ModelSpec::Linear {} => ("linear", &[][..], false, 0.0, 1),
            ModelSpec::Mlp { widths, layer_norm, dropout, .. } => {
                ("mlp", &widths[..], *layer_norm, *dropout, 1)
            }
            ModelSpec::Split { widths, layer_norm, dropout, members, .. } => {
                ("split", &widths[..], *layer_norm, *dropout, *members)
            }
        };
        Dropout::new(dropout, DropoutSeed(0))?;
        let normalization = if layer_norm { Normalization::Layer } else { Normalization::None };
        let tower = Tower::new(Mlp::new(shape.dense, widths, 1, normalization)?, members)?;
        let head = match spec {
            ModelSpec::Split { .. } => Some(Head::new(&shape)?),
            _ if shape.bins.is_empty() => None,
            _ => return Err(ModelError::UnexpectedBins { kind, features: shape.bins.len() }),
        };
        let mut layout = layout(&tower, head.as_ref());
        let Resolved { parts, adapters, range } = match head {
            Some(_) => Resolved { range: head_range(&tower, &layout), ..Resolved::default() },
            None => Resolved::new(&spec.private_scope(), tower.network(), &mut layout)?,
        };
        let public = public_range(spec, tower.parameters(), layout.total());
        let spec = spec.clone();
        Ok(Self { spec, shape, tower, head, layout, public, private: range, parts, adapters, dropout })
    }

    /// The architecture.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Widths of the encoded input.
    pub fn input_shape(&self) -> &InputShape {
        &self.shape
    }

    /// Names, shapes and places of the parameters.
    pub fn layout(&self) -> &ParameterLayout {
        &self.layout
    }

    /// What the names of the parameters of each network of a `split` model's tower start with.
    pub(crate) fn tower_prefixes(&self) -> Vec<String> {
        self.tower.members().map(|member| self.tower.prefix(member)).collect()
    }

    /// Number of parameters P.
    pub fn parameters(&self) -> usize {
        self.layout.total()
    }

    /// Coordinates that take the public gradient: all, but for a `split` model whose head learns from the private gradient
    /// alone only the tower.
    pub fn public_range(&self) -> Range<usize> {
        self.public.clone()
    }

    /// The part that takes the public gradient, as a model of its own: its parameters are the coordinates of
    /// [`Self::public_range`], and its private gradient under the direct loss is that of each unit by all of them.
    ///
    /// `None` where that part is not one network without anything beside it: with adapters, with several networks in a
    /// tower, or with a head that takes the public gradient too.
    pub fn of_public_part(&self) -> Option<Self> {
        let (spec, shape) = match &self.spec {
            ModelSpec::Linear {} => return Some(self.clone()),
            ModelSpec::Mlp { widths, layer_norm, dropout, .. } if self.adapters.is_empty() => {
                (ModelSpec::mlp(widths.clone(), *layer_norm, *dropout), self.shape.clone())
            }
            ModelSpec::Split {
                widths,
                layer_norm,
                dropout,
                members: 1,
                head_gradient: HeadGradient::PrivateOnly,
                ..
            } => {
                let shape = InputShape { dense: self.shape.dense, bins: Vec::new() };
                (ModelSpec::mlp(widths.clone(), *layer_norm, *dropout), shape)
            }
            ModelSpec::Mlp { .. } | ModelSpec::Split { .. } => return None,
        };
        let part = Self::new(&spec, shape).ok()?;
        (part.parameters() == self.public.len() && self.public.start == 0).then_some(part)
    }

    /// Coordinates that take the private gradient: all, or those that the [`PrivateScope`] names; of a `split` model the head.
    pub fn private_range(&self) -> &PrivateRange {
        &self.private
    }

    /// Coordinates of a `split` model's head; empty, at the end, for other models.
    pub fn head_range(&self) -> Range<usize> {
        let start = if self.head.is_some() { self.tower.parameters() } else { self.parameters() };
        start..self.parameters()
    }

    /// Width of the last hidden layer; of the dense input where there is none.
    pub fn hidden_width(&self) -> usize {
        self.tower.network().hidden_width()
    }

    /// Initial parameters, a function of the seed alone on every platform (see [`Mlp::initialise`]). A head starts
    /// at zero, and so does the output side of an adapter.
    pub fn initialise<F: Real>(&self, seed: u64) -> Vec<F> {
        let mut params = vec![F::zero(); self.parameters()];
        self.tower.initialise(seed, &mut params);
        self.initialise_adapters(seed, &mut params);
        params
    }

    /// Logits `[N]` of a view, without dropout.
    ///
    /// # Errors
    /// Parameters or a view that do not fit the model.
    pub fn logits<F: Real>(
        &self,
        params: &[F],
        view: &View<F>,
        workspace: &mut Workspace<F>,
    ) -> Result<Vec<F>, ModelError> {
        let dense = self.check_view("bins of the view", params, view)?;
        let params = &self.effective(params)[..];
        let mut logits = Vec::with_capacity(view.rows());
        self.tower_logits(params, dense, workspace, &mut logits);
        self.add_head(params, view, &mut logits);
        Ok(logits)
    }

    /// Last hidden layer `[N, H]` of a view, without dropout; the dense input for a model without hidden layers, the first
    /// network's layer for a tower of several.
    ///
    /// # Errors
    /// Parameters or a view that do not fit the model.
    pub fn hidden<F: Real>(
        &self,
        params: &[F],
        view: &View<F>,
        workspace: &mut Workspace<F>,
    ) -> Result<Array2<F>, ModelError> {
        let dense = self.check_view("bins of the view", params, view)?;
        let params = &self.effective(params)[..];
        let mut copy = Array2::zeros((view.rows(), self.hidden_width()));
        let mut target = copy.iter_mut();
        let (tower, Workspace { weights, real, .. }) = (self.tower_params(params), workspace);
        self.tower.load(tower, weights);
        for block in blocks(view.rows()) {
            let block = dense.slice(block);
            self.tower.run(tower, weights, 0, block, None, real);
            let hidden = real.hidden().unwrap_or(block.values());
            target.by_ref().zip(hidden).for_each(|(to, &from)| *to = from);
        }
        Ok(copy)
    }

    /// Logits of the tower alone, without dropout.
    fn tower_logits<F: Real>(
        &self,
        params: &[F],
        dense: Matrix<'_, F>,
        workspace: &mut Workspace<F>,
        logits: &mut Vec<F>,
    ) {
        logits.clear();
        let (tower, Workspace { weights, real, .. }) = (self.tower_params(params), workspace);
        self.tower.load(tower, weights);
        for block in blocks(dense.rows()) {
            let first = logits.len();
            logits.resize(first + block.len(), F::zero());
            for member in self.tower.members() {
                self.tower.run(tower, weights, member, dense.slice(block.clone()), None, real);
                self.tower.add_output(real, &mut logits[first..]);
            }
        }
    }

    /// The tower's part of a parameter vector, which comes first.
    fn tower_params<'p, F>(&self, params: &'p [F]) -> &'p [F] {
        &params[..self.tower.parameters()]
    }

    /// Adds the sensitive head, if there is one, to the tower's output.
    fn add_head<F: Real>(&self, params: &[F], view: &View<F>, logits: &mut [F]) {
        if let Some(head) = &self.head {
            head.add_logits(&params[self.tower.parameters()..], view.bins.view(), logits);
        }
    }

    /// Checks parameters and a view, and lends the dense values.
    fn check_view<'v, F: Real>(
        &self,
        what: &'static str,
        params: &[F],
        view: &'v View<F>,
    ) -> Result<Matrix<'v, F>, ModelError> {
        check_length("parameter vector", self.parameters(), params.len())?;
        let dense = self.tower.check(self.tower_params(params), view)?;
        if let Some(head) = &self.head {
            check_length(what, view.rows(), view.bins.nrows())?;
            check_length("bins of a record", head.features().len(), view.bins.ncols())?;
            head.check(view.bins.view())?;
        }
        Ok(dense)
    }
}

/// Rows that pass through the network at once, so that their activations stay in the second-level cache.
const BLOCK: usize = 256;

/// Consecutive ranges of at most [`BLOCK`] rows.
fn blocks(rows: usize) -> impl Iterator<Item = Range<usize>> {
    (0..rows).step_by(BLOCK).map(move |start| start..rows.min(start + BLOCK))
}

/// An error unless both lengths agree.
fn check_length(what: &'static str, expected: usize, found: usize) -> Result<(), ModelError> {
    if expected == found { Ok(()) } else { Err(ModelError::Length { what, expected, found }) }
}

/// An error unless there is one label, 0 or 1, per row.
fn check_labels<F: Real>(labels: &[F], rows: usize) -> Result<(), ModelError> {
    check_length("labels", rows, labels.len())?;
    match labels.iter().position(|&label| label != F::zero() && label != F::one()) {
        Some(row) => Err(ModelError::Label { row }),
        None => Ok(()),
    }
}

fn layout(tower: &Tower, head: Option<&Head>) -> ParameterLayout {
    let Some(head) = head else { return tower.network().layout().clone() };
    let mut layout = ParameterLayout::default();
    for member in tower.members() {
        layout.extend(&tower.prefix(member), tower.network().layout());
    }
    for (feature, shape) in head.features().iter().enumerate() {
        layout.push(format!("head.{feature}"), head_shape(shape));
    }
    layout
}

/// `[bins]`, or `[groups, bins]` where a public column tells groups apart.
fn head_shape(feature: &HeadFeature) -> Vec<usize> {
    if feature.groups == 1 { vec![feature.bins] } else { vec![feature.groups, feature.bins] }
}

/// The private coordinates of a model with a head.
fn head_range(tower: &Tower, layout: &ParameterLayout) -> PrivateRange {
    let head = tower.parameters()..layout.total();
    PrivateRange::new([head])
}

/// Coordinates of the public gradient.
fn public_range(spec: &ModelSpec, tower: usize, total: usize) -> Range<usize> {
    match spec {
        ModelSpec::Split { head_gradient: HeadGradient::PrivateOnly, .. } => 0..tower,
        _ => 0..total,
    }
}
