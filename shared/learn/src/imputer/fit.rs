//! Fitting an imputer network on support data.

use chacha20::ChaCha8Rng;
use ndarray::{Array2, ArrayView2, Axis};
use rand::{Rng, SeedableRng};

use super::{Head, ImputerError, ImputerFit, ImputerNetwork};
use crate::{
    encode::Encoder,
    model::ModelSpec,
    network::{Dropout, DropoutSeed, Mlp, Normalization, Tape},
    optimiser::{Optimizer, OptimizerSpec},
    schema::Schema,
    table::{PublicFeatures, SensitiveFeatures},
};

/// One record in this many is held out for early stopping.
const HELD_OUT: usize = 10;
/// Fewest support records: below, the held-out part says nothing.
const FEWEST_RECORDS: usize = 20;

/// State of a fit after an epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FitProgress {
    /// Epochs done.
    pub epoch: usize,
    /// Largest number of epochs.
    pub epochs: usize,
    /// Mean loss of the epoch's batches, summed over features.
    pub training_loss: f64,
    /// Loss on the held-out records, summed over features.
    pub held_out_loss: f64,
    /// Lowest held-out loss so far.
    pub best_loss: f64,
}

/// Fits one network for all sensitive features of `schema` on support records, with AdamW on mini-batches and early
/// stopping on a held-out tenth. Missing sensitive cells take no part in the loss. Deterministic in
/// `options.seed`.
///
/// `progress` is called after every epoch.
///
/// # Errors
/// Options out of range, a schema without sensitive columns, tables that do not fit, fewer than 20 records, a feature
/// that is never observed, or a fit that diverges.
pub fn fit(
    schema: &Schema,
    public: &PublicFeatures,
    sensitive: &SensitiveFeatures,
    options: &ImputerFit,
    progress: &mut dyn FnMut(FitProgress),
) -> Result<ImputerNetwork, ImputerError> {
    options.validate()?;
    let encoder = Encoder::new(schema, &ModelSpec::Linear {})?;
    check_tables(schema, public, sensitive)?;
    let (fitting, held_out) = split(public.rows(), options.seed);
    check_observed(schema, sensitive, &fitting)?;

    let heads = Head::all(schema.sensitive());
    let outputs = heads.last().map_or(0, |head| head.range.end);
    let network = Mlp::new(encoder.public_width(), &options.widths, outputs, Normalization::Layer)?;
    let data = Data { input: encoder.public_only(public)?, sensitive, heads: &heads };
    let params = Trainer::new(&network, options, &data)?.run(&fitting, &held_out, progress)?;

    let mut imputer =
        ImputerNetwork { schema: schema.clone(), encoder, heads, network, params, quality: Vec::new() };
    imputer.assess(&public.select(&held_out), &sensitive.select(&held_out))?;
    Ok(imputer)
}

fn check_tables(
    schema: &Schema,
    public: &PublicFeatures,
    sensitive: &SensitiveFeatures,
) -> Result<(), ImputerError> {
    if schema.sensitive().next().is_none() {
        return Err(ImputerError::NothingSensitive);
    }
    if public.rows() != sensitive.rows() {
        return Err(ImputerError::RowCount { public: public.rows(), sensitive: sensitive.rows() });
    }
    if public.rows() < FEWEST_RECORDS {
        return Err(ImputerError::TooFewRecords { found: public.rows(), wanted: FEWEST_RECORDS });
    }
    Ok(())
}

fn check_observed(
    schema: &Schema,
    sensitive: &SensitiveFeatures,
    rows: &[usize],
) -> Result<(), ImputerError> {
    for (index, column) in schema.sensitive().enumerate() {
        let cells = sensitive.column(index);
        if rows.iter().all(|&row| cells.get(row).is_none_or(|cell| cell.is_nan())) {
            return Err(ImputerError::NeverObserved { column: column.name.clone() });
        }
    }
    Ok(())
}

/// Records to fit on and records to hold out.
fn split(records: usize, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let mut order: Vec<usize> = (0..records).collect();
    shuffle(&mut order, &mut ChaCha8Rng::seed_from_u64(seed ^ 0x5e1d));
    let fitting = order.split_off(records.div_ceil(HELD_OUT));
    (fitting, order)
}

/// Fisher-Yates. The bias of the remainder, below 2^-32 for any table that fits in memory, does not matter here.
fn shuffle(order: &mut [usize], rng: &mut ChaCha8Rng) {
    for last in (1..order.len()).rev() {
        let other = (rng.next_u64() % (last as u64 + 1)) as usize;
        order.swap(last, other);
    }
}

struct Data<'d> {
    input: Array2<f32>,
    sensitive: &'d SensitiveFeatures,
    heads: &'d [Head],
}

impl Data<'_> {
    /// Loss of the output `[B, O]` for records `rows`, a mean over observed cells per feature, summed over features;
    /// its derivative is written to `slope`.
    fn loss(&self, rows: &[usize], output: ArrayView2<'_, f32>, slope: &mut Array2<f32>) -> f64 {
        slope.fill(0.0);
        let mut total = 0.0;
        for (index, head) in self.heads.iter().enumerate() {
            let cells = self.sensitive.column(index);
            let observed: Vec<usize> = (0..rows.len()).filter(|&i| !cells[rows[i]].is_nan()).collect();
            let weight = 1.0 / observed.len().max(1) as f32;
            let mut buffer = vec![0.0; head.range.len()];
            for i in observed {
                let output: Vec<f32> = head.range.clone().map(|column| output[[i, column]]).collect();
                total += f64::from(head.loss(&output, cells[rows[i]], &mut buffer) * weight);
                for (column, derivative) in head.range.clone().zip(&buffer) {
                    slope[[i, column]] = derivative * weight;
                }
            }
        }
        total
    }
}

struct Trainer<'t> {
    network: &'t Mlp,
    options: &'t ImputerFit,
    data: &'t Data<'t>,
    params: Vec<f32>,
    gradient: Vec<f32>,
    optimizer: Optimizer,
    tape: Tape<f32>,
    rng: ChaCha8Rng,
}

impl<'t> Trainer<'t> {
    fn new(network: &'t Mlp, options: &'t ImputerFit, data: &'t Data<'t>) -> Result<Self, ImputerError> {
        let mut params = vec![0.0; network.parameters()];
        network.initialise(options.seed, &mut params);
        let spec = OptimizerSpec::Adam {
            learning_rate: options.learning_rate,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: options.weight_decay,
        };
        Ok(Self {
            network,
            options,
            data,
            gradient: vec![0.0; params.len()],
            optimizer: Optimizer::new(&spec, params.len())?,
            params,
            tape: Tape::default(),
            rng: ChaCha8Rng::seed_from_u64(options.seed ^ 0xf17),
        })
    }

    /// Parameters of the epoch with the lowest held-out loss.
    fn run(
        mut self,
        fitting: &[usize],
        held_out: &[usize],
        progress: &mut dyn FnMut(FitProgress),
    ) -> Result<Vec<f32>, ImputerError> {
        let epochs = self.options.epochs;
        let (mut best_loss, mut best_params, mut since_best) = (f64::INFINITY, self.params.clone(), 0);
        let mut order = fitting.to_vec();
        for epoch in 1..=epochs {
            shuffle(&mut order, &mut self.rng);
            let training_loss = self.epoch(epoch - 1, &order)?;
            let held_out_loss = self.evaluate(held_out)?;
            if !(training_loss.is_finite() && held_out_loss.is_finite()) {
                return Err(ImputerError::Diverged { epoch });
            }
            since_best += 1;
            if held_out_loss < best_loss {
                (best_loss, since_best) = (held_out_loss, 0);
                best_params.copy_from_slice(&self.params);
            }
            progress(FitProgress { epoch, epochs, training_loss, held_out_loss, best_loss });
            if since_best >= self.options.patience {
                break;
            }
        }
        Ok(best_params)
    }

    fn epoch(&mut self, epoch: usize, order: &[usize]) -> Result<f64, ImputerError> {
        let batches = order.chunks(self.options.batch);
        let count = batches.len();
        let mut total = 0.0;
        for (index, rows) in batches.enumerate() {
            let done = (epoch as f64 + index as f64 / count as f64) / self.options.epochs as f64;
            let rate_factor = 0.5 * (1.0 + libm::cos(std::f64::consts::PI * done));
            total += self.step(rows, rate_factor)?;
        }
        Ok(total / count as f64)
    }

    fn step(&mut self, rows: &[usize], rate_factor: f64) -> Result<f64, ImputerError> {
        let input = self.data.input.select(Axis(0), rows);
        let dropout = Dropout::new(self.options.dropout, DropoutSeed(self.rng.next_u64()))?;
        let output = self.network.forward(&self.params, input.view(), Some(dropout), &mut self.tape)?;
        let mut slope = Array2::zeros(output.raw_dim());
        let loss = self.data.loss(rows, output, &mut slope);
        self.gradient.fill(0.0);
        self.network.backward(
            &self.params,
            input.view(),
            slope.view(),
            &mut self.tape,
            &mut self.gradient,
        )?;
        self.optimizer.step(&mut self.params, &self.gradient, rate_factor)?;
        Ok(loss)
    }

    fn evaluate(&mut self, rows: &[usize]) -> Result<f64, ImputerError> {
        let input = self.data.input.select(Axis(0), rows);
        let output = self.network.forward(&self.params, input.view(), None, &mut self.tape)?;
        let mut slope = Array2::zeros(output.raw_dim());
        Ok(self.data.loss(rows, output, &mut slope))
    }
}
