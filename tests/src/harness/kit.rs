//! The consortium's file, and the settings in each site's kit.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use fusiondp_protocol::study::Study;

use super::HarnessError;
use super::toml_text::{SAMPLE_STUDY, TomlText};

/// What a site lets studies call public, and whom it counts as one patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicColumns {
    /// Public columns and labels.
    pub columns: Vec<String>,
    /// The column that names the patient; `None`: every record is a patient of its own.
    pub unit: Option<String>,
}

impl PublicColumns {
    /// Exactly what a study asks for.
    ///
    /// # Errors
    /// When the text is no study.
    pub fn of_study(study: &str) -> Result<Self, HarnessError> {
        let study = Study::parse(study).map_err(|e| HarnessError::form("study", e))?;
        let columns = study.schema.public().chain(study.schema.label());
        Ok(Self {
            columns: columns.map(|column| column.name.clone()).collect(),
            unit: study.privacy.unit_column,
        })
    }

    /// What the sample study asks for, whose columns all cohorts of the tests have.
    ///
    /// # Panics
    /// When the sample is no study, which its own tests refuse.
    #[must_use]
    pub fn of_sample() -> Self {
        // Unwrap safety: a test of the protocol reads the sample.
        #[allow(clippy::unwrap_used)]
        Self::of_study(SAMPLE_STUDY).unwrap()
    }
}

/// Limits that a site sets for itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// Budget of the data set over all studies, relation `replace`.
    pub max_epsilon_replace: f64,
    /// The same under `zero_out`.
    pub max_epsilon_zero_out: f64,
    /// Whether metrics may leave the site.
    pub allow_metrics: bool,
    /// Whether studies within the limits run without anybody's approval.
    pub automatic: bool,
}

impl Default for Policy {
    /// Enough for any study of the tests; metrics allowed.
    fn default() -> Self {
        Self { max_epsilon_replace: 20.0, max_epsilon_zero_out: 20.0, allow_metrics: true, automatic: true }
    }
}

/// One site of a federation on this machine.
#[derive(Debug, Clone)]
pub struct SiteSetup {
    /// Site id.
    pub id: String,
    /// Folder with train.csv and the cohorts.
    pub data: PathBuf,
    /// Cohorts by name, each `<name>.csv` in the folder.
    pub cohorts: Vec<String>,
    /// File of precomputed imputations, offered to every study.
    pub precomputed: Option<PathBuf>,
    /// Limits.
    pub policy: Policy,
    /// Columns that studies may call public.
    pub public: PublicColumns,
}

impl SiteSetup {
    /// A site on `data`, with every cohort whose file is there.
    #[must_use]
    pub fn new(id: &str, data: &Path) -> Self {
        let cohorts = ["val", "test"].into_iter().filter(|name| data.join(format!("{name}.csv")).is_file());
        Self {
            id: id.to_owned(),
            data: data.to_owned(),
            cohorts: cohorts.map(str::to_owned).collect(),
            precomputed: None,
            policy: Policy::default(),
            public: PublicColumns::of_sample(),
        }
    }
}

/// A port of 127.0.0.1 that is free now; `wanted` is checked, else any is taken.
///
/// # Errors
/// [`HarnessError::Port`] naming the port that is busy.
pub fn free_port(wanted: Option<u16>) -> Result<u16, HarnessError> {
    let port = wanted.unwrap_or(0);
    let listener =
        TcpListener::bind(("127.0.0.1", port)).map_err(|source| HarnessError::Port { port, source })?;
    let address = listener.local_addr().map_err(|source| HarnessError::Port { port, source })?;
    Ok(address.port())
}

/// Text of consortium.toml for a coordinator on 127.0.0.1.
#[must_use]
pub fn consortium(name: &str, port: u16, sites: &[SiteSetup]) -> String {
    let mut text = format!(
        "# Who takes part. Provisioning makes one certificate and one folder for each.\n\
         name = \"{name}\"\n\n\
         [coordinator]\n\
         id = \"coordinator\"\n\
         listen = \"127.0.0.1:{port}\"\n\
         url = \"https://localhost:{port}\"\n"
    );
    for site in sites {
        text.push_str(&format!(
            "\n[[sites]]\nid = \"{}\"\ntitle = \"{}\"\ncontact = \"it@{}.example\"\n",
            site.id, site.id, site.id
        ));
    }
    text
}

/// Fills in data, imputers and policy of a provisioned `site.toml`, as the site's IT would.
///
/// # Errors
/// When the file is missing or is no TOML.
pub fn configure_site(site_toml: &Path, site: &SiteSetup, imputers: &Path) -> Result<(), HarnessError> {
    let text = fs::read_to_string(site_toml).map_err(HarnessError::io(site_toml))?;
    let mut config = TomlText::new(&text);
    config.set("data", "train", absolute(&site.data.join("train.csv"))?)?;
    for cohort in &site.cohorts {
        config.set("data.cohorts", cohort, absolute(&site.data.join(format!("{cohort}.csv")))?)?;
    }
    config.set("imputer", "dir", absolute(imputers)?)?;
    if let Some(file) = &site.precomputed {
        config.set("imputer.precomputed", "\"*\"", absolute(file)?)?;
    }
    config.set("policy", "max_epsilon_replace", site.policy.max_epsilon_replace)?;
    config.set("policy", "max_epsilon_zero_out", site.policy.max_epsilon_zero_out)?;
    config.set("policy", "allow_public_gradient", true)?;
    config.set("policy", "allow_metrics", site.policy.allow_metrics)?;
    config.set("policy", "public_columns", site.public.columns.clone())?;
    match &site.public.unit {
        Some(column) => config.set("policy", "unit_column", column.as_str())?,
        None => config.set("policy", "unit_column", false)?,
    }
    config.set("policy", "approval", if site.policy.automatic { "automatic" } else { "by-hand" })?;
    fs::write(site_toml, config.text()).map_err(HarnessError::io(site_toml))
}

fn absolute(path: &Path) -> Result<String, HarnessError> {
    let absolute = std::path::absolute(path).map_err(HarnessError::io(path))?;
    let text = absolute.to_str().map(str::to_owned);
    text.ok_or_else(|| HarnessError::form(path.display(), "path is not UTF-8"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use toml::Table;

    use super::*;

    #[test]
    fn a_busy_port_is_named() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = free_port(Some(port)).unwrap_err().to_string();
        assert!(error.contains(&port.to_string()) && error.contains("--port"), "{error}");
        assert_ne!(free_port(None).unwrap(), port);
    }

    #[test]
    fn settings_of_a_kit_are_filled_in() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("site.toml");
        fs::write(&file, "coordinator = \"https://localhost:1\"\n[policy]\nmin_units = 3 # kept\n").unwrap();
        let mut site = SiteSetup::new("north", folder.path());
        site.cohorts = vec!["val".to_owned()];
        configure_site(&file, &site, Path::new("imputers")).unwrap();
        assert!(fs::read_to_string(&file).unwrap().contains("# kept"));
        let table: Table = fs::read_to_string(&file).unwrap().parse().unwrap();
        assert_eq!(table["policy"]["min_units"].as_integer(), Some(3));
        assert_eq!(table["policy"]["allow_metrics"].as_bool(), Some(true));
        assert_eq!(table["policy"]["approval"].as_str(), Some("automatic"));
        assert_eq!(table["policy"]["public_columns"].as_array().unwrap().len(), 31);
        assert!(table["data"]["cohorts"]["val"].as_str().unwrap().ends_with("/val.csv"));
        assert!(table["imputer"]["dir"].as_str().unwrap().starts_with('/'));
    }
}
