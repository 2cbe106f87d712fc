//! A builder of ONNX graphs from standard operators.

use std::{
    collections::{BTreeMap, HashSet},
    ops::Range,
};

use prost::Message;

use super::{
    OnnxError,
    proto::{
        AttributeProto, DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto,
        OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto,
        TypeProto, ValueInfoProto, attribute_type, data_type,
    },
};

/// IR version that goes with the opset below.
const IR_VERSION: i64 = 8;
/// First opset with LayerNormalization; GELU is composed, since its own operator needs opset 20.
const OPSET: i64 = 17;
/// Opset of `LabelEncoder`.
const ML_OPSET: i64 = 3;
const ML_DOMAIN: &str = "ai.onnx.ml";

/// A value of the graph under construction, by name.
#[derive(Debug, Clone)]
pub(super) struct Value(String);

/// Element types that the builder writes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Element {
    Float,
    Int64,
    String,
}

/// A graph under construction. Every batch dimension is named `N`.
pub(super) struct Graph {
    proto: GraphProto,
    taken: HashSet<String>,
    next: usize,
}

impl Graph {
    /// An empty graph whose outputs will have these names, so that no input or inner value takes them.
    pub(super) fn new<'a>(name: &str, outputs: impl IntoIterator<Item = &'a str>) -> Result<Self, OnnxError> {
        let proto = GraphProto { name: name.to_owned(), ..GraphProto::default() };
        let mut graph = Self { proto, taken: HashSet::new(), next: 0 };
        outputs.into_iter().try_for_each(|output| graph.claim(output))?;
        Ok(graph)
    }

    /// Declares inputs `[N, 1]`. All inputs come before the first operator.
    pub(super) fn inputs<'a>(
        &mut self,
        inputs: impl IntoIterator<Item = (&'a str, Element)>,
    ) -> Result<Vec<Value>, OnnxError> {
        inputs.into_iter().map(|(name, element)| self.input(name, element)).collect()
    }

    /// The result of a standard operator without attributes.
    pub(super) fn apply(&mut self, operator: &str, inputs: &[&Value]) -> Value {
        self.node("", operator, inputs, Vec::new())
    }

    /// The result of a standard operator.
    pub(super) fn apply_with(
        &mut self,
        operator: &str,
        inputs: &[&Value],
        attributes: Vec<AttributeProto>,
    ) -> Value {
        self.node("", operator, inputs, attributes)
    }

    /// Index of a word, int64, `default` for a word that is not listed.
    pub(super) fn word_index(&mut self, words: &Value, vocabulary: &[String], default: i64) -> Value {
        let attributes = vec![
            strings("keys_strings", vocabulary),
            ints("values_int64s", (0..vocabulary.len() as i64).collect()),
            int("default_int64", default),
        ];
        self.node(ML_DOMAIN, "LabelEncoder", &[words], attributes)
    }

    /// A conversion of element type.
    pub(super) fn cast(&mut self, value: &Value, to: Element) -> Value {
        self.apply_with("Cast", &[value], vec![int("to", i64::from(to.code()))])
    }

    /// Values side by side, along the columns.
    pub(super) fn concatenate(&mut self, values: &[Value]) -> Value {
        let inputs: Vec<&Value> = values.iter().collect();
        self.apply_with("Concat", &inputs, vec![int("axis", 1)])
    }

    /// A float value limited to `[low, high]`.
    pub(super) fn clip(&mut self, value: &Value, low: f32, high: f32) -> Value {
        let (low, high) = (self.float(low), self.float(high));
        self.apply("Clip", &[value, &low, &high])
    }

    /// Columns of a matrix.
    pub(super) fn columns(&mut self, value: &Value, range: Range<usize>) -> Value {
        let start = self.integers(&[1], &[range.start as i64]);
        let end = self.integers(&[1], &[range.end as i64]);
        let axis = self.integers(&[1], &[1]);
        self.apply("Slice", &[value, &start, &end, &axis])
    }

    /// Probabilities over the columns of a matrix.
    pub(super) fn softmax(&mut self, value: &Value) -> Value {
        self.apply_with("Softmax", &[value], vec![int("axis", 1)])
    }

    /// A constant float tensor.
    pub(super) fn floats(&mut self, dims: &[usize], values: &[f32]) -> Value {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(dims, data_type::FLOAT, raw)
    }

    /// A constant float that broadcasts against anything.
    pub(super) fn float(&mut self, value: f32) -> Value {
        self.floats(&[], &[value])
    }

    /// A constant int64 tensor.
    pub(super) fn integers(&mut self, dims: &[usize], values: &[i64]) -> Value {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(dims, data_type::INT64, raw)
    }

    /// Makes a float value an output `[N, columns]` under one of the names given to [`Graph::new`].
    pub(super) fn output(&mut self, name: &str, value: &Value, columns: usize) {
        self.proto.node.push(NodeProto {
            input: vec![value.0.clone()],
            output: vec![name.to_owned()],
            name: format!("output {name}"),
            op_type: "Identity".to_owned(),
            ..NodeProto::default()
        });
        self.proto.output.push(tensor_info(name, Element::Float, columns));
    }

    /// The bytes of the model file.
    pub(super) fn finish(self, metadata: &BTreeMap<String, String>) -> Vec<u8> {
        let opset = |domain: &str, version| OperatorSetIdProto { domain: domain.to_owned(), version };
        let entry = |(key, value): (&String, &String)| StringStringEntryProto {
            key: key.clone(),
            value: value.clone(),
        };
        let model = ModelProto {
            ir_version: IR_VERSION,
            producer_name: "fusiondp".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            graph: Some(self.proto),
            opset_import: vec![opset("", OPSET), opset(ML_DOMAIN, ML_OPSET)],
            metadata_props: metadata.iter().map(entry).collect(),
            functions: Vec::new(),
        };
        model.encode_to_vec()
    }

    fn input(&mut self, name: &str, element: Element) -> Result<Value, OnnxError> {
        self.claim(name)?;
        self.proto.input.push(tensor_info(name, element, 1));
        Ok(Value(name.to_owned()))
    }

    fn node(
        &mut self,
        domain: &str,
        operator: &str,
        inputs: &[&Value],
        attribute: Vec<AttributeProto>,
    ) -> Value {
        let output = self.fresh(operator);
        self.proto.node.push(NodeProto {
            input: inputs.iter().map(|value| value.0.clone()).collect(),
            output: vec![output.clone()],
            name: output.clone(),
            op_type: operator.to_owned(),
            attribute,
            domain: domain.to_owned(),
        });
        Value(output)
    }

    fn constant(&mut self, dims: &[usize], data_type: i32, raw_data: Vec<u8>) -> Value {
        let name = self.fresh("constant");
        let dims = dims.iter().map(|&dim| dim as i64).collect();
        let tensor = TensorProto { dims, data_type, name: name.clone(), raw_data, ..TensorProto::default() };
        self.proto.initializer.push(tensor);
        Value(name)
    }

    fn claim(&mut self, name: &str) -> Result<(), OnnxError> {
        if self.taken.insert(name.to_owned()) {
            return Ok(());
        }
        Err(OnnxError::DuplicateName { name: name.to_owned() })
    }

    fn fresh(&mut self, stem: &str) -> String {
        loop {
            self.next += 1;
            let name = format!("{stem}.{}", self.next);
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }
}

impl Element {
    fn code(self) -> i32 {
        match self {
            Element::Float => data_type::FLOAT,
            Element::Int64 => data_type::INT64,
            Element::String => data_type::STRING,
        }
    }
}

/// An integer attribute.
pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        i: value,
        r#type: attribute_type::INT,
        ..AttributeProto::default()
    }
}

/// A float attribute.
pub(super) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        f: value,
        r#type: attribute_type::FLOAT,
        ..AttributeProto::default()
    }
}

fn ints(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto { name: name.to_owned(), ints, r#type: attribute_type::INTS, ..AttributeProto::default() }
}

fn strings(name: &str, values: &[String]) -> AttributeProto {
    let strings = values.iter().map(|value| value.as_bytes().to_vec()).collect();
    AttributeProto {
        name: name.to_owned(),
        strings,
        r#type: attribute_type::STRINGS,
        ..AttributeProto::default()
    }
}

fn tensor_info(name: &str, element: Element, columns: usize) -> ValueInfoProto {
    let dim = vec![
        DimensionProto { value: Some(DimensionValue::Named("N".to_owned())) },
        DimensionProto { value: Some(DimensionValue::Fixed(columns as i64)) },
    ];
    let tensor = TensorTypeProto { elem_type: element.code(), shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
}
