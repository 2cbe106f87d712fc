#![allow(clippy::unwrap_used)]

use super::*;

const SAMPLE: &str = r#"
[[columns]]
name = "patient"
role = "unit-id"

[[columns]]
name = "HR"
role = "public"
kind = { type = "continuous", range = [0, 400] }
out_of_range = "clip"
transform = { type = "scale", center = 84.2, scale = 17, limit = 5 }
missing_indicator = true

[[columns]]
name = "ward"
role = "public"
kind = { type = "categorical", vocabulary = ["icu", "NA", "general"] }

[[columns]]
name = "stay"
role = "sensitive"
kind = { type = "continuous", range = [0, 336] }
transform = { type = "bins", edges = [6, 12.5] }

[[columns]]
name = "sex"
role = "sensitive"
kind = { type = "binary" }
transform = { type = "one-hot" }

[[columns]]
name = "outcome"
role = "label"
kind = { type = "categorical", vocabulary = ["no", "yes"] }
positive = "yes"
"#;

fn sample() -> Schema {
    toml::from_str(SAMPLE).unwrap()
}

fn refused(change: impl FnOnce(&mut Schema)) -> String {
    let mut schema = sample();
    change(&mut schema);
    schema.validate().unwrap_err().to_string()
}

fn column_mut<'s>(schema: &'s mut Schema, name: &str) -> &'s mut Column {
    schema.columns.iter_mut().find(|column| column.name == name).unwrap()
}

#[test]
fn the_sample_is_valid_and_survives_a_round_trip() {
    let schema = sample();
    schema.validate().unwrap();
    let again: Schema = toml::from_str(&toml::to_string(&schema).unwrap()).unwrap();
    assert_eq!(again, schema);
    assert_eq!(schema.public().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["HR", "ward"]);
    assert_eq!(schema.sensitive().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["stay", "sex"]);
    assert_eq!(schema.label().unwrap().name, "outcome");
    assert_eq!(schema.unit_id().unwrap().name, "patient");
    assert_eq!(column_mut(&mut sample(), "ward").effective_transform(), Transform::OneHot {});
}

#[test]
fn an_unknown_field_is_refused_at_every_level() {
    for (from, to) in [
        ("role = \"unit-id\"", "role = \"unit-id\"\nkindd = 1"),
        ("range = [0, 400]", "range = [0, 400], unit = \"bpm\""),
        ("limit = 5", "limit = 5, center_ = 1"),
        ("{ type = \"one-hot\" }", "{ type = \"one-hot\", depth = 2 }"),
    ] {
        let text = SAMPLE.replacen(from, to, 1);
        assert_ne!(text, SAMPLE);
        assert!(toml::from_str::<Schema>(&text).is_err(), "accepted: {to}");
    }
}

#[test]
fn roles_are_counted() {
    assert!(refused(|s| s.columns.retain(|c| c.role != Role::Label)).contains("\"label\", exactly 1"));
    assert!(refused(|s| s.columns.retain(|c| c.role != Role::Public)).contains("\"public\", at least 1"));
    let twice = refused(|s| {
        let mut second = s.columns[0].clone();
        second.name = "other".into();
        s.columns.push(second);
    });
    assert!(twice.contains("2 columns have role = \"unit-id\""), "{twice}");
    assert!(refused(|s| s.columns[1].name = "ward".into()).contains("\"ward\" is declared twice"));
}

#[test]
fn a_defect_names_column_field_value_and_remedy() {
    let message = refused(|s| {
        column_mut(s, "HR").transform = Some(Transform::Scale { center: 0.0, scale: -2.0, limit: None });
    });
    for part in ["\"HR\"", "transform.scale", "-2", "above 0", "typical spread"] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
}

#[test]
fn ranges_edges_and_vocabularies_are_checked() {
    let range = |low, high| {
        refused(|s| column_mut(s, "HR").kind = Some(ColumnKind::Continuous { range: [low, high] }))
    };
    for (low, high) in
        [(3.0, 3.0), (4.0, 3.0), (f64::NAN, 1.0), (0.0, f64::INFINITY), (0.0, 1e300), (1.0, 1.0 + 1e-12)]
    {
        assert!(range(low, high).contains("kind.range"), "accepted [{low}, {high}]");
    }
    let edges =
        |edges: Vec<f64>| refused(|s| column_mut(s, "stay").transform = Some(Transform::Bins { edges }));
    assert!(edges(vec![]).contains("0 edges"));
    assert!(edges(vec![6.0, 6.0]).contains("strictly increasing"));
    assert!(edges(vec![1.0, 1.0 + 1e-12]).contains("strictly increasing in f32"));
    assert!(edges(vec![6.0, 400.0]).contains("= 400"));
    assert!(edges(vec![f64::NAN]).contains("NaN"));
    let words = |words: &[&str]| {
        let vocabulary = words.iter().map(|w| (*w).to_owned()).collect();
        refused(|s| column_mut(s, "ward").kind = Some(ColumnKind::Categorical { vocabulary }))
    };
    assert!(words(&[]).contains("0 words"));
    assert!(words(&["a", "b", "a"]).contains("\"a\""));
    assert!(words(&["a", ""]).contains("empty"));
}

#[test]
fn a_transform_that_does_not_fit_its_kind_is_refused() {
    assert!(
        refused(|s| column_mut(s, "HR").transform = Some(Transform::OneHot {}))
            .contains("\"bins\" with edges")
    );
    assert!(
        refused(|s| column_mut(s, "ward").transform = Some(Transform::Identity {})).contains("\"one-hot\"")
    );
    let bins = Transform::Bins { edges: vec![0.5] };
    assert!(refused(|s| column_mut(s, "sex").transform = Some(bins)).contains("use \"one-hot\""));
    assert!(refused(|s| column_mut(s, "stay").missing_indicator = true).contains("own slot for missing"));
}

#[test]
fn labels_and_unit_ids_take_no_feature_fields() {
    assert!(refused(|s| column_mut(s, "outcome").positive = Some("maybe".into())).contains("\"maybe\""));
    assert!(refused(|s| column_mut(s, "outcome").positive = None).contains("absent"));
    assert!(refused(|s| column_mut(s, "outcome").missing = Some(MissingPolicy::Allow)).contains("missing"));
    assert!(
        refused(|s| column_mut(s, "outcome").kind = Some(ColumnKind::Binary {})).contains("remove positive")
    );
    let continuous = ColumnKind::Continuous { range: [0.0, 1.0] };
    assert!(refused(|s| column_mut(s, "outcome").kind = Some(continuous)).contains("classifier"));
    assert!(refused(|s| column_mut(s, "patient").kind = Some(ColumnKind::Binary {})).contains("opaque text"));
    assert!(refused(|s| column_mut(s, "HR").positive = Some("x".into())).contains("positive"));
    assert!(refused(|s| column_mut(s, "HR").kind = None).contains("needs a kind"));
}

#[test]
fn cells_parse_by_kind() {
    let schema = sample();
    let parse = |column: &str, text: &str| schema.column(column).unwrap().parse(text);
    assert_eq!(parse("HR", " 84.5 "), Ok(84.5));
    assert_eq!(parse("HR", "1e6"), Ok(400.0));
    assert_eq!(parse("HR", "-3"), Ok(0.0));
    assert!(parse("HR", "").unwrap().is_nan());
    assert!(parse("HR", "nan").unwrap().is_nan());
    assert_eq!(parse("HR", "inf"), Err(CellProblem::NotANumber));
    assert_eq!(parse("HR", "84,5"), Err(CellProblem::NotANumber));
    assert_eq!(parse("stay", "337"), Err(CellProblem::OutOfRange));
    assert_eq!(parse("stay", "336"), Ok(336.0));
    assert_eq!(parse("ward", "general"), Ok(2.0));
    assert_eq!(parse("ward", "NA"), Ok(1.0), "a word of the vocabulary is not a missing cell");
    assert!(parse("ward", "").unwrap().is_nan());
    assert_eq!(parse("ward", "garden"), Err(CellProblem::UnknownWord));
    for (text, value) in [("0", 0.0), ("1", 1.0), ("0.0", 0.0), ("1.0", 1.0)] {
        assert_eq!(parse("sex", text), Ok(value));
    }
    assert_eq!(parse("sex", "2"), Err(CellProblem::NotBinary));
    assert!(parse("sex", "").unwrap().is_nan());
    assert_eq!(parse("outcome", "yes"), Ok(1.0));
    assert_eq!(parse("outcome", "no"), Ok(0.0));
    assert_eq!(parse("outcome", ""), Err(CellProblem::Missing));
    assert_eq!(parse("patient", "7"), Err(CellProblem::UnitId));
}

#[test]
fn a_sensitive_cell_is_read_whatever_it_holds() {
    let schema = sample();
    let total = |column: &str, text: &str| schema.column(column).unwrap().parse_total(text);
    assert_eq!(total("stay", " 12.5 "), (12.5, false));
    assert_eq!((total("stay", "337"), total("stay", "-1")), ((336.0, true), (0.0, true)));
    assert_eq!(total("sex", "1"), (1.0, false));
    for (column, text, mended) in
        [("stay", "", false), ("stay", "long", true), ("stay", "inf", true), ("sex", "2", true)]
    {
        let (cell, found) = total(column, text);
        assert!(cell.is_nan() && found == mended, "{column} {text:?}: {cell} {found}");
    }
    let mut categorical = sample();
    let ward = column_mut(&mut categorical, "ward");
    ward.role = Role::Sensitive;
    assert!(matches!(ward.parse_total("garden"), (cell, true) if cell.is_nan()));
}

#[test]
fn a_typed_cell_is_read_as_its_digits_are() {
    let mut schema = sample();
    let vocabulary = ["1", "2", "2.5"].map(str::to_owned).to_vec();
    column_mut(&mut schema, "ward").kind = Some(ColumnKind::Categorical { vocabulary });
    let mut numbers = vec![0.0, -0.0, 1.0, 2.0, 2.5, 12.5, 336.0, 337.0, -1.0, 1e300, 5e-324];
    numbers.extend([f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
    let clips = [OutOfRange::Refuse, OutOfRange::Clip];
    let policies = [MissingPolicy::Refuse, MissingPolicy::Allow];
    for (name, clip, missing) in ["stay", "sex", "ward"]
        .into_iter()
        .flat_map(|name| clips.map(|clip| (name, clip)))
        .flat_map(|(name, clip)| policies.map(|missing| (name, clip, missing)))
    {
        let column = column_mut(&mut schema, name);
        (column.out_of_range, column.missing) = (clip, Some(missing));
        let same = |value: Value<'_>, text: &str| {
            let bits = |cell: f32| if cell.is_nan() { u32::MAX } else { cell.to_bits() };
            assert_eq!(column.read(value).map(bits), column.parse(text).map(bits), "{name} {text}");
            let (typed, of_text) = (column.read_total(value), column.parse_total(text));
            assert_eq!((bits(typed.0), typed.1), (bits(of_text.0), of_text.1), "{name} {text}");
        };
        for &number in &numbers {
            same(Value::Number(number), &number.to_string());
        }
        for number in [0, 1, 2, 336, 337, -1, i128::from(u64::MAX), i128::from(i64::MIN)] {
            same(Value::Integer(number), &number.to_string());
        }
        same(Value::Missing, "");
    }
}

#[test]
fn a_sensitive_column_refuses_no_missing_cell() {
    let said = refused(|s| column_mut(s, "sex").missing = Some(MissingPolicy::Refuse));
    assert!(said.contains("\"sex\"") && said.contains("itself sensitive"), "{said}");
}

#[test]
fn an_unknown_word_counts_as_missing_where_the_schema_clips() {
    let mut schema = sample();
    column_mut(&mut schema, "ward").out_of_range = OutOfRange::Clip;
    assert!(column_mut(&mut schema, "ward").parse("garden").unwrap().is_nan());
    column_mut(&mut schema, "ward").missing = Some(MissingPolicy::Refuse);
    assert_eq!(column_mut(&mut schema, "ward").parse("garden"), Err(CellProblem::Missing));
}

#[test]
fn a_value_on_the_end_of_its_range_is_admitted_after_rounding_to_f32() {
    let column = Column {
        kind: Some(ColumnKind::Continuous { range: [-0.1, 0.1] }),
        transform: None,
        ..sample().columns[1].clone()
    };
    for text in ["0.1", "-0.1", "5", "-5"] {
        assert!(column.admits(column.parse(text).unwrap()), "{text}");
    }
}
