//! A fully connected network as part of a graph.

use super::{
    OnnxError,
    graph::{self, Graph, Value},
};
use crate::network::{LAYER_NORM_EPSILON, ParameterLayout};

/// The output `[N, O]` of the network whose tensors in `layout` start with `prefix`.
///
/// # Errors
/// [`OnnxError::Shape`] if the layout holds no such network.
pub(super) fn network(
    graph: &mut Graph,
    layout: &ParameterLayout,
    prefix: &str,
    params: &[f32],
    input: &Value,
) -> Result<Value, OnnxError> {
    let tensor = |graph: &mut Graph, name: String| -> Option<Value> {
        let tensor = layout.get(&name)?;
        Some(graph.floats(tensor.shape(), params.get(tensor.range())?))
    };
    let layers = (0..).take_while(|i| layout.get(&format!("{prefix}L.{i}.weight")).is_some()).count();
    let mut value = input.clone();
    for index in 0..layers {
        let weight = tensor(graph, format!("{prefix}L.{index}.weight"));
        let bias = tensor(graph, format!("{prefix}L.{index}.bias"));
        let (Some(weight), Some(bias)) = (weight, bias) else {
            return Err(OnnxError::Shape { what: "tensors of a layer", found: 1, wanted: 2 });
        };
        value = graph.apply_with("Gemm", &[&value, &weight, &bias], vec![graph::int("transB", 1)]);
        if index + 1 == layers {
            return Ok(value);
        }
        let gain = tensor(graph, format!("{prefix}N.{index}.weight"));
        let shift = tensor(graph, format!("{prefix}N.{index}.bias"));
        if let (Some(gain), Some(shift)) = (gain, shift) {
            value = layer_norm(graph, &value, &gain, &shift);
        }
        value = gelu(graph, &value);
    }
    Err(OnnxError::Shape { what: "layers of the network", found: 0, wanted: 1 })
}

fn layer_norm(graph: &mut Graph, value: &Value, gain: &Value, shift: &Value) -> Value {
    let attributes = vec![graph::int("axis", -1), graph::float("epsilon", LAYER_NORM_EPSILON as f32)];
    graph.apply_with("LayerNormalization", &[value, gain, shift], attributes)
}

/// `x/2 (1 + erf(x / sqrt 2))`; ONNX has an operator for it only from opset 20.
fn gelu(graph: &mut Graph, value: &Value) -> Value {
    let (root, one, half) =
        (graph.float(std::f32::consts::FRAC_1_SQRT_2), graph.float(1.0), graph.float(0.5));
    let scaled = graph.apply("Mul", &[value, &root]);
    let erf = graph.apply("Erf", &[&scaled]);
    let shifted = graph.apply("Add", &[&erf, &one]);
    let halved = graph.apply("Mul", &[value, &half]);
    graph.apply("Mul", &[&halved, &shifted])
}
