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

    /// For each kind the sum of the `most` largest counts: at least as many steps of every kind as any choice of `most` lists
    /// has together.
    #[must_use]
    pub fn of_the_worst<'a>(lists: impl IntoIterator<Item = &'a Self>, most: usize) -> Self {
        let mut by_kind: BTreeMap<Kind, Vec<u64>> = BTreeMap::new();
        for (kind, steps) in lists.into_iter().flat_map(|list| &list.0) {
            by_kind.entry(*kind).or_default().push(*steps);
        }
        let sum_of_largest = |mut counts: Vec<u64>| {
            counts.sort_unstable_by(|left, right| right.cmp(left));
            counts.into_iter().take(most).fold(0, u64::saturating_add)
        };
        Self(by_kind.into_iter().map(|(kind, counts)| (kind, sum_of_largest(counts))).collect())
    }

    /// Number of steps of all kinds.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().copied().fold(0, u64::saturating_add)
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
            prop_assert_eq!(counts.total(), steps.iter().map(|&(n, _)| u64::from(n)).sum::<u64>());
            let mut twice = counts.clone();
            twice.extend(&counts);
            let doubled: Vec<_> = kinds(&counts).into_iter().map(|(noise, rate, n)| (noise, rate, 2 * n)).collect();
            prop_assert_eq!(kinds(&twice), doubled);
            let mut more = counts.clone();
            more.add(&event(0.8, 1), 1);
            prop_assert!(counts.within(&more) && !more.within(&counts));
        }
    }

    proptest! {
        #[test]
        fn the_worst_lists_hold_every_choice_of_as_many(
            lists in proptest::collection::vec(proptest::collection::vec(0_u32..5, 3), 1..5), most in 0_usize..4,
        ) {
            let counts = |numbers: &Vec<u32>| {
                let mut counts = StepCounts::default();
                for (noise, &number) in [0.8, 1.5, 3.0].into_iter().zip(numbers) {
                    counts.add(&event(noise, 1), number.into());
                }
                counts
            };
            let lists: Vec<StepCounts> = lists.iter().map(counts).collect();
            let worst = StepCounts::of_the_worst(&lists, most);
            for choice in 0_u32..1 << lists.len() {
                if choice.count_ones() as usize <= most {
                    let mut together = StepCounts::default();
                    let chosen = lists.iter().enumerate().filter(|(index, _)| choice >> index & 1 == 1);
                    chosen.for_each(|(_, list)| together.extend(list));
                    prop_assert!(together.within(&worst));
                }
            }
            // And no more than that where there is nothing to choose.
            prop_assert_eq!(StepCounts::of_the_worst(&lists[..1], most.max(1)), lists[0].clone());
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
