//! What tables of counts with noise add up to: by cohort, of the worst sites, and together with training.
//!
//! The report and `receipts verify` compose the same steps here, each with an accountant of its own.

use std::collections::BTreeMap;

use fusiondp_dp::{ChargeRequest, Released, StepCounts};
use fusiondp_protocol::SiteId;

/// Steps of tables of counts, of as many of the worst sites as may hold the same patient.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CountsSteps {
    /// Of each cohort by itself.
    pub(crate) cohorts: BTreeMap<String, StepCounts>,
    /// Of all cohorts together.
    pub(crate) tables: StepCounts,
}

impl CountsSteps {
    /// From the charges of each site; those of training are passed over. `None` where no table was charged.
    pub(crate) fn of_the_worst<'a>(
        charges: impl IntoIterator<Item = (&'a SiteId, &'a ChargeRequest)>,
        overlap: u32,
    ) -> Option<Self> {
        let mut cohorts: BTreeMap<&str, BTreeMap<&SiteId, StepCounts>> = BTreeMap::new();
        let mut sites: BTreeMap<&SiteId, StepCounts> = BTreeMap::new();
        for (site, charge) in charges {
            let Released::Counts { cohort } = &charge.released else { continue };
            let steps = charge.event.steps().get().into();
            cohorts.entry(cohort).or_default().entry(site).or_default().add(&charge.event, steps);
            sites.entry(site).or_default().add(&charge.event, steps);
        }
        let worst = |sites: &BTreeMap<&SiteId, StepCounts>| {
            StepCounts::of_the_worst(sites.values(), overlap as usize)
        };
        (!sites.is_empty()).then(|| Self {
            cohorts: cohorts.iter().map(|(cohort, sites)| ((*cohort).to_owned(), worst(sites))).collect(),
            tables: worst(&sites),
        })
    }

    /// Of a patient who is in every cohort and in the training data, whose steps each site lists.
    pub(crate) fn with_training<'a>(
        &self,
        training: impl IntoIterator<Item = &'a StepCounts>,
        overlap: u32,
    ) -> StepCounts {
        let mut steps = StepCounts::of_the_worst(training, overlap as usize);
        steps.extend(&self.tables);
        steps
    }
}
