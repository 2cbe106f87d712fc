//! Export of an imputer network.

use std::collections::BTreeMap;

use super::{
    OnnxError, features,
    graph::{Graph, Value},
    layers,
    model::{check_finite, inputs},
};
use crate::{
    encode::ColumnEncoder,
    imputer::{Head, HeadKind, ImputerNetwork, Target, knot_units},
    schema::{Column, ColumnKind},
};

/// A fitted imputer as an ONNX file under the imputer contract.
///
/// One input `[N, 1]` per public column, named like the column: float32, NaN where missing, or string, "" where
/// missing. One output per sensitive column, named like the column: the value `[N, 1]`, clipped to the declared range,
/// of a continuous column; the probability of 1 `[N, 1]` of a binary one; the words' probabilities `[N, V]` of a
/// categorical one. `metadata` is stored in the file and must be fit for publication.
///
/// # Errors
/// A parameter is not finite.
pub fn export_imputer(
    imputer: &ImputerNetwork,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, OnnxError> {
    let schema = imputer.schema();
    let (network, params) = imputer.network();
    check_finite(params)?;
    let mut graph = Graph::new("fusiondp-imputer", schema.sensitive().map(|column| column.name.as_str()))?;
    let columns: Vec<&ColumnEncoder> = imputer.encoder().public_columns().iter().collect();
    let inputs = inputs(&mut graph, schema, &columns)?;
    let input = features::dense_block(&mut graph, inputs.iter().map(|(column, value)| (*column, value)));
    let output = layers::network(&mut graph, network.layout(), "", params, &input)?;
    for (column, head) in schema.sensitive().zip(imputer.heads()) {
        let raw = graph.columns(&output, head.range.clone());
        let scores = scores(&mut graph, column, head, &raw);
        graph.output(&column.name, &scores, head.range.len());
    }
    Ok(graph.finish(metadata))
}

fn scores(graph: &mut Graph, column: &Column, head: &Head, raw: &Value) -> Value {
    let value = match &head.kind {
        HeadKind::Logit => return graph.apply("Sigmoid", &[raw]),
        HeadKind::Words => return graph.softmax(raw),
        HeadKind::Value(target) => target_value(graph, target, raw),
    };
    match &column.kind {
        Some(ColumnKind::Continuous { range: [low, high] }) => graph.clip(&value, *low as f32, *high as f32),
        _ => value,
    }
}

/// The inverse of [`Target::of`].
fn target_value(graph: &mut Graph, target: &Target, raw: &Value) -> Value {
    match target {
        Target::Affine { center, scale } => affine(graph, raw, *center, *scale),
        Target::SignedLog { center, scale } => {
            let log = affine(graph, raw, *center, *scale);
            let (sign, magnitude) = (graph.apply("Sign", &[&log]), graph.apply("Abs", &[&log]));
            let exponential = graph.apply("Exp", &[&magnitude]);
            let one = graph.float(1.0);
            let shifted = graph.apply("Sub", &[&exponential, &one]);
            graph.apply("Mul", &[&sign, &shifted])
        }
        Target::Knots(knots) => {
            let (center, scale) = knot_units(knots);
            let filled = affine(graph, raw, center, scale);
            let starts: Vec<f32> = (0..knots.len() - 1).map(|i| i as f32).collect();
            let widths: Vec<f32> = knots.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let starts = graph.floats(&[1, starts.len()], &starts);
            let widths = graph.floats(&[widths.len(), 1], &widths);
            let excess = graph.apply("Sub", &[&filled, &starts]);
            let share = graph.clip(&excess, 0.0, 1.0);
            let rise = graph.apply("MatMul", &[&share, &widths]);
            let low = graph.float(knots[0]);
            graph.apply("Add", &[&rise, &low])
        }
    }
}

fn affine(graph: &mut Graph, raw: &Value, center: f32, scale: f32) -> Value {
    let (center, scale) = (graph.float(center), graph.float(scale));
    let scaled = graph.apply("Mul", &[raw, &scale]);
    graph.apply("Add", &[&scaled, &center])
}
