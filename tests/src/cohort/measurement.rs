//! The 30 public columns of the synthetic cohort: vitals and laboratory values.
//!
//! A value is `center + spread * (loadings . factors + rest * normal)` on its scale, clipped to its limits and rounded.
//! Values ordered together (a blood gas, a liver panel) share one draw that decides what is missing, so they are present
//! or absent together, and sicker patients have more of them.

/// Latent factors of a patient, each about standard normal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Factor {
    /// How sick the patient is.
    Severity = 0,
    /// Inflammation.
    Inflammation = 1,
    /// Impairment of the kidneys.
    Renal = 2,
    /// Impairment of the liver.
    Hepatic = 3,
    /// Impairment of breathing.
    Respiratory = 4,
    /// Loss or dilution of blood.
    Anemia = 5,
}

/// Number of latent factors.
pub const FACTORS: usize = 6;

/// Number of panels.
pub const PANELS: usize = 6;

/// What is ordered together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Panel {
    /// Bedside monitor.
    Vitals = 0,
    /// Invasive or cuff diastolic pressure.
    Pressure = 1,
    /// Arterial blood gas.
    Gas = 2,
    /// Basic chemistry.
    Chemistry = 3,
    /// Liver panel.
    Liver = 4,
    /// Blood count and coagulation.
    Blood = 5,
}

/// Scale on which a measurement is normal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// The value itself.
    Plain,
    /// Its natural logarithm; center and spread are those of the logarithm.
    Log,
}

/// One public column.
#[derive(Debug, Clone, Copy)]
pub struct Measurement {
    /// Column name.
    pub name: &'static str,
    /// Scale of center and spread.
    pub scale: Scale,
    /// Center of a patient with all factors zero.
    pub center: f64,
    /// Deviation.
    pub spread: f64,
    /// Loadings on factors; the squares sum to less than one, the rest is independent.
    pub loadings: &'static [(Factor, f64)],
    /// Smallest and largest value.
    pub limits: [f64; 2],
    /// Decimals written.
    pub decimals: usize,
    /// What it is ordered with.
    pub panel: Panel,
    /// Fraction missing at a teaching hospital and at a community hospital.
    pub missing: [f64; 2],
}

use Factor::{Anemia, Hepatic, Inflammation, Renal, Respiratory, Severity};
use Panel::{Blood, Chemistry, Gas, Liver, Pressure, Vitals};
use Scale::{Log, Plain};

#[rustfmt::skip]
macro_rules! measurement {
    ($name:literal, $scale:ident $center:literal $spread:literal, [$($factor:ident $load:literal),*], $low:literal..$high:literal, $decimals:literal, $panel:ident, $a:literal $b:literal) => {
        Measurement {
            name: $name, scale: $scale, center: $center, spread: $spread, loadings: &[$(($factor, $load)),*],
            limits: [$low, $high], decimals: $decimals, panel: $panel, missing: [$a, $b],
        }
    };
}

/// All public columns in file order, in the units of the PhysioNet/CinC 2019 challenge.
#[rustfmt::skip]
pub const MEASUREMENTS: [Measurement; 30] = [
    measurement!("HR", Plain 84.0 16.0, [Severity 0.35, Inflammation 0.35], 30.0..190.0, 1, Vitals, 0.001 0.001),
    measurement!("O2Sat", Plain 97.0 2.6, [Severity -0.2, Respiratory -0.5], 60.0..100.0, 1, Vitals, 0.002 0.001),
    measurement!("Temp", Plain 36.9 0.7, [Inflammation 0.55], 32.0..41.5, 2, Vitals, 0.012 0.004),
    measurement!("SBP", Plain 124.0 21.0, [Severity -0.3, Inflammation -0.15], 45.0..240.0, 1, Vitals, 0.015 0.002),
    measurement!("MAP", Plain 83.0 14.0, [Severity -0.3, Inflammation -0.15], 30.0..180.0, 2, Vitals, 0.002 0.004),
    measurement!("DBP", Plain 64.0 13.0, [Severity -0.25], 20.0..150.0, 1, Pressure, 0.360 0.002),
    measurement!("Resp", Plain 19.0 4.8, [Severity 0.2, Respiratory 0.45, Inflammation 0.2], 5.0..50.0, 1, Vitals, 0.002 0.003),
    measurement!("BaseExcess", Plain -0.6 4.0, [Severity -0.3, Renal -0.3], -22.0..20.0, 1, Gas, 0.360 0.965),
    measurement!("HCO3", Plain 24.2 4.0, [Severity -0.25, Renal -0.35], 8.0..45.0, 1, Chemistry, 0.030 0.975),
    measurement!("FiO2", Plain 0.46 0.14, [Respiratory 0.6, Severity 0.25], 0.21..1.0, 2, Gas, 0.390 0.690),
    measurement!("pH", Plain 7.39 0.065, [Severity -0.3, Respiratory -0.25], 6.85..7.65, 2, Gas, 0.340 0.690),
    measurement!("PaCO2", Plain 40.5 8.5, [Respiratory 0.45], 18.0..95.0, 1, Gas, 0.365 0.690),
    measurement!("SaO2", Plain 95.5 3.8, [Respiratory -0.5, Severity -0.15], 55.0..100.0, 1, Gas, 0.600 0.725),
    measurement!("AST", Log 3.6 1.0, [Hepatic 0.7, Severity 0.2], 6.0..9000.0, 1, Liver, 0.690 0.560),
    measurement!("BUN", Log 2.85 0.65, [Renal 0.75, Severity 0.15], 2.0..180.0, 1, Chemistry, 0.025 0.080),
    measurement!("Alkalinephos", Log 4.3 0.55, [Hepatic 0.5], 10.0..2000.0, 1, Liver, 0.700 0.560),
    measurement!("Calcium", Plain 8.35 0.75, [Severity -0.25, Inflammation -0.2], 4.5..14.0, 1, Chemistry, 0.170 0.075),
    measurement!("Chloride", Plain 105.3 5.2, [Renal 0.1], 78.0..130.0, 1, Chemistry, 0.030 0.900),
    measurement!("Creatinine", Log 0.05 0.6, [Renal 0.8], 0.2..18.0, 2, Chemistry, 0.028 0.080),
    measurement!("Glucose", Log 4.82 0.3, [Severity 0.2, Inflammation 0.15], 30.0..600.0, 1, Chemistry, 0.024 0.056),
    measurement!("Lactate", Log 0.45 0.55, [Severity 0.55, Hepatic 0.2], 0.3..20.0, 2, Gas, 0.590 0.740),
    measurement!("Magnesium", Plain 2.05 0.33, [Renal 0.25], 0.8..5.0, 1, Chemistry, 0.070 0.180),
    measurement!("Phosphate", Plain 3.45 1.2, [Renal 0.5], 0.6..14.0, 1, Chemistry, 0.170 0.420),
    measurement!("Potassium", Plain 4.08 0.54, [Renal 0.35], 2.2..8.5, 1, Chemistry, 0.025 0.070),
    measurement!("Bilirubin_total", Log -0.2 0.9, [Hepatic 0.75], 0.1..45.0, 1, Liver, 0.700 0.560),
    measurement!("Hct", Plain 32.0 5.3, [Anemia -0.85], 14.0..60.0, 1, Blood, 0.022 0.098),
    measurement!("Hgb", Plain 10.7 1.9, [Anemia -0.85], 4.0..19.0, 1, Blood, 0.030 0.098),
    measurement!("PTT", Log 3.48 0.32, [Hepatic 0.35, Severity 0.2], 18.0..200.0, 1, Blood, 0.215 0.770),
    measurement!("WBC", Log 2.3 0.5, [Inflammation 0.6], 0.2..120.0, 1, Blood, 0.036 0.101),
    measurement!("Platelets", Log 5.2 0.5, [Hepatic -0.25, Severity -0.2], 5.0..1200.0, 1, Blood, 0.034 0.100),
];
