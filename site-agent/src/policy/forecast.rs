//! What a study would cost this site, for whoever has to approve it.
//!
//! Noise and sampling probability of a study follow from the number of patients of all sites, which nobody knows before
//! enrollment has closed. Noise and rate are told as if the site were alone; with more sites both are lower. A study with a
//! target epsilon keeps to it under one relation, and may come out higher under the other with more sites: epsilons are
//! the worst of this site alone and of 2, 4, ... 64 times as many patients, which is an estimate and no bound. The agent
//! recomputes the plan when it stands and stops at its limits, whatever the forecast said.

use std::num::NonZeroU32;

use fusiondp_dp::{
    AccountantError, DpEvent, Epsilon, NeighboringRelation, NoiseMultiplier, ParameterError, Released,
    SamplingProbability, calibrate_noise, calibrate_noise_beside,
};
use fusiondp_protocol::ids::CohortName;
use fusiondp_protocol::study::{BatchSize, PrivacyTarget, Study};

use super::counts::counts_event;
use super::meter::{EpsilonMeter, Spent, StepCounts};
use super::{Past, PolicyLimits, Scope};

/// Patients of all sites over those of this one, as powers of two.
const MORE_PATIENTS: u32 = 6;

/// Figures of a study for one site.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// Noise deviation over the clip norm, if the site is alone.
    pub noise_multiplier: NoiseMultiplier,
    /// Probability with which a unit enters the sample of one step, if the site is alone.
    pub sampling_probability: SamplingProbability,
    /// Private steps of the whole study.
    pub steps: u64,
    /// Tables of counts that leave with noise on the training data's account.
    pub counts: Option<DpEvent>,
    /// The study's training without any other at its own delta, estimated.
    pub study: Spent,
    /// The second tier, in a study that has one.
    pub records: Option<RecordForecast>,
    /// What counts against each limit, at the policy's delta.
    pub limits: Vec<ForecastLine>,
}

/// Figures of the public part of a study that protects whole records.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RecordForecast {
    /// Noise deviation over the clip norm, if the site is alone.
    pub noise_multiplier: NoiseMultiplier,
    /// Probability with which a unit enters the sample of one step's public part, if the site is alone.
    pub sampling_probability: SamplingProbability,
    /// What whole records lose by both parts of the study at its own delta, estimated.
    pub study: Spent,
}

/// One limit, or one figure that nothing limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ForecastLine {
    /// What is counted.
    pub scope: Scope,
    /// Under which relation.
    pub relation: NeighboringRelation,
    /// Spent so far.
    pub spent: Epsilon,
    /// Spent when the study has ended, estimated, or so far where there is no study to come.
    pub then: Epsilon,
    /// The limit; `None` where nothing binds.
    pub limit: Option<Epsilon>,
}

/// No forecast can be made.
#[derive(Debug, thiserror::Error)]
pub enum ForecastError {
    /// A figure is out of range.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// The accountant refuses.
    #[error(transparent)]
    Accountant(#[from] AccountantError),
}

impl Forecast {
    /// The forecast for a site of `units` privacy units, with the tables of `counts` that it charges to the training data;
    /// `None` for a study without a private part. CPU work of up to seconds.
    ///
    /// # Errors
    /// Whatever the accountant refuses.
    pub fn of(
        study: &Study,
        units: u64,
        (past, counts): (&Past, Option<DpEvent>),
        limits: &PolicyLimits,
        meter: &EpsilonMeter,
    ) -> Result<Option<Self>, ForecastError> {
        let rounds = study.training.rounds.saturating_sub(study.warmup_rounds());
        let Some(steps) = NonZeroU32::new(rounds.saturating_mul(study.training.local_steps)) else {
            return Ok(None);
        };
        let at =
            |times: u64| Self::at(study, units.saturating_mul(times), steps, (past, counts, limits, meter));
        let mut forecast = at(1)?;
        let depends = matches!(study.privacy.target, PrivacyTarget::Epsilon { .. })
            && matches!(study.training.expected_batch_size, BatchSize::Expected(_));
        for doublings in (1..=MORE_PATIENTS).filter(|_| depends || study.privacy.records.is_some()) {
            forecast.worsen(&at(1 << doublings)?);
        }
        Ok(Some(forecast))
    }

    fn at(
        study: &Study,
        units: u64,
        steps: NonZeroU32,
        (past, counts, limits, meter): (&Past, Option<DpEvent>, &PolicyLimits, &EpsilonMeter),
    ) -> Result<Self, ForecastError> {
        let sampling_probability = sampling_probability(study.training.expected_batch_size, units)?;
        let noise_multiplier = noise(study, sampling_probability, steps)?;
        let event = DpEvent::PoissonSampledGaussian { noise_multiplier, sampling_probability, steps };
        let public = public_event(study, units, &event)?;
        let mut releases = vec![(Released::PrivateSum, event)];
        releases.extend(public.map(|event| (Released::PublicSum, event)));
        releases.extend(counts.map(|event| (Released::PrivateSum, event)));
        let of_records = |public: DpEvent| {
            Ok::<_, AccountantError>(RecordForecast {
                noise_multiplier: public.noise_multiplier(),
                sampling_probability: public.sampling_probability(),
                study: meter.spent(&StepCounts::of(&[event, public]), study.privacy.delta)?,
            })
        };
        Ok(Self {
            records: public.map(of_records).transpose()?,
            noise_multiplier,
            sampling_probability,
            steps: u64::from(steps.get()),
            counts,
            study: meter.spent(&StepCounts::of(&[event]), study.privacy.delta)?,
            limits: lines(past, &releases, limits, meter)?,
        })
    }

    /// Takes the worse of each epsilon.
    fn worsen(&mut self, other: &Self) {
        self.study.replace = self.study.replace.max(other.study.replace);
        self.study.zero_out = self.study.zero_out.max(other.study.zero_out);
        if let Some((own, other)) = self.records.as_mut().zip(other.records) {
            own.study.replace = own.study.replace.max(other.study.replace);
            own.study.zero_out = own.study.zero_out.max(other.study.zero_out);
        }
        for (line, other) in self.limits.iter_mut().zip(&other.limits) {
            line.then = line.then.max(other.then);
        }
    }
}

/// Every scope under both relations: spent so far, and with `releases` on top. Whole records are left out where no limit,
/// no release and nothing that was charged is about them.
///
/// # Errors
/// Whatever the accountant refuses.
pub fn lines(
    past: &Past,
    releases: &[(Released, DpEvent)],
    limits: &PolicyLimits,
    meter: &EpsilonMeter,
) -> Result<Vec<ForecastLine>, AccountantError> {
    let mut lines = Vec::new();
    let of_records = limits.records.is_some()
        || releases.iter().any(|(released, _)| *released == Released::PublicSum)
        || (past.records != StepCounts::default() && !past.records_lost);
    for scope in Scope::ALL.into_iter().filter(|scope| *scope != Scope::Records || of_records) {
        let bounded = scope != Scope::Records || !past.records_lost;
        let of = |steps: &StepCounts, relation| match bounded {
            true => meter.epsilon(steps, limits.delta, relation),
            false => Ok(Epsilon::INFINITE),
        };
        let mut after = past.in_scope(scope).clone();
        for (_, event) in releases.iter().filter(|(released, _)| scope.counts(released)) {
            after.add(event, u64::from(event.steps().get()));
        }
        for relation in NeighboringRelation::ALL {
            lines.push(ForecastLine {
                scope,
                relation,
                spent: of(past.in_scope(scope), relation)?,
                then: of(&after, relation)?,
                limit: limits.max_epsilon(scope, relation),
            });
        }
    }
    Ok(lines)
}

/// The tables of counts of a whole study, but for those of cohorts that are data of their own.
pub fn counts_of(study: &Study, is_other_data: impl Fn(&CohortName) -> bool) -> Option<DpEvent> {
    let mut evaluation = study.evaluation.clone();
    // What is other data leaves its evaluations out of the count.
    evaluation.final_cohort = evaluation.final_cohort.filter(|cohort| !is_other_data(cohort));
    evaluation.during = evaluation.during.filter(|cohort| !is_other_data(cohort));
    let tables = NonZeroU32::new(evaluation.evaluations(study.training.rounds))?;
    Some(counts_event(study)?.with_steps(tables))
}

fn sampling_probability(batch: BatchSize, units: u64) -> Result<SamplingProbability, ParameterError> {
    SamplingProbability::new(match batch {
        BatchSize::All => 1.0,
        BatchSize::Expected(expected) => (f64::from(expected) / units.max(1) as f64).min(1.0),
    })
}

/// All public parts of a study that protects whole records.
fn public_event(study: &Study, units: u64, private: &DpEvent) -> Result<Option<DpEvent>, ForecastError> {
    let Some(records) = &study.privacy.records else { return Ok(None) };
    let Some(steps) = NonZeroU32::new(study.public_rounds()) else { return Ok(None) };
    let sampling_probability = sampling_probability(records.expected_batch_size, units)?;
    let noise_multiplier = match records.target {
        PrivacyTarget::NoiseMultiplier { noise_multiplier } => noise_multiplier,
        PrivacyTarget::Epsilon { epsilon, relation } => {
            let overlap = u64::from(study.federation.max_overlap.max(1));
            let mut beside = StepCounts::default();
            beside.add(private, u64::from(private.steps().get()).saturating_mul(overlap));
            let of_all = u64::from(steps.get()).saturating_mul(overlap);
            let steps = u32::try_from(of_all).ok().and_then(NonZeroU32::new).unwrap_or(steps);
            calibrate_noise_beside(
                &beside,
                epsilon,
                study.privacy.delta,
                relation,
                sampling_probability,
                steps,
            )?
        }
    };
    Ok(Some(DpEvent::PoissonSampledGaussian { noise_multiplier, sampling_probability, steps }))
}

fn noise(
    study: &Study,
    q: SamplingProbability,
    steps: NonZeroU32,
) -> Result<NoiseMultiplier, AccountantError> {
    match study.privacy.target {
        PrivacyTarget::NoiseMultiplier { noise_multiplier } => Ok(noise_multiplier),
        PrivacyTarget::Epsilon { epsilon, relation } => {
            let overlap = study.federation.max_overlap.max(1);
            let steps = NonZeroU32::new(steps.get().saturating_mul(overlap)).unwrap_or(steps);
            calibrate_noise(epsilon, study.privacy.delta, relation, q, steps)
        }
    }
}
