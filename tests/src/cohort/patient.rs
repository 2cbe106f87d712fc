//! One synthetic patient: latent state, sensitive features, measurements, outcome.

use super::draw::{Draw, logistic, normal_cdf};
use super::measurement::{FACTORS, Factor, MEASUREMENTS, Measurement, PANELS, Scale};
use super::profile::{Kind, Profile};

/// A generated patient. Cells are text as written to the file; an empty cell is missing.
pub struct Patient {
    /// The 30 public cells in file order.
    pub public: Vec<String>,
    /// Age, Gender, Unit1, Unit2, HospAdmTime, ICULOS.
    pub sensitive: [String; 6],
    /// Sepsis at any time.
    pub label: bool,
}

/// Sensitive state before it is written.
struct Hidden {
    age: f64,
    male: bool,
    /// First unit, second unit, or not recorded.
    unit: Option<bool>,
    /// Hours from hospital admission to intensive care, at most 0.
    admission: f64,
    hours: f64,
}

/// Draws patient `index` (counted from 0) of hospital `hospital` (counted from 0).
#[must_use]
pub fn generate(seed: u64, hospital: u32, index: u64) -> Patient {
    let profile = Profile::of(hospital);
    let mut draw = Draw::of_patient(seed, hospital, index);
    let severity = profile.severity + draw.normal();
    let hidden = hidden(&profile, severity, &mut draw);
    let factors = factors(severity, &hidden, &mut draw);
    let public = public_cells(&profile, &factors, &hidden, &mut draw);
    let label = draw.chance(logistic(outcome_logit(&profile, &factors, &hidden)));
    Patient { public, sensitive: sensitive_cells(profile.kind, &hidden), label }
}

fn hidden(profile: &Profile, severity: f64, draw: &mut Draw) -> Hidden {
    let age = (profile.age_mean + profile.age_spread * draw.normal()).clamp(18.0, 95.0);
    let male = draw.chance(profile.men);
    let first = draw.chance(profile.first_unit);
    let unit = (!draw.chance(profile.unit_missing)).then_some(first);
    let direct = draw.chance(0.55);
    let before = if direct { 1.5 * draw.normal().abs() } else { libm::exp(3.6 + 1.2 * draw.normal()) };
    let hours = libm::round(libm::exp(profile.log_hours + 0.62 * draw.normal() + 0.08 * severity));
    Hidden { age, male, unit, admission: -before.min(4000.0), hours: hours.clamp(8.0, 336.0) }
}

/// Latent factors: organ impairments follow severity, and some carry a trace of the sensitive features.
fn factors(severity: f64, hidden: &Hidden, draw: &mut Draw) -> [f64; FACTORS] {
    let age = (hidden.age - 62.0) / 17.0;
    let long_stay = (libm::log(hidden.hours) - 3.6) / 0.62;
    let mut factors = [0.0; FACTORS];
    factors[Factor::Severity as usize] = severity;
    factors[Factor::Inflammation as usize] = 0.55 * severity + 0.8 * draw.normal();
    factors[Factor::Renal as usize] = 0.3 * severity + 0.35 * age + 0.85 * draw.normal();
    factors[Factor::Hepatic as usize] = 0.3 * severity + 0.9 * draw.normal();
    factors[Factor::Respiratory as usize] = 0.4 * severity + 0.1 * age + 0.85 * draw.normal();
    let sex = if hidden.male { -0.25 } else { 0.25 };
    factors[Factor::Anemia as usize] = 0.25 * severity + 0.3 * long_stay + sex + 0.85 * draw.normal();
    factors
}

/// Log-odds of sepsis. Age acts by both ends, hours in the unit by thresholds; severity and inflammation are public in
/// part through the measurements.
fn outcome_logit(profile: &Profile, factors: &[f64; FACTORS], hidden: &Hidden) -> f64 {
    let age = (hidden.age - 58.0) / 17.0;
    let by_age = (0.55 * age * age).min(2.2);
    let by_hours = match hidden.hours {
        h if h < 14.0 => 1.8,
        h if h < 48.0 => -0.9,
        h if h < 72.0 => 0.9,
        h if h < 110.0 => 2.3,
        _ => 3.2,
    };
    let by_unit = if hidden.unit == Some(true) { 0.3 } else { 0.0 };
    let by_admission = if hidden.admission < -168.0 { 0.5 } else { 0.0 };
    profile.intercept
        + 0.6 * factors[Factor::Severity as usize]
        + 0.7 * factors[Factor::Inflammation as usize]
        + 0.25 * factors[Factor::Renal as usize]
        + by_age
        + by_hours
        + by_unit
        + by_admission
}

fn public_cells(
    profile: &Profile,
    factors: &[f64; FACTORS],
    hidden: &Hidden,
    draw: &mut Draw,
) -> Vec<String> {
    let mut ordered = [0.0; PANELS];
    for panel in &mut ordered {
        *panel = normal_cdf(0.9 * draw.normal() + 0.43 * (factors[0] - profile.severity));
    }
    let mut systolic = None;
    let mut cells = Vec::with_capacity(MEASUREMENTS.len());
    for measurement in &MEASUREMENTS {
        let mut value = measure(measurement, factors, draw);
        match measurement.name {
            "SBP" => systolic = Some(value),
            // Pressures of one patient belong together: the mean lies a third of the way up from the diastolic.
            "MAP" | "DBP" => {
                let share = if measurement.name == "MAP" { 0.72 } else { 0.5 };
                let tied = share * systolic.unwrap_or(124.0);
                value = (0.35 * value + 0.65 * tied).clamp(measurement.limits[0], measurement.limits[1]);
            }
            "Creatinine" if hidden.male => value = (value * 1.12).min(measurement.limits[1]),
            _ => {}
        }
        let rate = (measurement.missing[profile.kind as usize] * profile.missing_factor).min(0.999);
        let missing = ordered[measurement.panel as usize] < rate;
        cells.push(if missing { String::new() } else { format!("{value:.0$}", measurement.decimals) });
    }
    cells
}

fn measure(measurement: &Measurement, factors: &[f64; FACTORS], draw: &mut Draw) -> f64 {
    let mut explained = 0.0;
    let mut signal = 0.0;
    for &(factor, loading) in measurement.loadings {
        signal += loading * factors[factor as usize];
        explained += loading * loading;
    }
    let standard = signal + libm::sqrt(1.0 - explained) * draw.normal();
    let on_scale = measurement.center + measurement.spread * standard;
    let value = match measurement.scale {
        Scale::Plain => on_scale,
        Scale::Log => libm::exp(on_scale),
    };
    value.clamp(measurement.limits[0], measurement.limits[1])
}

fn sensitive_cells(kind: Kind, hidden: &Hidden) -> [String; 6] {
    let flag = |value: bool| if value { "1.0" } else { "0.0" }.to_owned();
    let age = match kind {
        Kind::Teaching => format!("{:.2}", hidden.age),
        Kind::Community => format!("{:.1}", libm::round(hidden.age)),
    };
    let unit = |first: bool| hidden.unit.map_or_else(String::new, |is_first| flag(is_first == first));
    [
        age,
        flag(hidden.male),
        unit(true),
        unit(false),
        format!("{:.2}", hidden.admission),
        format!("{:.1}", hidden.hours),
    ]
}
