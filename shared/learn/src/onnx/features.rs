//! Encoding of raw columns as part of a graph, the same arithmetic as [`crate::encode`].

use super::graph::{Element, Graph, Value};
use crate::encode::{ColumnCode, ColumnEncoder, NumericMap};

/// Element type of the input that feeds a column.
pub(super) fn element(column: &ColumnEncoder) -> Element {
    match column.code() {
        ColumnCode::Words { .. } => Element::String,
        _ => Element::Float,
    }
}

/// The dense encoding of columns side by side, `[N, D]`.
pub(super) fn dense_block<'c>(
    graph: &mut Graph,
    columns: impl IntoIterator<Item = (&'c ColumnEncoder, &'c Value)>,
) -> Value {
    let blocks: Vec<Value> =
        columns.into_iter().flat_map(|(column, input)| dense_column(graph, column, input)).collect();
    graph.concatenate(&blocks)
}

/// The slot of each record's cell, int64 `[N, 1]`, for a column encoded by slots.
pub(super) fn slot(graph: &mut Graph, column: &ColumnEncoder, input: &Value) -> Value {
    let missing_slot = column.width() as i64 - 1;
    let edges = match column.code() {
        ColumnCode::Words { .. } => return graph.word_index(input, column.vocabulary(), missing_slot),
        ColumnCode::Bins { edges } => edges.as_slice(),
        ColumnCode::Numeric { .. } => &[],
    };
    let (missing, value) = present_value(graph, column, input);
    let edges = graph.floats(&[1, edges.len()], edges);
    let reached = graph.apply("GreaterOrEqual", &[&value, &edges]);
    let reached = graph.cast(&reached, Element::Int64);
    let axis = graph.integers(&[1], &[1]);
    let bin = graph.apply("ReduceSum", &[&reached, &axis]);
    let missing_slot = graph.integers(&[1, 1], &[missing_slot]);
    graph.apply("Where", &[&missing, &missing_slot, &bin])
}

/// The group of each record's cell, int64 `[N, 1]`: its slot, or for an encoding without slots whether it is missing.
pub(super) fn group(graph: &mut Graph, column: &ColumnEncoder, input: &Value) -> Value {
    if !matches!(column.code(), ColumnCode::Numeric { .. }) {
        return slot(graph, column, input);
    }
    let missing = graph.apply("IsNaN", &[input]);
    graph.cast(&missing, Element::Int64)
}

fn dense_column(graph: &mut Graph, column: &ColumnEncoder, input: &Value) -> Vec<Value> {
    let ColumnCode::Numeric { map, indicator } = column.code() else {
        return vec![one_hot(graph, column, input)];
    };
    let (missing, value) = present_value(graph, column, input);
    let mapped = apply_map(graph, map, &value);
    let zero = graph.float(0.0);
    let mut blocks = vec![graph.apply("Where", &[&missing, &zero, &mapped])];
    if *indicator {
        let (present, absent) = (graph.float(-1.0), graph.float(1.0));
        blocks.push(graph.apply("Where", &[&missing, &absent, &present]));
    }
    blocks
}

fn one_hot(graph: &mut Graph, column: &ColumnEncoder, input: &Value) -> Value {
    let slot = slot(graph, column, input);
    let slots: Vec<i64> = (0..column.width() as i64).collect();
    let slots = graph.integers(&[1, slots.len()], &slots);
    let equal = graph.apply("Equal", &[&slot, &slots]);
    graph.cast(&equal, Element::Float)
}

/// Where cells are missing, and the clipped value with 0 in place of NaN: what a runtime makes of NaN in Clip, Max and
/// comparisons is not specified, so none reaches them.
fn present_value(graph: &mut Graph, column: &ColumnEncoder, input: &Value) -> (Value, Value) {
    let missing = graph.apply("IsNaN", &[input]);
    let zero = graph.float(0.0);
    let value = graph.apply("Where", &[&missing, &zero, input]);
    let value = match column.clip() {
        Some([low, high]) => graph.clip(&value, low, high),
        None => value,
    };
    (missing, value)
}

fn apply_map(graph: &mut Graph, map: &NumericMap, value: &Value) -> Value {
    let logged = if map.signed_log { signed_log(graph, value) } else { value.clone() };
    let scaled = match map.affine {
        Some((center, scale)) => {
            let (center, scale) = (graph.float(center), graph.float(scale));
            let centered = graph.apply("Sub", &[&logged, &center]);
            graph.apply("Div", &[&centered, &scale])
        }
        None => logged,
    };
    match map.limit {
        Some(limit) => graph.clip(&scaled, -limit, limit),
        None => scaled,
    }
}

fn signed_log(graph: &mut Graph, value: &Value) -> Value {
    let sign = graph.apply("Sign", &[value]);
    let magnitude = graph.apply("Abs", &[value]);
    let one = graph.float(1.0);
    let shifted = graph.apply("Add", &[&magnitude, &one]);
    let log = graph.apply("Log", &[&shifted]);
    graph.apply("Mul", &[&sign, &log])
}
