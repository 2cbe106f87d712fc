//! What a model file holds, without running it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use prost::Message;

use super::{
    OnnxError,
    proto::{
        AttributeProto, DimensionValue, EXTERNAL, GraphProto, ModelProto, NodeProto, SparseTensorProto,
        TensorProto, ValueInfoProto, data_type,
    },
};

/// Domains whose operators ONNX Runtime itself implements, `ai.onnx` being written as the empty domain.
const STANDARD_DOMAINS: [&str; 2] = ["", "ai.onnx.ml"];

/// What an ONNX file declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSummary {
    /// Tool that wrote the file.
    pub producer: String,
    /// Version of that tool.
    pub producer_version: String,
    /// Version of the file format.
    pub ir_version: i64,
    /// Operator set version by domain, `ai.onnx` as the empty domain.
    pub opsets: BTreeMap<String, i64>,
    /// Every operator of the graph and its subgraphs.
    pub operators: BTreeSet<Operator>,
    /// Inputs that a caller must feed, in order.
    pub inputs: Vec<TensorSummary>,
    /// Outputs, in order.
    pub outputs: Vec<TensorSummary>,
    /// Metadata of the file.
    pub metadata: BTreeMap<String, String>,
    /// Names of functions that the file defines.
    pub functions: Vec<String>,
    /// Names of tensors whose data is in another file.
    pub external_tensors: Vec<String>,
}

/// One kind of operator.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Operator {
    /// Domain, empty for `ai.onnx`.
    pub domain: String,
    /// Type within the domain.
    pub operator: String,
}

/// Declaration of an input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSummary {
    /// Name.
    pub name: String,
    /// Element type.
    pub element: ElementType,
    /// Extent of each dimension, `None` where it is named or unknown; `None` for an undeclared rank.
    pub shape: Option<Vec<Option<u64>>>,
}

/// Element type of an input or output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElementType {
    /// 32-bit float.
    Float,
    /// 64-bit float.
    Double,
    /// 32-bit integer.
    Int32,
    /// 64-bit integer.
    Int64,
    /// Text.
    String,
    /// Truth value.
    Bool,
    /// Another tensor type, by its number in the format.
    Other(i32),
    /// A sequence, map or other value that is not a tensor, such as scikit-learn's `ZipMap` output.
    NotATensor,
}

/// Reads what an ONNX file declares.
///
/// # Errors
/// The bytes are not an ONNX model, or it has no graph.
pub fn inspect(bytes: &[u8]) -> Result<ModelSummary, OnnxError> {
    let model = ModelProto::decode(bytes)?;
    let graph = model.graph.as_ref().ok_or(OnnxError::NoGraph)?;
    let mut found = Found::default();
    found.graph(graph);
    let constants: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let fed = graph.input.iter().filter(|input| !constants.contains(input.name.as_str()));
    Ok(ModelSummary {
        ir_version: model.ir_version,
        opsets: model.opset_import.iter().map(|set| (domain(&set.domain), set.version)).collect(),
        operators: found.operators,
        inputs: fed.map(tensor_summary).collect(),
        outputs: graph.output.iter().map(tensor_summary).collect(),
        metadata: model.metadata_props.into_iter().map(|entry| (entry.key, entry.value)).collect(),
        functions: model.functions.into_iter().map(|function| function.name).collect(),
        external_tensors: found.external_tensors,
        producer: model.producer_name,
        producer_version: model.producer_version,
    })
}

impl ModelSummary {
    /// Whether the file is whole in itself: standard operators only, no functions, no data in other files.
    ///
    /// # Errors
    /// The first of these that is violated.
    pub fn require_self_contained(&self) -> Result<(), OnnxError> {
        let custom =
            self.operators.iter().find(|operator| !STANDARD_DOMAINS.contains(&operator.domain.as_str()));
        if let Some(Operator { domain, operator }) = custom {
            return Err(OnnxError::CustomOperator { domain: domain.clone(), operator: operator.clone() });
        }
        if let Some(name) = self.functions.first() {
            return Err(OnnxError::LocalFunction { name: name.clone() });
        }
        match self.external_tensors.first() {
            Some(tensor) => Err(OnnxError::ExternalData { tensor: tensor.clone() }),
            None => Ok(()),
        }
    }
}

#[derive(Default)]
struct Found {
    operators: BTreeSet<Operator>,
    external_tensors: Vec<String>,
}

impl Found {
    fn graph(&mut self, graph: &GraphProto) {
        graph.initializer.iter().for_each(|tensor| self.tensor(tensor));
        graph.sparse_initializer.iter().for_each(|tensor| self.sparse(tensor));
        graph.node.iter().for_each(|node| self.node(node));
    }

    fn node(&mut self, node: &NodeProto) {
        self.operators.insert(Operator { domain: domain(&node.domain), operator: node.op_type.clone() });
        node.attribute.iter().for_each(|attribute| self.attribute(attribute));
    }

    fn attribute(&mut self, attribute: &AttributeProto) {
        attribute.g.iter().chain(&attribute.graphs).for_each(|graph| self.graph(graph));
        attribute.t.iter().chain(&attribute.tensors).for_each(|tensor| self.tensor(tensor));
        attribute
            .sparse_tensor
            .iter()
            .chain(&attribute.sparse_tensors)
            .for_each(|tensor| self.sparse(tensor));
    }

    fn sparse(&mut self, sparse: &SparseTensorProto) {
        sparse.values.iter().chain(&sparse.indices).for_each(|tensor| self.tensor(tensor));
    }

    fn tensor(&mut self, tensor: &TensorProto) {
        if tensor.data_location == EXTERNAL || !tensor.external_data.is_empty() {
            self.external_tensors.push(tensor.name.clone());
        }
    }
}

fn domain(name: &str) -> String {
    if name == "ai.onnx" { String::new() } else { name.to_owned() }
}

fn tensor_summary(info: &ValueInfoProto) -> TensorSummary {
    let tensor = info.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let extent = |value: &Option<DimensionValue>| match value {
        Some(DimensionValue::Fixed(extent)) => u64::try_from(*extent).ok(),
        _ => None,
    };
    TensorSummary {
        name: info.name.clone(),
        element: tensor.map_or(ElementType::NotATensor, |tensor| element(tensor.elem_type)),
        shape: tensor
            .and_then(|tensor| tensor.shape.as_ref())
            .map(|shape| shape.dim.iter().map(|dim| extent(&dim.value)).collect()),
    }
}

fn element(code: i32) -> ElementType {
    match code {
        data_type::FLOAT => ElementType::Float,
        data_type::DOUBLE => ElementType::Double,
        data_type::INT32 => ElementType::Int32,
        data_type::INT64 => ElementType::Int64,
        data_type::STRING => ElementType::String,
        data_type::BOOL => ElementType::Bool,
        other => ElementType::Other(other),
    }
}
