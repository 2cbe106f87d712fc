//! A synthetic intensive-care cohort with the columns of the PhysioNet/CinC 2019 sepsis files.
//!
//! For demonstrations and tests on machines where no real data stands. Nothing in it was sampled or fitted from patient
//! records: every constant stands in [`measurement`], [`profile`] and [`patient`], chosen by hand in plausible
//! physiological ranges. The same [`CohortSpec`] gives the same bytes on every platform (ChaCha20 keyed by SHA-256,
//! elementary functions of `libm`), and patient `k` of a hospital does not change when more patients are asked for.
//!
//! What it is built to show:
//!
//! * hospitals that differ in case mix (age, severity, prevalence) and in what they record (one hardly ever HCO3, the
//!   other often no DBP; ages in whole years at every second one);
//! * sensitive features that matter non-linearly (age is U-shaped, hours in the unit act through thresholds) and that
//!   the public features reveal only in part, so that a model with the private part visibly gains over a public one;
//! * rare positives, 5 to 10 % of patients.
//!
//! | module | content |
//! |---|---|
//! | [`draw`] | the keyed random stream of one patient |
//! | [`measurement`] | the 30 public columns: center, spread, loadings, panels, missing rates |
//! | [`profile`] | what distinguishes a hospital |
//! | [`patient`] | latent state, sensitive features, outcome |
//! | [`files`] | folders and CSV files |

pub mod draw;
pub mod files;
pub mod measurement;
pub mod patient;
pub mod profile;
#[cfg(test)]
mod tests;

pub use files::{CohortError, HospitalSummary, hospital_name, write};

/// Most hospitals of one cohort: they are named by the letters a to z.
pub const MAX_HOSPITALS: u32 = 26;

/// Most patients of one hospital.
pub const MAX_PATIENTS: u32 = 1_000_000;

/// Header of a synthetic (and of a real) train, val or test file without the label.
pub const FEATURE_COLUMNS: [&str; 37] = [
    "patient_id",
    "HR",
    "O2Sat",
    "Temp",
    "SBP",
    "MAP",
    "DBP",
    "Resp",
    "BaseExcess",
    "HCO3",
    "FiO2",
    "pH",
    "PaCO2",
    "SaO2",
    "AST",
    "BUN",
    "Alkalinephos",
    "Calcium",
    "Chloride",
    "Creatinine",
    "Glucose",
    "Lactate",
    "Magnesium",
    "Phosphate",
    "Potassium",
    "Bilirubin_total",
    "Hct",
    "Hgb",
    "PTT",
    "WBC",
    "Platelets",
    "Age",
    "Gender",
    "Unit1",
    "Unit2",
    "HospAdmTime",
    "ICULOS",
];

/// Name of the label column.
pub const LABEL_COLUMN: &str = "SepsisLabel";

/// Size and seed of a cohort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CohortSpec {
    hospitals: u32,
    patients: u32,
    seed: u64,
}

impl CohortSpec {
    /// A cohort of `hospitals` folders (1 to 26) with `patients` patients each (50 to 1,000,000): 70 % for training,
    /// 10 % for validation, 20 % for test, and a quarter as many further patients a hospital without label for
    /// fitting imputers.
    ///
    /// # Errors
    /// Either count outside its range.
    pub fn new(hospitals: u32, patients: u32, seed: u64) -> Result<Self, CohortError> {
        if !(1..=MAX_HOSPITALS).contains(&hospitals) {
            return Err(CohortError::Hospitals { given: hospitals });
        }
        if !(50..=MAX_PATIENTS).contains(&patients) {
            return Err(CohortError::Patients { given: patients });
        }
        Ok(Self { hospitals, patients, seed })
    }

    /// Number of hospitals.
    #[must_use]
    pub fn hospitals(self) -> u32 {
        self.hospitals
    }

    /// Patients of each hospital over train, val and test.
    #[must_use]
    pub fn patients(self) -> u32 {
        self.patients
    }

    /// Further patients of each hospital in the support file.
    #[must_use]
    pub fn support_patients(self) -> u32 {
        self.patients / 4
    }

    /// Seed.
    #[must_use]
    pub fn seed(self) -> u64 {
        self.seed
    }
}
