//! How the trained model holds against changed inputs, and for whom it works worst.

use fusiondp_coordinator::report::evidence::Group;
use fusiondp_learn::metrics::auroc;
use fusiondp_learn::model::{Model, ModelError, View, Workspace};
use fusiondp_learn::schema::{Column, ColumnKind, Schema, Transform};
use ndarray::Array2;

/// Steps of the attack.
const STEPS: usize = 20;

/// Records of a cohort by the values of one column.
///
/// Has no `Debug`: it holds patients' values.
pub struct Grouping {
    /// The column.
    pub column: String,
    /// What the values of each slot have in common.
    pub names: Vec<String>,
    /// Slot of each record, `[N]`.
    pub slots: Vec<usize>,
}

/// Whether each dense input of the public block is a number that can move a little.
#[must_use]
pub fn continuous_inputs(schema: &Schema) -> Vec<bool> {
    let mut inputs = Vec::new();
    for column in schema.public() {
        let numbers = width(column) - usize::from(column.missing_indicator);
        inputs.extend((0..numbers).map(|_| is_number(column)));
        inputs.extend(column.missing_indicator.then_some(false));
    }
    inputs
}

/// Number of dense inputs of a column.
pub(super) fn width(column: &Column) -> usize {
    let values = match (&column.kind, column.effective_transform()) {
        (_, Transform::Bins { edges }) => edges.len() + 2,
        (Some(ColumnKind::Categorical { vocabulary }), Transform::OneHot {}) => vocabulary.len() + 1,
        (_, Transform::OneHot {}) => 3,
        _ => 1,
    };
    values + usize::from(column.missing_indicator)
}

fn is_number(column: &Column) -> bool {
    matches!(column.kind, Some(ColumnKind::Continuous { .. })) && !column.effective_transform().is_discrete()
}

/// Projected gradient ascent on each record's loss within `radius` of its input (Madry et al. 2018), where `movable` is set.
///
/// # Errors
/// A view or labels that do not fit the model.
pub fn perturb(
    model: &Model,
    params: &[f32],
    view: &View<f32>,
    labels: &[f32],
    movable: &Array2<bool>,
    radius: f32,
) -> Result<View<f32>, ModelError> {
    let mut moved = view.clone();
    let step = 2.5 * radius / STEPS as f32;
    let mut workspace = Workspace::default();
    for _ in 0..STEPS {
        let gradient = model.input_gradient(params, &moved, labels, &mut workspace)?;
        ndarray::Zip::from(&mut moved.dense).and(&view.dense).and(&gradient).and(movable).for_each(
            |value, &start, &slope, &movable| {
                if movable && slope != 0.0 {
                    *value = (*value + step * slope.signum()).clamp(start - radius, start + radius);
                }
            },
        );
    }
    Ok(moved)
}

/// The group with the lowest AUROC among those with at least `smallest` records of either label; `None` where none is so large.
#[must_use]
pub fn worst_group(logits: &[f32], labels: &[f32], groupings: &[Grouping], smallest: usize) -> Option<Group> {
    let mut groups = Vec::new();
    for Grouping { column, names, slots } in groupings {
        for (slot, name) in names.iter().enumerate() {
            let rows: Vec<usize> = (0..slots.len()).filter(|&row| slots[row] == slot).collect();
            let of = |values: &[f32]| rows.iter().map(|&row| values[row]).collect::<Vec<f32>>();
            let (logits, labels) = (of(logits), of(labels));
            let positives = labels.iter().filter(|&&label| label == 1.0).count();
            if positives < smallest || labels.len() - positives < smallest {
                continue;
            }
            if let Ok(auroc) = auroc(&logits, &labels) {
                let (column, values) = (column.clone(), name.clone());
                groups.push(Group { column, values, records: rows.len(), positives, auroc });
            }
        }
    }
    groups.into_iter().min_by(|one, other| one.auroc.total_cmp(&other.auroc))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use fusiondp_learn::model::{InputShape, ModelSpec};
    use ndarray::array;

    use super::*;

    #[test]
    fn a_linear_model_moves_against_its_weights_and_only_where_it_may() {
        let shape = InputShape { dense: 2, bins: vec![] };
        let model = Model::new(&ModelSpec::Linear {}, shape).unwrap();
        let view = View { dense: array![[0.0, 0.0], [1.0, 1.0]], bins: Array2::zeros((2, 0)) };
        let movable = array![[true, false], [true, true]];
        let moved = perturb(&model, &[1.0, -2.0, 0.0], &view, &[1.0, 0.0], &movable, 0.5).unwrap();
        assert_eq!(moved.dense, array![[-0.5, 0.0], [1.5, 0.5]]);
    }

    #[test]
    fn the_worst_group_is_found_and_small_ones_are_left_out() {
        let (logits, labels) = ([1.0, 2.0, 2.0, 1.0, 5.0, 6.0], [0.0, 1.0, 0.0, 1.0, 1.0, 1.0]);
        let names = ["below 3", "3 to 5", "from 5"].map(str::to_owned).to_vec();
        let groupings = [Grouping { column: "x".to_owned(), names, slots: vec![0, 0, 1, 1, 2, 2] }];
        let worst = worst_group(&logits, &labels, &groupings, 1).unwrap();
        assert_eq!((worst.values.as_str(), worst.records, worst.auroc), ("3 to 5", 2, 0.0));
        assert_eq!(worst_group(&logits, &labels, &groupings, 2), None);
    }
}
