//! Which tensor of an ONNX model holds what.
//!
//! Two forms of input are accepted: tensors named like public columns, `[N, 1]` or `[N]`, float (NaN = missing) or, for
//! categorical columns, string ("" = missing); or one float tensor `[N, K]` with all K public columns in schema order,
//! categories as index into the vocabulary.

use std::collections::BTreeMap;

use fusiondp_learn::onnx::{ElementType, ModelSummary, TensorSummary};
use fusiondp_learn::schema::{Column, ColumnKind, Schema};

use super::ImputerError;

/// Metadata key prefix under which a model says where a feature's output is.
const OUTPUT_METADATA: &str = "fusiondp.output.";

/// How the model is fed and read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// What to feed.
    pub(super) inputs: Inputs,
    /// One per sensitive feature, in schema order.
    pub(super) outputs: Vec<OutputPlace>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Inputs {
    /// One tensor with every public column.
    Matrix { name: String, element: FloatElement },
    /// One tensor per column.
    Columns(Vec<InputColumn>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InputColumn {
    pub(super) name: String,
    /// Index among the public columns.
    pub(super) column: usize,
    /// Rank 2 `[N, 1]`, else `[N]`.
    pub(super) as_matrix: bool,
    pub(super) content: InputContent,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum InputContent {
    Number(FloatElement),
    /// Words by index.
    Words(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FloatElement {
    Single,
    Double,
}

/// Where a feature's scores are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OutputPlace {
    /// The sensitive feature.
    pub(super) feature: String,
    /// Name of the output tensor.
    pub(super) output: String,
    /// First and end column; `None`: all.
    pub(super) columns: Option<(usize, usize)>,
}

impl Binding {
    /// Binds a model to a schema. `mapped` is the site's own mapping, which goes before the model's metadata, which goes
    /// before an output named like the feature.
    ///
    /// # Errors
    /// An input that is no public column, or a feature without an output of numbers.
    pub fn new(
        summary: &ModelSummary,
        schema: &Schema,
        mapped: &BTreeMap<String, String>,
    ) -> Result<Self, ImputerError> {
        let outputs = schema.sensitive().map(|column| output_place(summary, &column.name, mapped));
        Ok(Self { inputs: inputs(summary, schema)?, outputs: outputs.collect::<Result<_, _>>()? })
    }
}

fn inputs(summary: &ModelSummary, schema: &Schema) -> Result<Inputs, ImputerError> {
    let public: Vec<&Column> = schema.public().collect();
    let place = |input: &TensorSummary| public.iter().position(|column| column.name == input.name);
    if let [input] = summary.inputs.as_slice()
        && (place(input).is_none() || last_extent(input).is_some_and(|width| width != 1))
    {
        return matrix(input, public.len());
    }
    let columns = summary.inputs.iter().map(|input| {
        let problem = "is no public column of the study, and not the only input".to_owned();
        let index = place(input).ok_or(ImputerError::Input { input: input.name.clone(), problem })?;
        column_input(input, index, public[index])
    });
    Ok(Inputs::Columns(columns.collect::<Result<_, _>>()?))
}

fn matrix(input: &TensorSummary, public: usize) -> Result<Inputs, ImputerError> {
    let refuse = |problem: String| Err(ImputerError::Input { input: input.name.clone(), problem });
    let Some(element) = float_element(input.element) else {
        return refuse("is not of floats".to_owned());
    };
    match last_extent(input) {
        Some(width) if width != public as u64 => {
            refuse(format!("has {width} columns, the study has {public} public columns"))
        }
        _ => Ok(Inputs::Matrix { name: input.name.clone(), element }),
    }
}

fn column_input(input: &TensorSummary, index: usize, column: &Column) -> Result<InputColumn, ImputerError> {
    let refuse =
        |problem: &str| ImputerError::Input { input: input.name.clone(), problem: problem.to_owned() };
    let content = match (&column.kind, float_element(input.element), input.element) {
        (Some(_), Some(element), _) => InputContent::Number(element),
        (Some(ColumnKind::Categorical { vocabulary }), _, ElementType::String) => {
            InputContent::Words(vocabulary.clone())
        }
        _ => return Err(refuse("must be of floats, or of strings for a categorical column")),
    };
    let as_matrix = match input.shape.as_ref().map(Vec::len) {
        Some(1) => false,
        Some(2) | None => true,
        Some(_) => return Err(refuse("must have the shape [N, 1] or [N]")),
    };
    if as_matrix && last_extent(input).is_some_and(|width| width != 1) {
        return Err(refuse("must have the shape [N, 1] or [N]"));
    }
    Ok(InputColumn { name: input.name.clone(), column: index, as_matrix, content })
}

/// Declared width of a tensor of rank 2.
fn last_extent(input: &TensorSummary) -> Option<u64> {
    match input.shape.as_deref() {
        Some([_, width]) => *width,
        _ => None,
    }
}

fn float_element(element: ElementType) -> Option<FloatElement> {
    match element {
        ElementType::Float => Some(FloatElement::Single),
        ElementType::Double => Some(FloatElement::Double),
        _ => None,
    }
}

fn output_place(
    summary: &ModelSummary,
    feature: &str,
    mapped: &BTreeMap<String, String>,
) -> Result<OutputPlace, ImputerError> {
    let refuse = |problem: String| ImputerError::Output { feature: feature.to_owned(), problem };
    let declared = mapped
        .get(feature)
        .or_else(|| summary.metadata.get(&format!("{OUTPUT_METADATA}{feature}")))
        .map_or(feature, String::as_str);
    let (output, columns) = parse_place(declared).ok_or_else(|| {
        refuse(format!("is mapped to \"{declared}\", which is neither NAME nor NAME[first:end]"))
    })?;
    let Some(tensor) = summary.outputs.iter().find(|tensor| tensor.name == output) else {
        let names: Vec<&str> = summary.outputs.iter().map(|tensor| tensor.name.as_str()).collect();
        return Err(refuse(format!("has no output \"{output}\" (it has: {})", names.join(", "))));
    };
    if float_element(tensor.element).is_none() {
        return Err(refuse(format!(
            "gives no floats in \"{output}\" (export classifiers with probabilities and zipmap = False)"
        )));
    }
    Ok(OutputPlace { feature: feature.to_owned(), output: output.to_owned(), columns })
}

/// `NAME` or `NAME[first:end]`.
fn parse_place(text: &str) -> Option<(&str, Option<(usize, usize)>)> {
    let Some(open) = text.rfind('[').filter(|_| text.ends_with(']')) else {
        return (!text.is_empty()).then_some((text, None));
    };
    let (first, end) = text[open + 1..text.len() - 1].split_once(':')?;
    let (first, end) = (first.trim().parse().ok()?, end.trim().parse().ok()?);
    (open > 0 && first < end).then_some((&text[..open], Some((first, end))))
}

#[cfg(test)]
mod tests {
    use super::parse_place;

    #[test]
    fn places_are_a_name_and_perhaps_columns() {
        assert_eq!(parse_place("age"), Some(("age", None)));
        assert_eq!(parse_place("p[0:2]"), Some(("p", Some((0, 2)))));
        assert_eq!(parse_place("p[1][2:5]"), Some(("p[1]", Some((2, 5)))));
        for bad in ["", "p[2:2]", "p[2:1]", "p[a:b]", "p[1]", "[0:1]"] {
            assert_eq!(parse_place(bad), None, "{bad}");
        }
    }
}
