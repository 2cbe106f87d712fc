//! Epsilons against `accounting.json`.

use std::fs;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use fusiondp_dp::{
    Delta, DpEvent, NeighboringRelation, NoiseMultiplier, PldAccountant, PrivacyAccountant, RdpAccountant,
    SamplingProbability,
};
use serde::Deserialize;

use super::{Finding, LIMIT_EPSILON, VectorsError, file_name};

#[derive(Deserialize)]
struct Document {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    parts: Vec<Part>,
    delta: f64,
    eps_pld_zero_out: f64,
    eps_pld_replace: f64,
    eps_rdp_zero_out: f64,
}

#[derive(Deserialize)]
struct Part {
    noise_multiplier: f64,
    sampling_rate: f64,
    steps: u32,
}

/// Relative differences (ours - reference) / reference of one case.
#[derive(Clone, Copy)]
struct Differences {
    pld_replace: f64,
    pld_zero_out: f64,
    adaptive_replace: f64,
    adaptive_zero_out: f64,
    rdp_zero_out: f64,
}

/// Width of the loss intervals that the reference figures were computed with.
const REFERENCE_INTERVAL: f64 = 1e-4;

pub(super) fn check(
    path: &Path,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<Finding>, VectorsError> {
    let text = fs::read(path).map_err(|source| VectorsError::Io { path: path.to_owned(), source })?;
    let form = |problem: String| VectorsError::Form { path: path.to_owned(), problem };
    let document: Document = serde_json::from_slice(&text).map_err(|e| form(e.to_string()))?;
    if document.cases.is_empty() {
        return Err(form("no cases".to_owned()));
    }
    let differences = all_cases(&document.cases, progress).map_err(form)?;
    let finding = |group: &str, error: f64| Finding {
        file: file_name(path),
        group: group.to_owned(),
        quantity: format!("worst of {} cases", differences.len()),
        error,
        limit: LIMIT_EPSILON,
    };
    Ok(vec![
        finding("PLD replace", worst(&differences, |d| d.pld_replace.abs())),
        finding("PLD zero_out", worst(&differences, |d| d.pld_zero_out.abs())),
        finding("PLD replace, adaptive, above", worst(&differences, |d| d.adaptive_replace)),
        finding("PLD zero_out, adaptive, above", worst(&differences, |d| d.adaptive_zero_out)),
        finding("RDP zero_out above", worst(&differences, |d| d.rdp_zero_out)),
    ])
}

/// The largest figure; NaN if one of them is.
fn worst(differences: &[Differences], figure: impl Fn(&Differences) -> f64) -> f64 {
    differences.iter().map(figure).fold(f64::NEG_INFINITY, |worst, value| {
        if worst.is_nan() || value.is_nan() { f64::NAN } else { worst.max(value) }
    })
}

/// Every case, on all processors.
fn all_cases(cases: &[Case], progress: &(dyn Fn(usize, usize) + Sync)) -> Result<Vec<Differences>, String> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(cases.len()));
    let workers = thread::available_parallelism().map_or(1, usize::from).min(cases.len());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = differences(case);
                    let mut done = done.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    done.push(result);
                    progress(done.len(), cases.len());
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).into_iter().collect()
}

fn differences(case: &Case) -> Result<Differences, String> {
    let events = case.parts.iter().map(event).collect::<Result<Vec<_>, _>>()?;
    let delta = Delta::new(case.delta).map_err(|e| e.to_string())?;
    let epsilon = |accountant: &dyn PrivacyAccountant, relation| {
        let epsilon = accountant.epsilon(&events, delta, relation);
        epsilon.map(|epsilon| epsilon.get()).map_err(|e| e.to_string())
    };
    let relative = |ours: f64, reference: f64| (ours - reference) / reference;
    // The references were computed on this grid. It is too coarse for losses far below it, where the adaptive grid rightly
    // gives less (at worst half); so the adaptive figure is held against the reference from above only.
    let same_grid = PldAccountant::with_interval(REFERENCE_INTERVAL).map_err(|e| e.to_string())?;
    let (adaptive, rdp) = (PldAccountant::default(), RdpAccountant);
    Ok(Differences {
        pld_replace: relative(epsilon(&same_grid, NeighboringRelation::Replace)?, case.eps_pld_replace),
        pld_zero_out: relative(epsilon(&same_grid, NeighboringRelation::ZeroOut)?, case.eps_pld_zero_out),
        adaptive_replace: relative(epsilon(&adaptive, NeighboringRelation::Replace)?, case.eps_pld_replace),
        adaptive_zero_out: relative(epsilon(&adaptive, NeighboringRelation::ZeroOut)?, case.eps_pld_zero_out),
        rdp_zero_out: relative(epsilon(&rdp, NeighboringRelation::ZeroOut)?, case.eps_rdp_zero_out),
    })
}

fn event(part: &Part) -> Result<DpEvent, String> {
    Ok(DpEvent::PoissonSampledGaussian {
        noise_multiplier: NoiseMultiplier::new(part.noise_multiplier).map_err(|e| e.to_string())?,
        sampling_probability: SamplingProbability::new(part.sampling_rate).map_err(|e| e.to_string())?,
        steps: NonZeroU32::new(part.steps).ok_or("steps = 0")?,
    })
}
