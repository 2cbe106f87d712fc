//! Membership inference by reference models (Carlini et al. 2022, "Membership Inference Attacks From First Principles").
//!
//! The patients of training data and cohort are pooled, and each is in the training data of a random half of the reference models.
//! A record's score is the likelihood ratio of the attacked model's confidence: as the models with it have it, against
//! those without. Means are the record's own; deviations are pooled over records, as a record has few models.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use csv::{Reader, StringRecord, Writer};
use fusiondp_coordinator::report::evidence::References;
use fusiondp_dp::SecureRng;
use rand::seq::SliceRandom as _;

use super::data::Cohort;
use super::membership::distinguish;
use super::training::Run;
use super::{AttackError, AttackOptions};
use crate::simulation::SimulationError;
use crate::split::hospitals;

/// Fewest models: two with and two without each record.
pub const FEWEST: usize = 4;

/// Stream of the generator that draws halves; models take the seeds after the run's own.
const HALVES: u64 = u64::MAX - 1;

/// A patient of one hospital: by id, or a record by file and place where there are no ids. Has no `Debug`: ids are patients'.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Unit {
    Id(String),
    Record { file: usize, row: usize },
}

/// Everybody of one hospital. Has no `Debug`: it holds patients' values.
struct Pool {
    name: String,
    header: StringRecord,
    rows: Vec<(Unit, StringRecord)>,
    /// Which models have the unit in their training data.
    halves: HashMap<Unit, Vec<bool>>,
}

/// Trains the models and scores the records of both cohorts; `target` are the confidences of the attacked model, by cohort and
/// record.
pub(super) fn by_references(
    run: &Run,
    options: &AttackOptions<'_>,
    [train, others]: [&Cohort; 2],
    target: [&[f64]; 2],
    progress: &mut dyn FnMut(usize),
) -> Result<References, AttackError> {
    let pools = pools(run, options)?;
    let mut seen = [Seen::new(&pools, train, 0)?, Seen::new(&pools, others, 1)?];
    for model in 0..options.references {
        let folder = tempfile::tempdir_in(options.work).map_err(AttackError::Folder)?;
        write(&pools, model, options, folder.path())?;
        let seed = options.seed.wrapping_add(1 + model as u64);
        let units = pools.iter().map(|pool| pool.units(model)).sum();
        let half = AttackOptions { data: folder.path(), patients: 0, seed, ..options.clone() };
        let reference = Run::train(&half, units)?;
        for (seen, cohort) in seen.iter_mut().zip([train, others]) {
            seen.add(model, &cohort.confidences(run.model(), &reference.parameters)?);
        }
        progress(model + 1);
    }
    let spread = Spread::of(&seen);
    let scores = [0, 1].map(|cohort| seen[cohort].scores(target[cohort], spread));
    let found = distinguish(&scores[0], &scores[1]).map_err(AttackError::metric("membership"))?;
    Ok(References { models: options.references, found })
}

fn pools(run: &Run, options: &AttackOptions<'_>) -> Result<Vec<Pool>, AttackError> {
    let mut random = SecureRng::seeded_for_simulation(options.seed, HALVES);
    let unit_column = run.study().privacy.unit_column.as_deref();
    let mut pools = Vec::new();
    for hospital in hospitals(options.data).map_err(SimulationError::from)? {
        let files = ["train", options.cohort].map(|name| hospital.folder.join(format!("{name}.csv")));
        let mut pool = Pool::read(hospital.name, &files, unit_column)?;
        pool.draw(options.references, &mut random);
        if (0..options.references).any(|model| pool.units(model) == 0) {
            return Err(AttackError::TooFew { hospital: pool.name });
        }
        pools.push(pool);
    }
    Ok(pools)
}

impl Pool {
    fn read(name: String, files: &[PathBuf], unit: Option<&str>) -> Result<Self, AttackError> {
        let mut pool = Self { name, header: StringRecord::new(), rows: Vec::new(), halves: HashMap::new() };
        for (file, path) in files.iter().enumerate() {
            let failed = |source| AttackError::Csv { path: path.clone(), source };
            let mut reader = Reader::from_path(path).map_err(failed)?;
            // Spaces around names and ids count for nothing at a site either.
            let header: StringRecord = reader.headers().map_err(failed)?.iter().map(str::trim).collect();
            if file > 0 && header != pool.header {
                return Err(AttackError::Header { path: path.clone() });
            }
            let place = unit.and_then(|unit| header.iter().position(|column| column == unit));
            for (row, record) in reader.records().enumerate() {
                let record = record.map_err(failed)?;
                let unit = place
                    .map_or(Unit::Record { file, row }, |place| Unit::Id(record[place].trim().to_owned()));
                pool.rows.push((unit, record));
            }
            pool.header = header;
        }
        Ok(pool)
    }

    /// Gives each unit its half of the models.
    fn draw(&mut self, models: usize, random: &mut SecureRng) {
        for (unit, _) in &self.rows {
            self.halves.entry(unit.clone()).or_insert_with(|| {
                let mut half: Vec<bool> = (0..models).map(|model| model < models / 2).collect();
                half.shuffle(random);
                half
            });
        }
    }

    /// Number of units that a model has in its training data.
    fn units(&self, model: usize) -> usize {
        self.halves.values().filter(|half| half[model]).count()
    }

    fn write(&self, model: usize, path: &Path) -> Result<(), AttackError> {
        let failed = |source| AttackError::Csv { path: path.to_owned(), source };
        let mut writer = Writer::from_path(path).map_err(failed)?;
        writer.write_record(&self.header).map_err(failed)?;
        for (_, record) in self.rows.iter().filter(|(unit, _)| self.halves[unit][model]) {
            writer.write_record(record).map_err(failed)?;
        }
        writer.flush().map_err(|error| failed(error.into()))
    }
}

/// The data folder of one model.
fn write(
    pools: &[Pool],
    model: usize,
    options: &AttackOptions<'_>,
    folder: &Path,
) -> Result<(), AttackError> {
    for pool in pools {
        let hospital = folder.join(&pool.name);
        fs::create_dir(&hospital).map_err(AttackError::Folder)?;
        pool.write(model, &hospital.join("train.csv"))?;
    }
    fs::copy(options.data.join("support.csv"), folder.join("support.csv")).map_err(AttackError::Folder)?;
    Ok(())
}

/// Confidences of all models in the records of a cohort.
struct Seen {
    /// By record, which models have it.
    halves: Vec<Vec<bool>>,
    /// Sum over models without and with the record, and of squares.
    sums: Vec<[[f64; 2]; 2]>,
}

impl Seen {
    /// # Errors
    /// A patient of the cohort whom the files do not name.
    fn new(pools: &[Pool], cohort: &Cohort, file: usize) -> Result<Self, AttackError> {
        let mut halves = Vec::new();
        for (pool, units) in pools.iter().zip(cohort.units()) {
            for unit in 0..units.count() {
                for row in units.rows(unit) {
                    let named = units.id(unit).map(|id| Unit::Id(id.trim().to_owned()));
                    let half = pool.halves.get(&named.unwrap_or(Unit::Record { file, row }));
                    halves.push(
                        half.ok_or_else(|| AttackError::Unknown { hospital: pool.name.clone() })?.clone(),
                    );
                }
            }
        }
        let sums = vec![[[0.0; 2]; 2]; halves.len()];
        Ok(Self { halves, sums })
    }

    fn add(&mut self, model: usize, confidences: &[f64]) {
        for ((half, sums), &confidence) in self.halves.iter().zip(&mut self.sums).zip(confidences) {
            let sums = &mut sums[usize::from(half[model])];
            sums[0] += confidence;
            sums[1] += confidence * confidence;
        }
    }

    /// Mean of the models without a record, and of those with it.
    fn means(&self) -> impl Iterator<Item = [f64; 2]> {
        self.halves.iter().zip(&self.sums).map(|(half, sums)| {
            let each = half.len() as f64 / 2.0;
            [sums[0][0] / each, sums[1][0] / each]
        })
    }

    /// Logarithms of the likelihood ratio of being a member, by record.
    fn scores(&self, target: &[f64], spread: Spread) -> Vec<f32> {
        let log = |distance: f64, variance: f64| -0.5 * (distance * distance / variance + variance.ln());
        let score = |([without, with], &seen): ([f64; 2], &f64)| {
            (log(seen - with, spread.with) - log(seen - without, spread.without)) as f32
        };
        self.means().zip(target).map(score).collect()
    }
}

/// Variances of a record's confidence over models, pooled over records.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spread {
    without: f64,
    with: f64,
}

impl Spread {
    fn of(seen: &[Seen]) -> Self {
        let variance = |kind: usize| {
            let (mut sum, mut count) = (0.0, 0.0);
            for cohort in seen {
                for (half, sums) in cohort.halves.iter().zip(&cohort.sums) {
                    let each = half.len() as f64 / 2.0;
                    sum += sums[kind][1] - sums[kind][0] * sums[kind][0] / each;
                    count += each - 1.0;
                }
            }
            // Models that all agree leave nothing to compare; a tiny variance keeps the ratio finite.
            (sum / count).max(1e-12)
        };
        Self { without: variance(0), with: variance(1) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::attack::Target;
    use crate::attack::tests::options;
    use crate::cohort::{CohortSpec, write as write_cohort};
    use crate::harness::toml_text::{SAMPLE_STUDY, TomlText};

    /// Two records, four models: the first record's confidence is 1 without it and 3 with it.
    #[test]
    fn scores_are_likelihood_ratios_by_hand() {
        let halves = vec![vec![true, true, false, false], vec![false, true, true, false]];
        let mut seen = Seen { halves, sums: vec![[[0.0; 2]; 2]; 2] };
        for (model, confidences) in [[2.5, 0.0], [3.5, 1.0], [0.5, 1.0], [1.5, 0.0]].iter().enumerate() {
            seen.add(model, confidences);
        }
        assert_eq!(seen.means().collect::<Vec<_>>(), [[1.0, 3.0], [0.0, 1.0]]);
        let seen = [seen];
        let spread = Spread::of(&seen);
        // Squares of 0.5 four times for the first record and of 0 for the second, with one degree of freedom a record and kind.
        assert_eq!(spread, Spread { without: 0.25, with: 0.25 });
        let scores = seen[0].scores(&[3.0, 0.5], spread);
        assert!((scores[0] - 8.0).abs() < 1e-6 && scores[1].abs() < 1e-6, "{scores:?}");
    }

    #[test]
    fn a_hospital_that_some_model_would_have_nobody_of_is_refused() {
        let data = tempfile::tempdir().unwrap();
        write_cohort(CohortSpec::new(2, 300, 1).unwrap(), data.path()).unwrap();
        let train = data.path().join("hospital-b").join("train.csv");
        let all = fs::read_to_string(&train).unwrap();
        let few: Vec<&str> = all.lines().take(2).collect();
        fs::write(&train, few.join("\n")).unwrap();
        fs::write(data.path().join("hospital-b").join("test.csv"), few[0]).unwrap();
        let mut study = TomlText::new(SAMPLE_STUDY);
        study.set_rounds(10).unwrap();
        let options = AttackOptions { references: 4, ..options(study.text(), data.path(), Target::Trained) };
        let run = Run::train(&options, usize::MAX).unwrap();
        let refused = pools(&run, &options).err().unwrap().to_string();
        assert!(refused.contains("hospital-b has too few patients"), "{refused}");
    }

    #[test]
    fn each_patient_is_in_half_of_the_models_with_all_records() {
        // Padded ids and names are those of the same patient and column, as a site reads them.
        let folder = tempfile::tempdir().unwrap();
        let files = ["train.csv", "test.csv"].map(|name| folder.path().join(name));
        fs::write(&files[0], "id , x\na,1\nb,2\n a ,3\n").unwrap();
        fs::write(&files[1], "id,x\nc,4\nc,5\n").unwrap();
        let mut pool = Pool::read("h".to_owned(), &files, Some("id")).unwrap();
        pool.draw(6, &mut SecureRng::seeded_for_simulation(1, 1));
        let out = folder.path().join("out.csv");
        let mut times = [0; 5];
        for model in 0..6 {
            pool.write(model, &out).unwrap();
            let text = fs::read_to_string(&out).unwrap();
            (1..=5).for_each(|x| {
                times[x - 1] += text.lines().filter(|line| line.ends_with(&format!(",{x}"))).count()
            });
            assert_eq!(text.contains("a,1"), text.contains("a ,3"));
        }
        assert_eq!(times, [3; 5]);
        fs::write(&files[1], "id,y\nc,4\n").unwrap();
        assert!(matches!(Pool::read("h".to_owned(), &files, None), Err(AttackError::Header { .. })));
    }
}
