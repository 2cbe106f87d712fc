//! Tables and encoding through the public interface.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use fusiondp_learn::{
    encode::{EncodeError, Encoder},
    model::{HeadColumn, HeadFeature, HeadGradient, InputShape, ModelSpec},
    schema::Schema,
    table::{ImputedFeatures, Labels, PublicFeatures, SensitiveFeatures, TableError},
};
use ndarray::array;
use proptest::prelude::*;

const NAN: f32 = f32::NAN;

/// Public: a scaled number with indicator, a word, a log. Sensitive: bins and one-hot 0/1.
const SCHEMA: &str = r#"
columns = [
    { name = "stay", role = "sensitive", kind = { type = "continuous", range = [0, 336] }, transform = { type = "bins", edges = [6, 12.1] } },
    { name = "HR", role = "public", kind = { type = "continuous", range = [0, 400] }, transform = { type = "scale", center = 80, scale = 20, limit = 5 }, missing_indicator = true },
    { name = "ward", role = "public", kind = { type = "categorical", vocabulary = ["icu", "general"] } },
    { name = "y", role = "label", kind = { type = "binary" } },
    { name = "delay", role = "public", kind = { type = "continuous", range = [-999, 999] }, transform = { type = "signed-log", center = 1, scale = 2 } },
    { name = "sex", role = "sensitive", kind = { type = "binary" }, transform = { type = "one-hot" } },
]
"#;

fn schema() -> Schema {
    toml::from_str(SCHEMA).unwrap()
}

fn split() -> ModelSpec {
    ModelSpec::Split {
        widths: vec![4],
        layer_norm: true,
        dropout: 0.0,
        members: 1,
        head_gradient: HeadGradient::PrivateOnly,
        head: BTreeMap::new(),
    }
}

fn public() -> PublicFeatures {
    let columns =
        vec![vec![100.0, NAN, 400.0], vec![0.0, 1.0, NAN], vec![0.0, NAN, -(1f32.exp().powi(3) - 1.0)]];
    PublicFeatures::new(&schema(), columns).unwrap()
}

fn sensitive() -> SensitiveFeatures {
    SensitiveFeatures::new(&schema(), vec![vec![6.0, 5.999, NAN], vec![0.0, 1.0, NAN]]).unwrap()
}

#[test]
fn split_input_is_the_public_block_and_one_bin_per_sensitive_feature() {
    let encoder = Encoder::new(&schema(), &split()).unwrap();
    assert_eq!(
        encoder.input_shape(),
        InputShape {
            dense: 6,
            bins: vec![
                HeadFeature { ordered: true, ..HeadFeature::new(4) },
                HeadFeature { ordered: true, ..HeadFeature::new(3) }
            ]
        }
    );
    let view = encoder.real(&public(), &sensitive()).unwrap();
    let wanted = array![
        [1.0, -1.0, 1.0, 0.0, 0.0, -0.5],
        [0.0, 1.0, 0.0, 1.0, 0.0, 0.0],
        [5.0, -1.0, 0.0, 0.0, 1.0, -2.0]
    ];
    assert!((&view.dense - &wanted).iter().all(|difference| difference.abs() <= 1e-6), "{}", view.dense);
    assert_eq!(view.bins, array![[1, 0], [0, 1], [3, 2]]);
    assert_eq!(encoder.public_only(&public()).unwrap(), view.dense);
}

fn split_with(declared: &[(&str, f64, Option<&str>)]) -> ModelSpec {
    let ModelSpec::Split { widths, layer_norm, dropout, members, head_gradient, .. } = split() else {
        unreachable!()
    };
    let head = declared
        .iter()
        .map(|&(name, weight, by)| (name.to_owned(), HeadColumn { weight, by: by.map(str::to_owned) }));
    ModelSpec::Split { widths, layer_norm, dropout, members, head_gradient, head: head.collect() }
}

#[test]
fn groups_of_a_public_column_keep_bins_apart() {
    // By words: icu, general, missing. By a number without slots: present, missing.
    let spec = split_with(&[("stay", 0.5, Some("ward")), ("sex", 1.0, Some("HR"))]);
    let encoder = Encoder::new(&schema(), &spec).unwrap();
    let feature =
        |bins, groups, weight| HeadFeature { groups, weight, ordered: true, ..HeadFeature::new(bins) };
    assert_eq!(encoder.input_shape().bins, [feature(4, 3, 0.5), feature(3, 2, 1.0)]);
    let view = encoder.real(&public(), &sensitive()).unwrap();
    assert_eq!(view.bins, array![[1, 0], [4, 3 + 1], [2 * 4 + 3, 2]]);
}

#[test]
fn a_column_of_weight_zero_is_left_out_of_the_head() {
    let encoder = Encoder::new(&schema(), &split_with(&[("stay", 0.0, None)])).unwrap();
    assert_eq!(encoder.input_shape().bins, [HeadFeature { ordered: true, ..HeadFeature::new(3) }]);
    assert_eq!(encoder.real(&public(), &sensitive()).unwrap().bins, array![[0], [1], [2]]);
}

#[test]
fn a_head_declared_for_what_is_not_there_is_refused_by_name() {
    let said = |declared: &[_]| Encoder::new(&schema(), &split_with(declared)).unwrap_err().to_string();
    let unknown = said(&[("HR", 1.0, None)]);
    assert!(unknown.contains("model.head names \"HR\", which is no sensitive column"), "{unknown}");
    let group = said(&[("stay", 1.0, Some("sex"))]);
    assert!(group.contains("model.head.\"stay\".by is \"sex\", which is no public column"), "{group}");
    let empty = said(&[("stay", 0.0, None), ("sex", 0.0, None)]);
    assert!(empty.contains("weight 0"), "{empty}");
    for weight in [-1.0, f64::NAN, f64::INFINITY, 1e-60, 1e60] {
        let weighty = said(&[("stay", weight, None)]);
        assert!(weighty.contains("model.head.\"stay\".weight is"), "{weighty}");
    }
}

#[test]
fn dense_input_is_the_public_block_then_the_sensitive_block() {
    let encoder = Encoder::new(&schema(), &ModelSpec::Linear {}).unwrap();
    assert_eq!(encoder.input_shape(), InputShape { dense: 13, bins: vec![] });
    assert_eq!(encoder.public_width(), 6);
    let view = encoder.real(&public(), &sensitive()).unwrap();
    assert_eq!(view.bins.dim(), (3, 0));
    let block = view.dense.columns().into_iter().skip(6).map(|column| column.to_vec()).collect::<Vec<_>>();
    let wanted: [[f32; 3]; 7] = [
        [0.0, 1.0, 0.0], // below 6
        [1.0, 0.0, 0.0], // an edge belongs to the bin above it
        [0.0, 0.0, 0.0], // from 12.1
        [0.0, 0.0, 1.0], // missing
        [1.0, 0.0, 0.0],
        [0.0, 1.0, 0.0],
        [0.0, 0.0, 1.0],
    ];
    assert_eq!(block, wanted);
}

#[test]
fn imputed_values_encode_as_true_ones_do() {
    for spec in [ModelSpec::Linear {}, split()] {
        let encoder = Encoder::new(&schema(), &spec).unwrap();
        let cells = vec![vec![6.0, 5.999, 336.0], vec![0.0, 1.0, 1.0]];
        let real =
            encoder.real(&public(), &SensitiveFeatures::new(&schema(), cells.clone()).unwrap()).unwrap();
        let hybrid = encoder.hybrid(&public(), &ImputedFeatures::new(&schema(), cells).unwrap()).unwrap();
        assert_eq!((real.dense, real.bins), (hybrid.dense, hybrid.bins));
    }
}

#[test]
fn a_value_and_an_edge_of_one_decimal_text_meet_in_f32() {
    let schema = schema();
    let cell = schema.column("stay").unwrap().parse("12.1").unwrap();
    let table = SensitiveFeatures::new(&schema, vec![vec![cell; 3], vec![0.0; 3]]).unwrap();
    let view = Encoder::new(&schema, &split()).unwrap().real(&public(), &table).unwrap();
    assert_eq!(view.bins.column(0).to_vec(), [2, 2, 2]);
}

#[test]
fn a_split_model_refuses_a_sensitive_number_without_bins() {
    let text = SCHEMA.replacen("{ type = \"bins\", edges = [6, 12.1] }", "{ type = \"identity\" }", 1);
    let error = Encoder::new(&toml::from_str(&text).unwrap(), &split()).unwrap_err();
    assert!(matches!(&error, EncodeError::NotDiscrete { column, .. } if column == "stay"));
    assert!(error.to_string().contains("edges = [...]"), "{error}");
    assert!(Encoder::new(&toml::from_str(&text).unwrap(), &ModelSpec::Linear {}).is_ok());
}

#[test]
fn tables_of_other_records_or_schemas_are_refused() {
    let encoder = Encoder::new(&schema(), &split()).unwrap();
    let two = sensitive().select(&[0, 1]);
    assert!(matches!(encoder.real(&public(), &two), Err(EncodeError::RowCount { public: 3, found: 2, .. })));
    let other: Schema = toml::from_str(&SCHEMA.replacen("\"sensitive\"", "\"public\"", 1)).unwrap();
    let encoder = Encoder::new(&other, &split()).unwrap();
    assert!(matches!(
        encoder.public_only(&public()),
        Err(EncodeError::ColumnCount { found: 3, wanted: 4, .. })
    ));
}

#[test]
fn tables_check_cells_and_never_quote_them() {
    let schema = schema();
    let error = SensitiveFeatures::new(&schema, vec![vec![7.0, 777.0], vec![0.0, 1.0]]).err().unwrap();
    assert_eq!(error, TableError::Cell { column: "stay".into(), row: 1 });
    assert!(!error.to_string().contains("777"));
    let cases = [
        (vec![vec![7.0]], "1 sensitive columns given"),
        (vec![vec![7.0], vec![0.0, 1.0]], "\"sex\" has 2 rows"),
        (vec![vec![7.0], vec![0.5]], "\"sex\", row 0"),
        (vec![vec![f32::INFINITY], vec![0.0]], "\"stay\", row 0"),
    ];
    for (columns, part) in cases {
        let error = SensitiveFeatures::new(&schema, columns).err().unwrap().to_string();
        assert!(error.contains(part), "{error}");
    }
    let half_word = vec![vec![80.0], vec![0.5], vec![0.0]];
    assert!(PublicFeatures::new(&schema, half_word).is_err());
    let word_beyond = vec![vec![80.0], vec![2.0], vec![0.0]];
    assert!(PublicFeatures::new(&schema, word_beyond).is_err());
    assert_eq!(Labels::new(vec![0.0, 1.0, 0.5]).err().unwrap(), TableError::Label { row: 2 });
}

#[test]
fn imputed_cells_are_never_missing_and_probabilities_need_a_numeric_transform() {
    let schema = schema();
    let imputed = |stay, sex| ImputedFeatures::new(&schema, vec![vec![stay], vec![sex]]);
    assert!(imputed(6.0, 1.0).is_ok());
    assert!(imputed(NAN, 1.0).is_err());
    assert!(imputed(6.0, 0.3).is_err());
    let text =
        SCHEMA.replacen("transform = { type = \"one-hot\" }", "transform = { type = \"identity\" }", 1);
    let numeric: Schema = toml::from_str(&text).unwrap();
    let table = ImputedFeatures::new(&numeric, vec![vec![6.0], vec![0.3]]).unwrap();
    assert_eq!(table.column(1), [0.3]);
    assert!(ImputedFeatures::new(&numeric, vec![vec![6.0], vec![1.3]]).is_err());
}

#[test]
fn selection_keeps_order_and_repeats() {
    let table = sensitive().select(&[1, 0, 1]);
    assert_eq!((table.rows(), table.columns()), (3, 2));
    assert_eq!(table.column(0), [5.999, 6.0, 5.999]);
    let labels = Labels::new(vec![0.0, 1.0]).unwrap();
    assert_eq!(labels.select(&[1, 1, 0]).values(), [1.0, 1.0, 0.0]);
    assert_eq!(labels.select(&[1, 1, 0]).positives(), 2);
}

#[test]
fn a_schema_without_sensitive_columns_has_a_view_too() {
    let schema: Schema = toml::from_str(&SCHEMA.replace("\"sensitive\"", "\"public\"")).unwrap();
    let columns = vec![vec![6.0], vec![100.0], vec![0.0], vec![0.0], vec![1.0]];
    let public = PublicFeatures::new(&schema, columns).unwrap();
    let none = SensitiveFeatures::new(&schema, vec![]).unwrap();
    let view = Encoder::new(&schema, &ModelSpec::Linear {}).unwrap().real(&public, &none).unwrap();
    assert_eq!(view.dense.dim(), (1, 13));
}

proptest! {
    /// Whatever a file holds, a cell that parses is one that tables take.
    #[test]
    fn parsed_cells_make_tables(text in "[ -]?[0-9]{0,3}(\\.[0-9]{0,9})?(e[0-9]{1,2})?|icu|NaN|\\PC{0,4}") {
        let schema = schema();
        let column = |name: &str| schema.column(name).unwrap();
        let cell = |name: &str, other: f32| column(name).parse(&text).unwrap_or(other);
        let public = vec![vec![cell("HR", 1.0)], vec![cell("ward", 1.0)], vec![cell("delay", 1.0)]];
        prop_assert!(PublicFeatures::new(&schema, public).is_ok());
        let sensitive = vec![vec![cell("stay", 1.0)], vec![cell("sex", 1.0)]];
        prop_assert!(SensitiveFeatures::new(&schema, sensitive).is_ok());
    }

    /// A one-hot block has exactly one 1, and it stands in the slot that a split model reads.
    #[test]
    fn one_hot_and_bins_agree(stay in prop_oneof![Just(NAN), 0.0f32..=336.0], sex in prop_oneof![Just(NAN), Just(0.0f32), Just(1.0)]) {
        let schema = schema();
        let public = public().select(&[0]);
        let table = SensitiveFeatures::new(&schema, vec![vec![stay], vec![sex]]).unwrap();
        let bins = Encoder::new(&schema, &split()).unwrap().real(&public, &table).unwrap().bins;
        let dense = Encoder::new(&schema, &ModelSpec::Linear {}).unwrap().real(&public, &table).unwrap().dense;
        let block: Vec<f32> = dense.row(0).iter().skip(6).copied().collect();
        let hot: Vec<usize> = (0..7).filter(|&i| block[i] == 1.0).collect();
        prop_assert_eq!(hot, vec![usize::from(bins[[0, 0]]), 4 + usize::from(bins[[0, 1]])]);
        prop_assert_eq!(block.iter().sum::<f32>(), 2.0);
    }
}
