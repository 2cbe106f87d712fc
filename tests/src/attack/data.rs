//! Cohorts with their cells, and what the attacker knows of values without the model.

use std::sync::Arc;

use fusiondp_coordinator::support::read;
use fusiondp_learn::encode::Encoder;
use fusiondp_learn::imputer::{ImputerFit, ImputerNetwork, fit};
use fusiondp_learn::model::{Model, View, Workspace, cross_entropy};
use fusiondp_learn::schema::{ColumnKind, Schema};
use fusiondp_learn::table::{PublicFeatures, SensitiveFeatures};
use fusiondp_runtime::SystemClock;
use fusiondp_site_agent::data::source::Records;
use fusiondp_site_agent::data::{DataSource, Dataset, FileSource, Units};
use ndarray::{Array2, Axis, concatenate};

use super::reconstruction::{Prior, Target};
use super::robustness::{Grouping, continuous_inputs};
use super::slots::Slots;
use super::training::Run;
use super::{AttackError, AttackOptions};
use crate::simulation::SimulationError;
use crate::split::hospitals;

/// One cohort of all hospitals. Has no `Debug`: it holds patients' values.
pub(super) struct Cohort {
    parts: Vec<Dataset>,
    /// True values.
    pub(super) view: View<f32>,
    /// Labels.
    pub(super) labels: Vec<f32>,
}

impl Cohort {
    /// Reads a cohort at every hospital.
    pub(super) fn read(run: &Run, options: &AttackOptions<'_>, name: &str) -> Result<Self, AttackError> {
        let mut parts = Vec::new();
        for hospital in hospitals(options.data).map_err(SimulationError::from)? {
            let file = hospital.folder.join(format!("{name}.csv"));
            let source = FileSource::csv(file, Default::default(), Arc::new(SystemClock));
            parts.push(source.read(&Records::Train, run.study())?);
        }
        let encoder = run.encoder()?;
        let views: Result<Vec<View<f32>>, _> =
            parts.iter().map(|part| encoder.real(part.public(), part.sensitive())).collect();
        let labels = parts.iter().flat_map(|part| part.labels().values().to_vec()).collect();
        Ok(Self { view: joined(&views?), labels, parts })
    }

    /// Logits of all records.
    pub(super) fn logits(&self, model: &Model, params: &[f32]) -> Result<Vec<f32>, AttackError> {
        Ok(model.logits(params, &self.view, &mut Workspace::default())?)
    }

    /// Logits of the true label, which are the log-odds of its probability, `[N]`.
    pub(super) fn confidences(&self, model: &Model, params: &[f32]) -> Result<Vec<f64>, AttackError> {
        let logits = self.logits(model, params)?;
        let of = |(&logit, &label): (&f32, &f32)| f64::from(if label == 1.0 { logit } else { -logit });
        Ok(logits.iter().zip(&self.labels).map(of).collect())
    }

    /// Which records belong to which patient, by hospital.
    pub(super) fn units(&self) -> impl Iterator<Item = &Units> {
        self.parts.iter().map(Dataset::units)
    }

    /// Which dense inputs are numbers that are there, `[N, D]`.
    pub(super) fn movable(&self, schema: &Schema) -> Array2<bool> {
        let inputs = continuous_inputs(schema);
        let mut movable = Array2::from_elem(self.view.dense.dim(), false);
        let mut row = 0;
        for part in &self.parts {
            let cells: Vec<&[f32]> = (0..part.public().columns()).map(|c| part.public().column(c)).collect();
            for record in 0..part.public().rows() {
                let mut input = 0;
                for (column, cells) in schema.public().zip(&cells) {
                    movable[[row, input]] = inputs[input] && !cells[record].is_nan();
                    input += super::robustness::width(column);
                }
                row += 1;
            }
        }
        movable
    }
}

fn joined(views: &[View<f32>]) -> View<f32> {
    let dense: Vec<_> = views.iter().map(|view| view.dense.view()).collect();
    let bins: Vec<_> = views.iter().map(|view| view.bins.view()).collect();
    // Unwrap safety: all views come from one encoder, so they have the same widths.
    #[allow(clippy::unwrap_used)]
    let view =
        View { dense: concatenate(Axis(0), &dense).unwrap(), bins: concatenate(Axis(0), &bins).unwrap() };
    view
}

/// What is known without the model: an imputer and counts on support data.
pub(super) struct Known {
    imputer: ImputerNetwork,
    /// Slots and counts of each sensitive column.
    columns: Vec<(String, Slots, Prior)>,
}

impl Known {
    /// Fits the attacker's imputer on the support data and counts how its values go with true ones there.
    pub(super) fn new(run: &Run, options: &AttackOptions<'_>) -> Result<Self, AttackError> {
        let failed = |problem: &dyn ToString| AttackError::Support(problem.to_string());
        let schema = run.schema();
        let support = read(schema, &[options.data.join("support.csv")]).map_err(|e| failed(&e))?;
        let settings = ImputerFit { seed: options.seed, ..ImputerFit::default() };
        let imputer = fit(schema, &support.public, &support.sensitive, &settings, &mut |_| {})
            .map_err(|e| failed(&e))?;
        let imputed = imputer.impute(&support.public).map_err(|e| failed(&e))?;
        let column = |(index, column): (usize, &fusiondp_learn::schema::Column)| {
            let truth = support.sensitive.column(index);
            let slots = Slots::new(column, truth);
            let pairs = truth.iter().zip(imputed.column(index)).map(|(&t, &i)| (slots.of(t), slots.of(i)));
            let prior = Prior::count(slots.count(), pairs);
            (column.name.clone(), slots, prior)
        };
        let columns = schema.sensitive().enumerate().map(column).collect();
        Ok(Self { imputer, columns })
    }

    /// Per sensitive column the counts and the targets among the first `most` records of each hospital's share.
    pub(super) fn targets(
        &self,
        run: &Run,
        cohort: &Cohort,
        most: usize,
    ) -> Result<Vec<(String, Prior, Vec<Target>)>, AttackError> {
        let encoder = run.encoder()?;
        let mut all: Vec<(String, Prior, Vec<Target>)> =
            self.columns.iter().map(|(name, _, prior)| (name.clone(), prior.clone(), Vec::new())).collect();
        for part in &cohort.parts {
            let rows: Vec<usize> =
                (0..part.labels().values().len().min(most / cohort.parts.len().max(1))).collect();
            let (public, truth) = (part.public().select(&rows), part.sensitive().select(&rows));
            let imputed = self.imputer.impute(&public).map_err(|e| AttackError::Support(e.to_string()))?;
            let cells: Vec<Vec<f32>> = (0..imputed.columns())
                .map(|column| possible(run.schema(), column, imputed.column(column)))
                .collect();
            for (index, (_, slots, _)) in self.columns.iter().enumerate() {
                let view = Guesses { run, encoder: &encoder, public: &public, cells: &cells };
                let likelihood = view.likelihoods(index, slots, &part.labels().values()[..rows.len()])?;
                all[index].2.extend((0..rows.len()).map(|row| Target {
                    truth: slots.of(truth.column(index)[row]),
                    imputed: slots.of(cells[index][row]),
                    likelihood: likelihood.iter().map(|of_slot| of_slot[row]).collect(),
                }));
            }
        }
        Ok(all)
    }

    /// Every record's slot by sensitive column, with the slots' names.
    pub(super) fn groups(&self, cohort: &Cohort) -> Vec<Grouping> {
        let of = |(index, (name, slots, _)): (usize, &(String, Slots, Prior))| {
            let cells = cohort.parts.iter().flat_map(|part| part.sensitive().column(index));
            Grouping {
                column: name.clone(),
                names: (0..slots.count()).map(|slot| slots.name(slot)).collect(),
                slots: cells.map(|&cell| slots.of(cell)).collect(),
            }
        };
        self.columns.iter().enumerate().map(of).collect()
    }
}

/// Imputed cells as values that a record can have: a probability becomes 0 or 1.
fn possible(schema: &Schema, column: usize, cells: &[f32]) -> Vec<f32> {
    let binary =
        schema.sensitive().nth(column).is_some_and(|c| matches!(c.kind, Some(ColumnKind::Binary {})));
    cells.iter().map(|&cell| if binary { cell.round() } else { cell }).collect()
}

struct Guesses<'a> {
    run: &'a Run,
    encoder: &'a Encoder,
    public: &'a PublicFeatures,
    /// What stands for the columns that are not guessed.
    cells: &'a [Vec<f32>],
}

impl Guesses<'_> {
    /// Likelihood of each label under each slot of a column, `[slots][N]`.
    fn likelihoods(
        &self,
        column: usize,
        slots: &Slots,
        labels: &[f32],
    ) -> Result<Vec<Vec<f64>>, AttackError> {
        let mut cells = self.cells.to_vec();
        let mut workspace = Workspace::default();
        let mut all = Vec::with_capacity(slots.count());
        for slot in 0..slots.count() {
            cells[column].fill(slots.cell(slot));
            let sensitive = SensitiveFeatures::new(self.run.schema(), cells.clone())?;
            let view = self.encoder.real(self.public, &sensitive)?;
            let logits = self.run.model().logits(&self.run.parameters, &view, &mut workspace)?;
            let of = |(&logit, &label): (&f32, &f32)| (-f64::from(cross_entropy(logit, label))).exp();
            all.push(logits.iter().zip(labels).map(of).collect());
        }
        Ok(all)
    }
}
