//! Steps counted by their parameters: what epsilon depends on, whatever the order of composition.

use std::collections::BTreeMap;

use crate::event::DpEvent;

/// How many steps of each kind were or will be taken; equal for events that compose to the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct StepCounts(BTreeMap<Kind, u64>);

/// What is released, and the bits of noise multiplier and sampling probability.
type Kind = (Release, u64, u64);

/// What the noise is added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Release {
    /// A sum of contributions in a ball.
    Sum,
    /// A table of counts.
    Histogram,
}

/// Equal steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Steps {
    /// What the noise is added to.
    pub(crate) release: Release,
    /// Noise deviation over the largest contribution.
    pub(crate) noise_multiplier: f64,
    /// Probability with which each unit takes part.
    pub(crate) probability: f64,
    /// How many.
    pub(crate) steps: u64,
}

impl StepCounts {
    /// Counts the steps of events.
    #[must_use]
    pub fn of(events: &[DpEvent]) -> Self {
        let mut counts = Self::default();
        events.iter().for_each(|event| counts.add(event, u64::from(event.steps().get())));
        counts
    }

    /// Adds `steps` steps of one kind; the event's own number of steps is ignored.
    ///
    /// A count stays at its greatest number, which is more than any accountant accepts.
    pub fn add(&mut self, event: &DpEvent, steps: u64) {
        let release = match event {
            DpEvent::PoissonSampledGaussian { .. } => Release::Sum,
            DpEvent::GaussianHistogram { .. } => Release::Histogram,
        };
        let (noise, probability) = (event.noise_multiplier(), event.sampling_probability());
        let kind = (release, noise.get().to_bits(), probability.get().to_bits());
        let count = self.0.entry(kind).or_default();
        *count = count.saturating_add(steps);
    }

    /// Adds all steps of another list.
    pub fn extend(&mut self, other: &Self) {
        for (kind, steps) in &other.0 {
            let count = self.0.entry(*kind).or_default();
            *count = count.saturating_add(*steps);
        }
    }

    /// Whether every kind has at most as many steps here as there.
    #[must_use]
    pub fn within(&self, other: &Self) -> bool {
        self.0.iter().all(|(kind, steps)| *steps <= other.0.get(kind).copied().unwrap_or(0))
    }

    /// The steps of each kind, in a fixed order.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = Steps> + '_ {
        self.0.iter().map(|(&(release, noise, probability), &steps)| Steps {
            release,
            noise_multiplier: f64::from_bits(noise),
            probability: f64::from_bits(probability),
            steps,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;
    use crate::params::{NoiseMultiplier, SamplingProbability};

    /// Noise multiplier, sampling probability and number of steps of each kind of sums.
    fn kinds(counts: &StepCounts) -> Vec<(f64, f64, u64)> {
        counts.kinds().map(|kind| (kind.noise_multiplier, kind.probability, kind.steps)).collect()
    }

    fn event(noise: f64, steps: u32) -> DpEvent {
        DpEvent::PoissonSampledGaussian {
            noise_multiplier: NoiseMultiplier::new(noise).unwrap(),
            sampling_probability: SamplingProbability::new(0.5).unwrap(),
            steps: NonZeroU32::new(steps).unwrap(),
        }
    }

    proptest! {
        #[test]
        fn counts_do_not_depend_on_order(
            steps in proptest::collection::vec((1_u32..5, 0_usize..3), 0..12)
        ) {
            let mut events: Vec<DpEvent> =
                steps.iter().map(|&(n, kind)| event([0.8, 1.5, 3.0][kind], n)).collect();
            let counts = StepCounts::of(&events);
            events.reverse();
            prop_assert_eq!(&counts, &StepCounts::of(&events));
            prop_assert!(counts.within(&counts));
            let total: u64 = counts.kinds().map(|kind| kind.steps).sum();
            prop_assert_eq!(total, steps.iter().map(|&(n, _)| u64::from(n)).sum::<u64>());
            let mut twice = counts.clone();
            twice.extend(&counts);
            let doubled: Vec<_> = kinds(&counts).into_iter().map(|(noise, rate, n)| (noise, rate, 2 * n)).collect();
            prop_assert_eq!(kinds(&twice), doubled);
            let mut more = counts.clone();
            more.add(&event(0.8, 1), 1);
            prop_assert!(counts.within(&more) && !more.within(&counts));
        }
    }

    #[test]
    fn equal_events_are_counted_together_wherever_they_stand_and_beyond_one_event() {
        let mut counts = StepCounts::of(&[event(2.0, 3), event(4.0, 1), event(2.0, u32::MAX)]);
        assert_eq!(kinds(&counts), [(2.0, 0.5, u64::from(u32::MAX) + 3), (4.0, 0.5, 1)]);
        counts.add(&event(4.0, 1), u64::MAX);
        assert_eq!(kinds(&counts).last(), Some(&(4.0, 0.5, u64::MAX)));
    }
}
