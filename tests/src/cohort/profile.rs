//! What distinguishes one synthetic hospital from another.

/// How a hospital records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Older, sicker patients; blood gases and HCO3 nearly always, DBP often not.
    Teaching = 0,
    /// Younger patients; HCO3 nearly never, DBP always, ages in whole years.
    Community = 1,
}

/// Case mix and recording habits of one hospital.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    /// Recording habits.
    pub kind: Kind,
    /// Mean age in years.
    pub age_mean: f64,
    /// Deviation of age in years.
    pub age_spread: f64,
    /// Mean of the severity factor.
    pub severity: f64,
    /// Fraction of men.
    pub men: f64,
    /// Fraction admitted to the first of two units, where the unit is recorded.
    pub first_unit: f64,
    /// Fraction of patients without a recorded unit.
    pub unit_missing: f64,
    /// Logarithm of the median hours in intensive care.
    pub log_hours: f64,
    /// Intercept of the outcome, sets the prevalence.
    pub intercept: f64,
    /// Factor on every missing rate of [`Kind`], so that no two hospitals record alike.
    pub missing_factor: f64,
}

impl Profile {
    /// The profile of hospital `index` (counted from 0): teaching and community hospitals in turn, each later one
    /// shifted a little from the first of its kind.
    #[must_use]
    pub fn of(index: u32) -> Self {
        let base = if index.is_multiple_of(2) { TEACHING } else { COMMUNITY };
        let shift = f64::from(index / 2);
        let sign = if (index / 2).is_multiple_of(2) { 1.0 } else { -1.0 };
        let shift = sign * shift / (1.0 + 0.25 * shift);
        Self {
            age_mean: base.age_mean + 2.0 * shift,
            severity: base.severity + 0.08 * shift,
            men: base.men - 0.02 * shift,
            first_unit: base.first_unit + 0.05 * shift,
            log_hours: base.log_hours + 0.04 * shift,
            intercept: base.intercept - 0.12 * shift,
            missing_factor: base.missing_factor * (1.0 - 0.06 * shift),
            ..base
        }
    }
}

const TEACHING: Profile = Profile {
    kind: Kind::Teaching,
    age_mean: 65.0,
    age_spread: 16.0,
    severity: 0.2,
    men: 0.58,
    first_unit: 0.52,
    unit_missing: 0.45,
    log_hours: 3.65,
    intercept: -4.85,
    missing_factor: 1.0,
};

const COMMUNITY: Profile = Profile {
    kind: Kind::Community,
    age_mean: 59.0,
    age_spread: 18.0,
    severity: -0.2,
    men: 0.53,
    first_unit: 0.48,
    unit_missing: 0.28,
    log_hours: 3.5,
    intercept: -4.5,
    missing_factor: 1.0,
};
