//! The whole privacy curve of releases, for a report and for who plans: as JSON and as drawings.

use fusiondp_dp::{AccountantError, NeighboringRelation, PrivacyProfile, ProfilePoint, StepCounts};
use serde_json::{Value, json};

use super::chart::{Below, Chart, Series};

/// Profiles of the same steps under both relations, `replace` first.
#[derive(Debug)]
pub(crate) struct Profiles([(NeighboringRelation, PrivacyProfile); 2]);

impl Profiles {
    /// The profiles of `steps`. CPU work: 32 deltas under each relation.
    ///
    /// # Errors
    /// Whatever the accountant refuses.
    pub(crate) fn of_steps(steps: &StepCounts) -> Result<Self, AccountantError> {
        let of = |relation| PrivacyProfile::of_steps(steps, relation).map(|profile| (relation, profile));
        Ok(Self([of(NeighboringRelation::Replace)?, of(NeighboringRelation::ZeroOut)?]))
    }

    /// Under one relation.
    pub(crate) fn of(&self, relation: NeighboringRelation) -> &PrivacyProfile {
        let [replace, zero_out] = &self.0;
        match relation {
            NeighboringRelation::Replace => &replace.1,
            NeighboringRelation::ZeroOut => &zero_out.1,
        }
    }

    /// By relation: points, trade-off, equivalent Gaussian mechanism, largest advantage.
    pub(crate) fn to_json(&self) -> Value {
        let one = |(relation, profile): &(NeighboringRelation, PrivacyProfile)| {
            let mu = profile.equivalent_gaussian();
            let miss =
                |rate: f64| json!({"false_alarms": rate, "missed_at_least": profile.least_miss_rate(rate)});
            let value = json!({
                "profile": profile,
                "gaussian_mu": mu.is_finite().then_some(mu),
                "largest_advantage": profile.largest_advantage(),
                "trade_off": rates().map(miss).collect::<Vec<_>>(),
            });
            (relation.to_string(), value)
        };
        self.0.iter().map(one).collect::<serde_json::Map<_, _>>().into()
    }

    /// Delta against epsilon.
    pub(crate) fn profile_chart(&self) -> Chart<'static> {
        let series = self.0.iter().enumerate().map(|(color, (relation, profile))| {
            let point = |point: &ProfilePoint| (point.epsilon.get(), point.delta.log10());
            let drawn = |point: &(f64, f64)| point.0.is_finite() && point.0 > 0.0;
            let mut points: Vec<(f64, f64)> = profile.points().iter().map(point).filter(drawn).collect();
            points.reverse();
            Series { name: relation.to_string(), color, dashed: false, points }
        });
        Chart {
            title: "Privacy profile: log10 of delta against epsilon",
            below: Below::Quantity("epsilon"),
            y_label: "log10 delta",
            from_zero: false,
            series: series.filter(|series| !series.points.is_empty()).collect(),
        }
    }

    /// What any attack misses, against its false alarms.
    pub(crate) fn trade_off_chart(&self) -> Chart<'static> {
        let curve = |(color, (relation, profile)): (usize, &(NeighboringRelation, PrivacyProfile))| {
            let points = rates().map(|rate| (rate, profile.least_miss_rate(rate))).collect();
            Series { name: relation.to_string(), color, dashed: false, points }
        };
        let mut series: Vec<Series> = self.0.iter().enumerate().map(curve).collect();
        let guessing = vec![(0.0, 1.0), (1.0, 0.0)];
        let color = series.len();
        series.push(Series { name: "guessing".to_owned(), color, dashed: true, points: guessing });
        Chart {
            title: "Trade-off: what any attack misses at least, against its false alarms",
            below: Below::Quantity("rate of false alarms"),
            y_label: "rate of misses",
            from_zero: true,
            series,
        }
    }
}

/// Rates of false alarms, denser near 0.
fn rates() -> impl Iterator<Item = f64> {
    (0..=100).map(|step| (f64::from(step) / 100.0).powi(2))
}
