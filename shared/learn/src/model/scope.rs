//! Where in a model the private gradient goes: all of it, some layers, low-rank adapters.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::adapter::Adapter;
use super::{ModelError, PrivateRange};
use crate::network::{Mlp, ParameterLayout};

/// Which weights of an `mlp` take the private gradient; the others are moved by the public gradient alone.
///
/// Everything takes the public gradient, the chosen weights too: the private difference corrects it where it is added.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrivateScope {
    /// Layers by name, input side first: `L.0` is the first linear map with its bias, `N.0` the gain and the shift of the
    /// LayerNorm behind it. Absent: all layers, or with adapters none besides them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<String>>,
    /// Adapters of the linear maps that lead to a hidden layer and are not named in `layers`; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapters: Option<AdapterSpec>,
}

/// Low-rank adapters: a linear map computes `W + scale * A B` with `A` `[outputs, rank]` and `B` `[rank, inputs]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterSpec {
    /// Rank r, at least 1 and below both widths of every map that gets an adapter.
    pub rank: usize,
    /// Factor of the product; finite, above 0.
    #[serde(default = "one")]
    pub scale: f64,
}

impl PrivateScope {
    /// Whether the private gradient goes everywhere.
    pub fn is_whole(&self) -> bool {
        *self == Self::default()
    }
}

/// A run of private coordinates, and which gradient they take.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// What it is the gradient of.
    pub(crate) source: Source,
    /// First of its places among the private coordinates.
    pub(crate) start: usize,
    /// Coordinates of the parameter vector.
    pub(crate) range: Range<usize>,
    /// Output width; of a LayerNorm its width.
    pub(crate) outputs: usize,
    /// Input width; of a LayerNorm its width.
    pub(crate) inputs: usize,
}

/// What a run of private coordinates is the gradient of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Weight and bias of a layer.
    Linear(usize),
    /// Gain and shift of a layer's LayerNorm.
    Norm(usize),
    /// Output side A of an adapter.
    Up(usize),
    /// Input side B of an adapter.
    Down(usize),
}

impl Part {
    /// Its places among the private coordinates.
    pub(crate) fn places(&self) -> Range<usize> {
        self.start..self.start + self.range.len()
    }

    /// Whether units contribute outer products to it.
    pub(crate) fn is_linear(&self) -> bool {
        !matches!(self.source, Source::Norm(_))
    }
}

/// A scope that fits a network.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resolved {
    pub(crate) parts: Vec<Part>,
    pub(crate) adapters: Vec<Adapter>,
    pub(crate) range: PrivateRange,
}

impl Resolved {
    /// Finds the layers that a scope names, and appends the adapters to the layout.
    ///
    /// # Errors
    /// A layer that is unknown, named twice or in no order, an empty list, or adapters that fit no layer.
    pub(crate) fn new(
        scope: &PrivateScope,
        tower: &Mlp,
        layout: &mut ParameterLayout,
    ) -> Result<Self, ModelError> {
        let adapters = match &scope.adapters {
            Some(spec) => adapters(spec, scope, tower, layout)?,
            None => Vec::new(),
        };
        check_names(scope, tower)?;
        let is_private = |name: &String| match &scope.layers {
            Some(layers) => layers.contains(name),
            None => scope.adapters.is_none(),
        };
        let mut resolved = Self { adapters, ..Self::default() };
        for (index, layer) in tower.layers().iter().enumerate() {
            if is_private(&linear_name(index)) {
                let range = layer.weight.start..layer.bias.end;
                resolved.push(Source::Linear(index), range, (layer.outputs, layer.inputs));
            }
            if let Some(norm) = layer.norm.as_ref().filter(|_| is_private(&norm_name(index))) {
                let range = norm.gain.start..norm.shift.end;
                resolved.push(Source::Norm(index), range, (layer.outputs, layer.outputs));
            }
        }
        for (index, adapter) in resolved.adapters.clone().iter().enumerate() {
            resolved.push(Source::Up(index), adapter.up.clone(), (adapter.outputs, adapter.rank));
            resolved.push(Source::Down(index), adapter.down.clone(), (adapter.rank, adapter.inputs));
        }
        resolved.range = PrivateRange::new(resolved.parts.iter().map(|part| part.range.clone()));
        Ok(resolved)
    }

    fn push(&mut self, source: Source, range: Range<usize>, (outputs, inputs): (usize, usize)) {
        let start = self.parts.last().map_or(0, |part| part.places().end);
        self.parts.push(Part { source, start, range, outputs, inputs });
    }
}

fn linear_name(layer: usize) -> String {
    format!("L.{layer}")
}

fn norm_name(layer: usize) -> String {
    format!("N.{layer}")
}

fn names(tower: &Mlp) -> Vec<String> {
    let layers = tower.layers().iter().enumerate();
    layers
        .flat_map(|(index, layer)| {
            let norm = layer.norm.is_some().then(|| norm_name(index));
            std::iter::once(linear_name(index)).chain(norm)
        })
        .collect()
}

/// A list says what it means: each layer once, and at least one.
fn check_names(scope: &PrivateScope, tower: &Mlp) -> Result<(), ModelError> {
    let Some(layers) = &scope.layers else { return Ok(()) };
    if layers.is_empty() {
        return Err(ModelError::NoPrivateLayer);
    }
    let known = names(tower);
    for (index, name) in layers.iter().enumerate() {
        if !known.contains(name) {
            return Err(ModelError::PrivateLayer { name: name.clone(), known: known.join(", ") });
        }
        if layers[..index].contains(name) {
            return Err(ModelError::PrivateLayerTwice { name: name.clone() });
        }
    }
    Ok(())
}

/// One adapter for each linear map to a hidden layer that is not private as a whole.
fn adapters(
    spec: &AdapterSpec,
    scope: &PrivateScope,
    tower: &Mlp,
    layout: &mut ParameterLayout,
) -> Result<Vec<Adapter>, ModelError> {
    if !(spec.scale > 0.0 && spec.scale.is_finite()) {
        return Err(ModelError::AdapterScale { scale: spec.scale });
    }
    let whole = |index| scope.layers.as_ref().is_some_and(|layers| layers.contains(&linear_name(index)));
    let hidden = tower.layers().len() - 1;
    let mut adapters = Vec::new();
    for (index, layer) in tower.layers()[..hidden].iter().enumerate().filter(|(index, _)| !whole(*index)) {
        let widest = layer.outputs.min(layer.inputs);
        if !(1..widest).contains(&spec.rank) {
            return Err(ModelError::AdapterRank { rank: spec.rank, layer: linear_name(index), widest });
        }
        adapters.push(Adapter {
            layer: index,
            outputs: layer.outputs,
            inputs: layer.inputs,
            rank: spec.rank,
            scale: spec.scale,
            weight: layer.weight.clone(),
            up: layout.push(format!("A.{index}.up"), vec![layer.outputs, spec.rank]),
            down: layout.push(format!("A.{index}.down"), vec![spec.rank, layer.inputs]),
        });
    }
    if adapters.is_empty() { Err(ModelError::NoAdapter) } else { Ok(adapters) }
}

fn one() -> f64 {
    1.0
}
