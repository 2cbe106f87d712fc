#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashSet};

use prost::Message;

use super::{
    proto::{
        AttributeProto, EXTERNAL, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto,
        ValueInfoProto,
    },
    *,
};
use crate::{
    encode::Encoder,
    imputer::{ImputerFit, fit},
    model::{HeadColumn, HeadGradient, Model, ModelSpec},
    schema::Schema,
    table::{PublicFeatures, SensitiveFeatures},
};

const SCHEMA: &str = r#"
columns = [
    { name = "sex", role = "sensitive", kind = { type = "binary" }, transform = { type = "one-hot" } },
    { name = "HR", role = "public", kind = { type = "continuous", range = [0, 400] }, out_of_range = "clip", transform = { type = "scale", center = 84.2, scale = 17.1, limit = 5 }, missing_indicator = true },
    { name = "ward", role = "public", kind = { type = "categorical", vocabulary = ["icu", "general"] } },
    { name = "y", role = "label", kind = { type = "binary" } },
    { name = "stay", role = "sensitive", kind = { type = "continuous", range = [0, 336] }, transform = { type = "bins", edges = [6, 12.1] } },
    { name = "job", role = "sensitive", kind = { type = "categorical", vocabulary = ["a", "b", "c"] } },
    { name = "lag", role = "public", kind = { type = "continuous", range = [-99, 99] }, transform = { type = "signed-log" } },
]
"#;

fn schema() -> Schema {
    toml::from_str(SCHEMA).unwrap()
}

fn specs() -> [ModelSpec; 4] {
    [
        ModelSpec::Linear {},
        ModelSpec::mlp([5, 3], true, 0.1),
        ModelSpec::Split {
            widths: vec![4],
            layer_norm: true,
            dropout: 0.1,
            members: 1,
            head_gradient: HeadGradient::PrivateOnly,
            head: BTreeMap::new(),
        },
        ModelSpec::Split {
            widths: vec![4],
            layer_norm: true,
            dropout: 0.1,
            members: 3,
            head_gradient: HeadGradient::PrivateOnly,
            head: BTreeMap::from([
                ("stay".to_owned(), HeadColumn { weight: 1.0, by: Some("HR".to_owned()) }),
                ("job".to_owned(), HeadColumn { weight: 1.0, by: Some("ward".to_owned()) }),
            ]),
        },
    ]
}

fn export(schema: &Schema, spec: &ModelSpec) -> Vec<u8> {
    let model = Model::new(spec, Encoder::new(schema, spec).unwrap().input_shape()).unwrap();
    let metadata = BTreeMap::from([("fusiondp.study".to_owned(), "sepsis".to_owned())]);
    export_model(schema, &model, &model.initialise(1), &metadata).unwrap()
}

fn imputer() -> Vec<u8> {
    let rows = 40;
    let column = |cell: fn(usize) -> f32| (0..rows).map(cell).collect::<Vec<f32>>();
    let public = vec![column(|i| i as f32), column(|i| (i % 2) as f32), column(|i| i as f32 - 20.0)];
    let sensitive = vec![column(|i| (i % 2) as f32), column(|i| i as f32), column(|i| (i % 3) as f32)];
    let public = PublicFeatures::new(&schema(), public).unwrap();
    let sensitive = SensitiveFeatures::new(&schema(), sensitive).unwrap();
    let options = ImputerFit { epochs: 1, widths: vec![4], ..ImputerFit::default() };
    let network = fit(&schema(), &public, &sensitive, &options, &mut |_| ()).unwrap();
    export_imputer(&network, &BTreeMap::new()).unwrap()
}

fn names(tensors: &[TensorSummary]) -> Vec<&str> {
    tensors.iter().map(|tensor| tensor.name.as_str()).collect()
}

/// Every value is made exactly once and before it is used, and every outer name is declared.
fn assert_well_formed(bytes: &[u8]) {
    let graph = ModelProto::decode(bytes).unwrap().graph.unwrap();
    let mut known = HashSet::new();
    let constants = graph.initializer.iter().map(|tensor| tensor.name.clone());
    for name in graph.input.iter().map(|input| input.name.clone()).chain(constants) {
        assert!(known.insert(name.clone()), "{name} is declared twice");
    }
    for node in &graph.node {
        assert!(node.input.iter().all(|input| known.contains(input)), "{} reads an unknown value", node.name);
        assert!(node.output.iter().all(|output| known.insert(output.clone())), "{} overwrites", node.name);
    }
    assert!(graph.output.iter().all(|output| known.contains(&output.name)));
    for tensor in &graph.initializer {
        let width = if tensor.data_type == proto::data_type::FLOAT { 4 } else { 8 };
        assert_eq!(
            tensor.raw_data.len() as i64,
            tensor.dims.iter().product::<i64>() * width,
            "{}",
            tensor.name
        );
    }
}

#[test]
fn an_exported_model_reads_raw_columns_in_schema_order() {
    for spec in specs() {
        let bytes = export(&schema(), &spec);
        assert_well_formed(&bytes);
        let summary = inspect(&bytes).unwrap();
        summary.require_self_contained().unwrap();
        assert_eq!(names(&summary.inputs), ["sex", "HR", "ward", "stay", "job", "lag"]);
        let element = |name: &str| summary.inputs.iter().find(|input| input.name == name).unwrap().element;
        assert_eq!((element("ward"), element("HR")), (ElementType::String, ElementType::Float));
        assert!(summary.inputs.iter().chain(&summary.outputs).all(|t| t.shape == Some(vec![None, Some(1)])));
        assert_eq!(names(&summary.outputs), ["logit", "probability"]);
        assert_eq!(summary.opsets, BTreeMap::from([(String::new(), 17), ("ai.onnx.ml".to_owned(), 3)]));
        assert_eq!(summary.metadata["fusiondp.study"], "sepsis");
        assert_eq!((summary.producer.as_str(), summary.ir_version), ("fusiondp", 8));
    }
}

#[test]
fn parameters_are_stored_bit_for_bit() {
    for spec in &specs()[2..] {
        parameters_are_stored(spec);
    }
}

fn parameters_are_stored(spec: &ModelSpec) {
    let model = Model::new(spec, Encoder::new(&schema(), spec).unwrap().input_shape()).unwrap();
    let params: Vec<f32> = (0..model.parameters()).map(|i| 1.0 / (i as f32 + 3.0)).collect();
    let bytes = export_model(&schema(), &model, &params, &BTreeMap::new()).unwrap();
    let graph = ModelProto::decode(bytes.as_slice()).unwrap().graph.unwrap();
    for tensor in model.layout() {
        let raw: Vec<u8> = params[tensor.range()].iter().flat_map(|value| value.to_le_bytes()).collect();
        // Groups of a head lie one after the other.
        let dims: Vec<i64> = match tensor.name().starts_with("head.") {
            true => vec![tensor.range().len() as i64],
            false => tensor.shape().iter().map(|&dim| dim as i64).collect(),
        };
        let stored = graph.initializer.iter().any(|stored| stored.dims == dims && stored.raw_data == raw);
        assert!(stored, "{} is not in the file", tensor.name());
    }
}

#[test]
fn export_is_a_function_of_its_arguments() {
    for spec in specs() {
        assert_eq!(export(&schema(), &spec), export(&schema(), &spec));
    }
}

#[test]
fn an_exported_imputer_maps_public_columns_to_sensitive_ones() {
    let bytes = imputer();
    assert_well_formed(&bytes);
    let summary = inspect(&bytes).unwrap();
    summary.require_self_contained().unwrap();
    assert_eq!(names(&summary.inputs), ["HR", "ward", "lag"]);
    assert_eq!(names(&summary.outputs), ["sex", "stay", "job"]);
    let widths: Vec<_> = summary.outputs.iter().map(|output| output.shape.as_ref().unwrap()[1]).collect();
    assert_eq!(widths, [Some(1), Some(1), Some(3)]);
}

#[test]
fn what_does_not_fit_together_is_not_exported() {
    let schema = schema();
    let spec = &specs()[1];
    let shape = Encoder::new(&schema, spec).unwrap().input_shape();
    let model = Model::new(spec, shape.clone()).unwrap();
    let export = |model: &Model, params: &[f32]| export_model(&schema, model, params, &BTreeMap::new());
    let mut params: Vec<f32> = model.initialise(1);
    assert!(matches!(export(&model, &params[1..]), Err(OnnxError::Shape { what: "parameters", .. })));
    params[7] = f32::NAN;
    assert_eq!(export(&model, &params), Err(OnnxError::NotFinite { index: 7 }));
    let mut other = shape;
    other.dense += 1;
    let other = Model::new(spec, other).unwrap();
    assert!(matches!(export(&other, &other.initialise::<f32>(1)), Err(OnnxError::Shape { .. })));
}

#[test]
fn a_column_named_like_an_output_is_refused() {
    let schema: Schema = toml::from_str(&SCHEMA.replacen("\"HR\"", "\"logit\"", 1)).unwrap();
    let spec = ModelSpec::Linear {};
    let model = Model::new(&spec, Encoder::new(&schema, &spec).unwrap().input_shape()).unwrap();
    let error = export_model(&schema, &model, &model.initialise(1), &BTreeMap::new()).unwrap_err();
    assert_eq!(error, OnnxError::DuplicateName { name: "logit".into() });
}

#[test]
fn a_column_named_like_an_inner_value_does_no_harm() {
    let schema: Schema = toml::from_str(&SCHEMA.replacen("\"HR\"", "\"constant.1\"", 1)).unwrap();
    let bytes = export(&schema, &ModelSpec::Linear {});
    assert_well_formed(&bytes);
    assert!(names(&inspect(&bytes).unwrap().inputs).contains(&"constant.1"));
}

/// A file around one node, as another tool might write it.
fn foreign(change: impl FnOnce(&mut ModelProto, &mut GraphProto)) -> ModelSummary {
    let mut model = ModelProto::default();
    let mut graph = GraphProto::default();
    graph.node.push(NodeProto { op_type: "Add".into(), domain: "ai.onnx".into(), ..NodeProto::default() });
    change(&mut model, &mut graph);
    model.graph = Some(graph);
    inspect(&model.encode_to_vec()).unwrap()
}

#[test]
fn the_standard_domain_has_two_spellings() {
    let summary = foreign(|_, _| ());
    summary.require_self_contained().unwrap();
    assert_eq!(summary.operators.first().unwrap().domain, "");
}

#[test]
fn a_custom_operator_is_found_in_a_nested_branch() {
    let custom = NodeProto { op_type: "Shell".into(), domain: "com.example".into(), ..NodeProto::default() };
    let inner = GraphProto { node: vec![custom], ..GraphProto::default() };
    let branch =
        AttributeProto { name: "then_branch".into(), graphs: vec![inner], ..AttributeProto::default() };
    let body = NodeProto { op_type: "If".into(), attribute: vec![branch], ..NodeProto::default() };
    let outer = GraphProto { node: vec![body], ..GraphProto::default() };
    let attribute = AttributeProto { name: "body".into(), g: Some(outer), ..AttributeProto::default() };
    let summary = foreign(|_, graph| graph.node[0].attribute.push(attribute));
    assert_eq!(summary.operators.len(), 3);
    let error = summary.require_self_contained().unwrap_err();
    assert_eq!(error, OnnxError::CustomOperator { domain: "com.example".into(), operator: "Shell".into() });
}

#[test]
fn local_functions_are_refused() {
    let summary = foreign(|model, _| model.functions.push(FunctionProto { name: "Add".into() }));
    assert_eq!(summary.require_self_contained(), Err(OnnxError::LocalFunction { name: "Add".into() }));
}

#[test]
fn data_in_another_file_is_refused_wherever_it_hides() {
    let outside = TensorProto { name: "w".into(), data_location: EXTERNAL, ..TensorProto::default() };
    let attribute = AttributeProto { t: Some(outside.clone()), ..AttributeProto::default() };
    let in_constant = foreign(|_, graph| graph.node[0].attribute.push(attribute));
    let in_graph = foreign(|_, graph| graph.initializer.push(outside));
    for summary in [in_constant, in_graph] {
        assert_eq!(summary.require_self_contained(), Err(OnnxError::ExternalData { tensor: "w".into() }));
    }
}

#[test]
fn old_files_list_constants_among_inputs_and_maps_are_no_tensors() {
    let summary = foreign(|_, graph| {
        graph.initializer.push(TensorProto { name: "w".into(), ..TensorProto::default() });
        graph.input.extend(["x", "w"].map(|name| ValueInfoProto { name: name.into(), r#type: None }));
        let map = Some(TypeProto { tensor_type: None });
        graph.output.push(ValueInfoProto { name: "zipmap".into(), r#type: map });
    });
    assert_eq!(names(&summary.inputs), ["x"]);
    assert_eq!(summary.outputs[0].element, ElementType::NotATensor);
    assert_eq!(summary.outputs[0].shape, None);
}

#[test]
fn other_bytes_are_no_model() {
    assert!(matches!(inspect(b"PK\x03\x04 not a model"), Err(OnnxError::Decode { .. })));
    assert_eq!(inspect(b""), Err(OnnxError::NoGraph));
    let bytes = export(&schema(), &ModelSpec::Linear {});
    assert!(inspect(&bytes[..bytes.len() / 2]).is_err());
}

proptest::proptest! {
    /// A damaged file is an error or a summary, never a panic.
    #[test]
    fn damaged_files_do_no_harm(place: proptest::sample::Index, value: u8, cut: proptest::sample::Index) {
        let mut bytes = export(&schema(), &ModelSpec::Linear {});
        let length = bytes.len();
        bytes[place.index(length)] = value;
        bytes.truncate(cut.index(length) + 1);
        if let Ok(summary) = inspect(&bytes) {
            proptest::prop_assert!(summary.operators.len() <= length);
        }
    }
}
