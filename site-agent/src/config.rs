//! The site's configuration file, `site.toml`.
//!
//! Strict: an unknown field, a wrong type or a value out of range is refused with the field's path before anything is
//! opened. Paths are relative to the folder of the file. A variable `FUSIONDP_SITE__POLICY__MIN_UNITS=50` overrides
//! `[policy] min_units`.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use fusiondp_protocol::ids::CohortName;
use fusiondp_runtime::config::{ConfigError, Environment, load_layered, resolve};
use fusiondp_runtime::files::folder_of;
use fusiondp_runtime::telemetry::TelemetryConfig;
use fusiondp_runtime::tls::TlsFiles;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::data::RecordFiles;
use crate::data::identity::DeclaredIdentity;
use crate::policy::PolicyLimits;
use crate::store::journal::default_path;

/// Prefix of environment variables that override the file.
pub const ENVIRONMENT_PREFIX: &str = "FUSIONDP_SITE";

/// The variable that names the file; part of the command line.
pub const FILE_VARIABLE: &str = "FUSIONDP_SITE_CONFIG";

/// Everything an agent is told by its site.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteConfig {
    /// Address of the coordinator, `https://host:port`.
    pub coordinator: String,
    /// Id in the coordinator's certificate.
    pub coordinator_id: String,
    /// Folder of the ledger, the outbox and the cache; created with mode 0700.
    pub state_dir: PathBuf,
    /// Certificates.
    pub tls: TlsFiles,
    /// Records.
    pub data: DataConfig,
    /// Where imputers are found.
    #[serde(default)]
    pub imputer: ImputerConfig,
    /// Where the ledger is kept a second time.
    #[serde(default)]
    pub ledger: LedgerConfig,
    /// What the site permits.
    pub policy: PolicyLimits,
    /// What training may use of the machine.
    #[serde(default)]
    pub training: TrainingConfig,
    /// Logs.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
}

/// The `[data]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Records to train on: a CSV or Parquet file, or a list of files of one format.
    pub train: RecordFiles,
    /// Name under which the ledger counts this data; see [`crate::data::identity`].
    #[serde(default)]
    pub identity: Option<DeclaredIdentity>,
    /// Records to evaluate on by cohort, each as `train`.
    #[serde(default)]
    pub cohorts: BTreeMap<CohortName, RecordFiles>,
    /// Cohorts whose patients are in no other data set, as an administrator declares, and the name under which the ledger
    /// counts them. Others count as the training data.
    #[serde(default)]
    pub cohort_identity: BTreeMap<CohortName, DeclaredIdentity>,
}

/// The `[imputer]` section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImputerConfig {
    /// Folder of ONNX files; the one with the study's SHA-256 is used, whatever its name.
    #[serde(default)]
    pub dir: Option<PathBuf>,
    /// The ONNX Runtime library, if it is not where the agent looks on its own.
    #[serde(default)]
    pub onnx_runtime: Option<PathBuf>,
    /// Files of imputed values: by the digest that the study pins, or `"*"` for any study.
    #[serde(default)]
    pub precomputed: BTreeMap<String, PathBuf>,
    /// Output of the ONNX model that holds a feature: `"NAME"` or `"NAME[first:end]"`.
    #[serde(default)]
    pub outputs: BTreeMap<String, String>,
}

/// The `[ledger]` section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerConfig {
    /// File of the ledger's second copy, best on another volume than `state_dir` and in another backup; by default
    /// `<state_dir>.ledger.jsonl`.
    #[serde(default)]
    pub journal: Option<PathBuf>,
}

/// The `[training]` section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// Most threads that compute at once, at least 1; by default as many as the machine has cores. Results do not depend on
    /// it.
    #[serde(default)]
    pub threads: Option<NonZeroUsize>,
}

impl SiteConfig {
    /// Reads the file, applies the environment, and makes paths absolute to the file's folder.
    ///
    /// # Errors
    /// [`ConfigError`] naming file or variable, field, value problem and remedy.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let environment = Environment::of_process(ENVIRONMENT_PREFIX).besides(&[FILE_VARIABLE]);
        load_layered::<Decisions>(path, &environment)?.check(path)?;
        let mut config: Self = load_layered(path, &environment)?;
        config.check_cohorts(path)?;
        config.resolve_paths(folder_of(path));
        Ok(config)
    }

    /// An identity of a cohort that is not there is a typing error, and would charge the wrong data set.
    fn check_cohorts(&self, path: &Path) -> Result<(), ConfigError> {
        let mut declared = self.data.cohort_identity.keys();
        let Some(unknown) = declared.find(|cohort| !self.data.cohorts.contains_key(*cohort)) else {
            return Ok(());
        };
        Err(ConfigError::Field {
            origin: path.display().to_string(),
            field: format!("data.cohort_identity.{unknown}"),
            problem: "no such cohort in data.cohorts; name one that is there".to_owned(),
        })
    }

    /// File of the ledger's second copy.
    pub fn journal(&self) -> PathBuf {
        self.ledger.journal.clone().unwrap_or_else(|| default_path(&self.state_dir))
    }

    fn resolve_paths(&mut self, base: &Path) {
        self.tls = self.tls.resolved(base);
        for files in std::iter::once(&mut self.data.train).chain(self.data.cohorts.values_mut()) {
            files.resolve(base);
        }
        let optional =
            self.imputer.dir.iter_mut().chain(&mut self.imputer.onnx_runtime).chain(&mut self.ledger.journal);
        let mapped = self.imputer.precomputed.values_mut();
        for path in std::iter::once(&mut self.state_dir).chain(optional).chain(mapped) {
            *path = resolve(base, path);
        }
    }
}

/// What of `[policy]` has been decided. Read first, so that one message names every decision that is open.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Decisions {
    policy: PolicyDecisions,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PolicyDecisions {
    max_epsilon_replace: Option<IgnoredAny>,
    max_epsilon_zero_out: Option<IgnoredAny>,
    allow_public_gradient: Option<IgnoredAny>,
    allow_metrics: Option<IgnoredAny>,
    public_columns: Option<IgnoredAny>,
    unit_column: Option<IgnoredAny>,
}

impl Decisions {
    fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let decisions = [
            ("max_epsilon_replace", &self.policy.max_epsilon_replace),
            ("max_epsilon_zero_out", &self.policy.max_epsilon_zero_out),
            ("allow_public_gradient", &self.policy.allow_public_gradient),
            ("allow_metrics", &self.policy.allow_metrics),
            ("public_columns", &self.policy.public_columns),
            ("unit_column", &self.policy.unit_column),
        ];
        let open: Vec<&str> =
            decisions.iter().filter(|(_, made)| made.is_none()).map(|(name, _)| *name).collect();
        if open.is_empty() {
            return Ok(());
        }
        let problem = format!(
            "not decided yet: {}; these are the hospital's own decisions and have no default, so set each in [policy]",
            open.join(", ")
        );
        Err(ConfigError::Field { origin: path.display().to_string(), field: "policy".to_owned(), problem })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MINIMAL: &str = r#"
coordinator = "https://localhost:7443"
coordinator_id = "coordinator"
state_dir = "state"
[tls]
ca = "ca.pem"
certificate = "site.pem"
key = "site.key"
[data]
train = "train.csv"
cohorts = { val = "/data/val.csv" }
[policy]
max_epsilon_replace = 3.0
max_epsilon_zero_out = 3.0
allow_public_gradient = true
public_columns = ["age", "sepsis"]
unit_column = "patient_id"
allow_metrics = false
"#;

    fn read(text: &str) -> Result<SiteConfig, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("site.toml");
        std::fs::write(&path, text).unwrap();
        let config = SiteConfig::load(&path)?;
        assert_eq!(config.state_dir, folder.path().join("state"));
        Ok(config)
    }

    #[test]
    fn a_minimal_file_is_enough_and_paths_count_from_it() {
        let config = read(MINIMAL).unwrap();
        assert_eq!(config.data.cohorts.values().next().unwrap().paths(), [Path::new("/data/val.csv")]);
        assert!(config.tls.key.is_absolute());
    }

    #[test]
    fn records_are_a_file_or_a_list_of_one_format() {
        let line = MINIMAL.lines().find(|line| line.starts_with("train")).unwrap();
        let with = |train: &str| read(&MINIMAL.replace(line, &format!("train = {train}")));
        let list = with(r#"["one.csv", "/data/two.csv"]"#).unwrap().data.train;
        assert!(list.paths()[0].is_absolute() && list.paths()[1] == Path::new("/data/two.csv"));
        for (train, named) in [
            (r#""records.xlsx""#, "records.xlsx"),
            (r#"["one.csv", "two.txt"]"#, "two.txt"),
            ("[]", "no file"),
            ("3", "a file name, or a list of file names"),
            (r#"["one.csv", "one.csv"]"#, "one.csv is listed twice"),
        ] {
            let error = with(train).unwrap_err().to_string();
            assert!(error.contains("data.train") && error.contains(named), "{error}");
        }
        if cfg!(feature = "parquet") {
            assert_eq!(with(r#""x.parquet""#).unwrap().data.train.names(), "x.parquet");
            let mixed = with(r#"["one.csv", "two.parquet"]"#).unwrap_err().to_string();
            assert!(mixed.contains("one.csv") && mixed.contains("two.parquet"), "{mixed}");
        }
    }

    #[test]
    fn what_the_site_must_decide_has_no_default() {
        for field in [
            "max_epsilon_replace",
            "max_epsilon_zero_out",
            "allow_public_gradient",
            "allow_metrics",
            "public_columns",
            "unit_column",
        ] {
            let without: String = MINIMAL
                .lines()
                .filter(|line| !line.starts_with(field))
                .map(|line| format!("{line}\n"))
                .collect();
            let error = read(&without).unwrap_err().to_string();
            assert!(error.contains(field) && error.contains("policy"), "{error}");
        }
    }

    #[test]
    fn all_open_decisions_are_named_at_once() {
        let two = MINIMAL.replace("max_epsilon_replace = 3.0\n", "").replace("allow_metrics = false\n", "");
        let error = read(&two).unwrap_err().to_string();
        assert!(
            error.contains("site.toml") && error.contains("max_epsilon_replace, allow_metrics;"),
            "{error}"
        );
        let (without, _) = MINIMAL.split_once("[policy]").unwrap();
        let error = read(without).unwrap_err().to_string();
        let all = "max_epsilon_replace, max_epsilon_zero_out, allow_public_gradient, allow_metrics, public_columns, \
                   unit_column;";
        assert!(error.contains(all), "{error}");
    }

    #[test]
    fn an_identity_is_of_a_cohort_that_is_there() {
        let with = |line: &str| read(&MINIMAL.replace("[policy]", &format!("{line}\n[policy]")));
        let config = with("cohort_identity = { val = \"icu-2026-val\" }").unwrap();
        assert_eq!(config.data.cohort_identity.len(), 1);
        let error = with("cohort_identity = { test = \"icu-2026-val\" }").unwrap_err().to_string();
        assert!(error.contains("data.cohort_identity.test"), "{error}");
    }

    #[test]
    fn unknown_fields_and_wrong_types_are_named() {
        for (from, to, named) in [
            ("state_dir", "state_folder = \"x\"\nstate_dir", "state_folder"),
            ("allow_metrics = false", "allow_metrics = \"no\"", "policy.allow_metrics"),
            ("allow_metrics = false", "allow_metrics = false\n[training]\nthreads = 0", "training.threads"),
            ("max_epsilon_replace = 3.0", "max_epsilon_replace = \"infinity\"", "max_epsilon_replace"),
            ("max_epsilon_replace = 3.0", "max_epsilon_replace = -1.0", "max_epsilon_replace"),
            (
                "max_epsilon_zero_out",
                "min_noise_multiplier = 0.0\nmax_epsilon_zero_out",
                "min_noise_multiplier",
            ),
            ("unit_column = \"patient_id\"", "unit_column = true", "policy.unit_column"),
            ("unit_column = \"patient_id\"", "unit_column = \" \"", "policy.unit_column"),
            ("public_columns = [\"age\", \"sepsis\"]", "public_columns = \"*\"", "policy.public_columns"),
            ("allow_metrics = false", "allow_metrics = false\napproval = \"never\"", "policy.approval"),
            (
                "allow_metrics = false",
                "allow_metrics = false\nallowed_imputers = [\"ab\"]",
                "policy.allowed_imputers",
            ),
            (
                "allow_metrics = false",
                "allow_metrics = false\nper_year = { max_epsilon = 1.0 }",
                "policy.per_year",
            ),
            (
                "allow_metrics = false",
                "allow_metrics = false\nper_study = { max_epsilon_replace = inf }",
                "policy.per_study.max_epsilon_replace",
            ),
        ] {
            let error = read(&MINIMAL.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(named), "{named}: {error}");
        }
    }

    #[test]
    fn the_file_of_a_kit_stands_once_its_six_decisions_are_made() {
        let template =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../coordinator/src/provision/templates/site.toml");
        let mut text = std::fs::read_to_string(template).unwrap();
        for (placeholder, value) in
            [("{{coordinator_url}}", "https://localhost:7443"), ("{{coordinator_id}}", "coordinator")]
        {
            text = text.replace(placeholder, value);
        }
        let undecided = read(&text).unwrap_err().to_string();
        assert!(undecided.contains("policy"), "{undecided}");
        // Every option that the kit shows is one that the agent knows.
        let shown: String = text
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(option) if !option.starts_with(' ') && !option.is_empty() => format!("{option}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let config = read(&shown).unwrap();
        assert_eq!(config.training.threads.map(NonZeroUsize::get), Some(2));
        assert!(!config.policy.public_columns.is_empty() && config.imputer.onnx_runtime.is_some());
        assert_eq!(config.policy.allowed_imputers.as_ref().map(Vec::len), Some(1));
        assert!(config.policy.per_year.max_epsilon_zero_out.is_some());
        assert_eq!((config.data.cohorts.len(), config.imputer.outputs.len()), (2, 1));
    }
}
