//! Export of the trained model.

use std::collections::BTreeMap;

use super::{
    OnnxError, features,
    graph::{Graph, Value},
    layers,
};
use crate::{
    encode::{ColumnEncoder, Encoder, HeadSource},
    model::{HeadFeature, InputShape, Model},
    schema::Schema,
};

/// Name of the output that holds the log-odds.
const LOGIT: &str = "logit";
/// Name of the output that holds the probability.
const PROBABILITY: &str = "probability";

/// The trained model as an ONNX file that reads raw columns.
///
/// One input `[N, 1]` per feature column, named like the column and in schema order: float32, NaN where missing, for
/// continuous and binary columns; string, "" where missing, for categorical ones. Values are clipped to the
/// declared range where the schema says so, an unknown word counts as missing, and everything else is the caller's
/// to refuse. Outputs `logit` and `probability`, float32 `[N, 1]`.
///
/// `params` are the model's P parameters; `metadata` is stored in the file and must be fit for publication.
///
/// # Errors
/// The schema is invalid or encodes to another shape than the model's input, a parameter is not finite, or a column
/// is named like an output.
pub fn export_model(
    schema: &Schema,
    model: &Model,
    params: &[f32],
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, OnnxError> {
    let encoder = Encoder::new(schema, model.spec())?;
    check(&encoder, model, params)?;
    let mut graph = Graph::new("fusiondp-model", [LOGIT, PROBABILITY])?;
    let logit = logit(&mut graph, schema, &encoder, model, &model.effective(params))?;
    let probability = graph.apply("Sigmoid", &[&logit]);
    graph.output(LOGIT, &logit, 1);
    graph.output(PROBABILITY, &probability, 1);
    Ok(graph.finish(metadata))
}

/// Declares one input per feature column in schema order and returns them in the order of `columns`.
pub(super) fn inputs<'c>(
    graph: &mut Graph,
    schema: &Schema,
    columns: &[&'c ColumnEncoder],
) -> Result<Vec<(&'c ColumnEncoder, Value)>, OnnxError> {
    let place = |column: &ColumnEncoder| schema.columns.iter().position(|other| other.name == column.name());
    let mut order: Vec<usize> = (0..columns.len()).collect();
    order.sort_by_key(|&index| place(columns[index]));
    let values = graph.inputs(order.iter().map(|&i| (columns[i].name(), features::element(columns[i]))))?;
    let mut placed: Vec<(usize, Value)> = order.into_iter().zip(values).collect();
    placed.sort_by_key(|(index, _)| *index);
    Ok(placed.into_iter().map(|(index, value)| (columns[index], value)).collect())
}

/// Refuses parameters that a file must not hold.
pub(super) fn check_finite(params: &[f32]) -> Result<(), OnnxError> {
    match params.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(OnnxError::NotFinite { index }),
        None => Ok(()),
    }
}

fn check(encoder: &Encoder, model: &Model, params: &[f32]) -> Result<(), OnnxError> {
    let (encoded, shape) = (encoder.input_shape(), model.input_shape());
    if encoded.dense != shape.dense {
        return Err(OnnxError::Shape {
            what: "dense model inputs",
            found: shape.dense,
            wanted: encoded.dense,
        });
    }
    if encoded.bins != shape.bins {
        let bins = |shape: &InputShape| shape.bins.iter().map(HeadFeature::parameters).sum();
        let (found, wanted) = (bins(shape), bins(&encoded));
        return Err(OnnxError::Shape { what: "bins of the sensitive head", found, wanted });
    }
    if params.len() != model.parameters() {
        return Err(OnnxError::Shape { what: "parameters", found: params.len(), wanted: model.parameters() });
    }
    check_finite(params)
}

fn logit(
    graph: &mut Graph,
    schema: &Schema,
    encoder: &Encoder,
    model: &Model,
    params: &[f32],
) -> Result<Value, OnnxError> {
    let columns: Vec<&ColumnEncoder> =
        encoder.public_columns().iter().chain(encoder.sensitive_columns()).collect();
    let inputs = inputs(graph, schema, &columns)?;
    let Some(head) = encoder.head() else {
        let input = features::dense_block(graph, inputs.iter().map(|(column, value)| (*column, value)));
        return layers::network(graph, model.layout(), "", params, &input);
    };
    let (public, sensitive) = inputs.split_at(encoder.public_columns().len());
    let input = features::dense_block(graph, public.iter().map(|(column, value)| (*column, value)));
    let mut logit = tower(graph, model, params, &input)?;
    for (index, source) in head.iter().enumerate() {
        let weight = source.feature.weight;
        let weights: Vec<f32> =
            head_tensor(model, params, index)?.iter().map(|value| weight * value).collect();
        let weights = graph.floats(&[weights.len()], &weights);
        let bin = bin(graph, source, public, sensitive);
        let term = graph.apply("Gather", &[&weights, &bin]);
        logit = graph.apply("Add", &[&logit, &term]);
    }
    Ok(logit)
}

/// The mean output of the networks of the tower.
fn tower(graph: &mut Graph, model: &Model, params: &[f32], input: &Value) -> Result<Value, OnnxError> {
    let prefixes = model.tower_prefixes();
    let members: Vec<Value> = prefixes
        .iter()
        .map(|prefix| layers::network(graph, model.layout(), prefix, params, input))
        .collect::<Result<_, _>>()?;
    let share = graph.float(1.0 / members.len() as f32);
    let mean = members.into_iter().reduce(|sum, member| graph.apply("Add", &[&sum, &member]));
    let sum = mean.ok_or(OnnxError::Shape { what: "networks of the tower", found: 0, wanted: 1 })?;
    if prefixes.len() == 1 { Ok(sum) } else { Ok(graph.apply("Mul", &[&sum, &share])) }
}

/// Index of each record's bin among those of all groups, int64 `[N, 1]`.
fn bin(
    graph: &mut Graph,
    source: &HeadSource,
    public: &[(&ColumnEncoder, Value)],
    sensitive: &[(&ColumnEncoder, Value)],
) -> Value {
    let (column, value) = &sensitive[source.sensitive];
    let slot = features::slot(graph, column, value);
    let Some(by) = source.by else { return slot };
    let (column, value) = &public[by];
    let group = features::group(graph, column, value);
    let bins = graph.integers(&[1, 1], &[source.feature.bins as i64]);
    let first = graph.apply("Mul", &[&group, &bins]);
    graph.apply("Add", &[&first, &slot])
}

fn head_tensor<'p>(model: &Model, params: &'p [f32], index: usize) -> Result<&'p [f32], OnnxError> {
    let tensor = model.layout().get(&format!("head.{index}"));
    tensor.and_then(|tensor| params.get(tensor.range())).ok_or(OnnxError::Shape {
        what: "tensors of the sensitive head",
        found: index,
        wanted: index + 1,
    })
}
