//! The consortium file: who takes part, and where the coordinator is.
//!
//! ```toml
//! name = "Sepsis consortium"
//! validity_days = 365              # of certificates; optional
//! authority_validity_days = 3650   # of the authority; optional
//!
//! [coordinator]
//! id = "coordinator"               # optional
//! listen = "0.0.0.0:7443"          # optional
//! url = "https://fusiondp.example.org:7443"
//! host_names = ["10.0.0.5"]        # further names and addresses of its host; optional
//!
//! [[sites]]
//! id = "leipzig"
//! title = "University hospital"
//! contact = "it@hospital.example"
//! ```

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use fusiondp_protocol::study::Federation;
use fusiondp_runtime::config::{ConfigError, load_file};
use fusiondp_runtime::files::{FileError, read_limited};
use fusiondp_runtime::identity::{IdentityError, validate_id};
use serde::Deserialize;

/// Longest title, contact or name, in characters.
const MAX_TEXT: usize = 120;
/// Longest life of a certificate, 30 years.
const MAX_DAYS: u32 = 10_950;
/// Larger files are no consortium.
const MAX_BYTES: u64 = 1 << 20;

/// A validated consortium file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsortiumFile {
    name: String,
    #[serde(default = "default_validity_days")]
    validity_days: u32,
    #[serde(default = "default_authority_validity_days")]
    authority_validity_days: u32,
    coordinator: CoordinatorEntry,
    sites: Vec<SiteEntry>,
    #[serde(skip)]
    text: String,
}

/// Section `[coordinator]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoordinatorEntry {
    #[serde(default = "default_coordinator_id")]
    id: String,
    #[serde(default = "default_listen")]
    listen: SocketAddr,
    url: String,
    #[serde(default)]
    host_names: Vec<String>,
}

/// One entry of `[[sites]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteEntry {
    id: String,
    title: String,
    contact: String,
}

/// Why a consortium file was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConsortiumError {
    /// Not readable, not TOML, or a field of the wrong kind.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A value is refused.
    #[error("{}: {problem}", path.display())]
    Field {
        /// Which file.
        path: PathBuf,
        /// Field, value and remedy.
        problem: FieldError,
    },
}

/// Why a value of a consortium file was refused.
#[derive(Debug, thiserror::Error)]
pub enum FieldError {
    /// An id that no certificate can carry.
    #[error("{field}: {source}")]
    Id {
        /// Which field.
        field: String,
        /// Why.
        source: IdentityError,
    },
    /// A value outside its permitted form.
    #[error("{field} = {value:?} {problem}")]
    Value {
        /// Which field.
        field: String,
        /// As written.
        value: String,
        /// What is wrong and what is expected.
        problem: String,
    },
}

fn default_validity_days() -> u32 {
    365
}

fn default_authority_validity_days() -> u32 {
    3_650
}

fn default_coordinator_id() -> String {
    "coordinator".to_owned()
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 7443))
}

impl ConsortiumFile {
    /// Reads and validates a consortium file.
    ///
    /// # Errors
    /// [`ConsortiumError`], naming field, value and remedy.
    pub fn load(path: &Path) -> Result<Self, ConsortiumError> {
        let mut consortium: Self = load_file(path)?;
        consortium.text = String::from_utf8_lossy(&read_limited(path, MAX_BYTES)?).into_owned();
        let refused = |problem| ConsortiumError::Field { path: path.to_owned(), problem };
        consortium.validate().map_err(refused)?;
        Ok(consortium)
    }

    /// Name for people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Life of the participants' certificates, in days.
    #[must_use]
    pub fn validity_days(&self) -> u32 {
        self.validity_days
    }

    /// Life of the authority, in days.
    #[must_use]
    pub fn authority_validity_days(&self) -> u32 {
        self.authority_validity_days
    }

    /// The coordinator.
    #[must_use]
    pub fn coordinator(&self) -> &CoordinatorEntry {
        &self.coordinator
    }

    /// The sites, in the file's order.
    #[must_use]
    pub fn sites(&self) -> &[SiteEntry] {
        &self.sites
    }

    /// The file as it was read.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    fn validate(&self) -> Result<(), FieldError> {
        check_text("name", &self.name)?;
        check_days("validity_days", self.validity_days)?;
        check_days("authority_validity_days", self.authority_validity_days)?;
        self.coordinator.validate()?;
        if self.sites.is_empty() {
            return Err(value_error("sites", "[]", "is empty; name at least one [[sites]] entry"));
        }
        if self.sites.len() > Federation::MAX_SITES as usize {
            let problem = format!("is too many; a consortium has at most {} sites", Federation::MAX_SITES);
            return Err(value_error("sites", &self.sites.len().to_string(), &problem));
        }
        let mut seen = BTreeSet::new();
        for (index, site) in self.sites.iter().enumerate() {
            site.validate(index)?;
            if !seen.insert(site.id.as_str()) {
                return Err(value_error(
                    &format!("sites[{index}].id"),
                    &site.id,
                    "is used twice; ids must differ",
                ));
            }
        }
        Ok(())
    }
}

impl CoordinatorEntry {
    /// Id in its certificate.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Address it listens on.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Address that sites and admins connect to.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Names and addresses of its host, for tools that check them; FusionDP itself checks the id only.
    #[must_use]
    pub fn hosts(&self) -> Vec<String> {
        let mut hosts: Vec<String> = host_of(&self.url).map(str::to_owned).into_iter().collect();
        for name in &self.host_names {
            if !hosts.contains(name) {
                hosts.push(name.clone());
            }
        }
        hosts
    }

    fn validate(&self) -> Result<(), FieldError> {
        check_id("coordinator.id", &self.id)?;
        let host = host_of(&self.url).ok_or_else(|| {
            value_error("coordinator.url", &self.url, "is not of the form https://host:port, without a path")
        })?;
        check_host("coordinator.url", host)?;
        self.host_names
            .iter()
            .enumerate()
            .try_for_each(|(index, name)| check_host(&format!("coordinator.host_names[{index}]"), name))
    }
}

impl SiteEntry {
    /// Id in its certificate and name of its folder.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Name for people.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Whom the consortium calls at the site.
    #[must_use]
    pub fn contact(&self) -> &str {
        &self.contact
    }

    fn validate(&self, index: usize) -> Result<(), FieldError> {
        check_id(&format!("sites[{index}].id"), &self.id)?;
        check_text(&format!("sites[{index}].title"), &self.title)?;
        check_text(&format!("sites[{index}].contact"), &self.contact)
    }
}

fn value_error(field: &str, value: &str, problem: &str) -> FieldError {
    FieldError::Value { field: field.to_owned(), value: value.to_owned(), problem: problem.to_owned() }
}

fn check_id(field: &str, id: &str) -> Result<(), FieldError> {
    validate_id(id).map_err(|source| FieldError::Id { field: field.to_owned(), source })?;
    // A DNS label, which an id becomes, must not end so.
    if id.ends_with('-') { Err(value_error(field, id, "must not end with a hyphen")) } else { Ok(()) }
}

fn check_text(field: &str, text: &str) -> Result<(), FieldError> {
    if text.trim().is_empty() {
        return Err(value_error(field, text, "is empty"));
    }
    if text.chars().count() > MAX_TEXT || text.chars().any(char::is_control) {
        let problem = format!("must be one line of at most {MAX_TEXT} characters");
        return Err(value_error(field, text, &problem));
    }
    Ok(())
}

fn check_days(field: &str, days: u32) -> Result<(), FieldError> {
    if (1..=MAX_DAYS).contains(&days) {
        return Ok(());
    }
    Err(value_error(field, &days.to_string(), &format!("must lie between 1 and {MAX_DAYS} days")))
}

fn check_host(field: &str, host: &str) -> Result<(), FieldError> {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let dns = host.len() <= 253 && host.split('.').all(label);
    // The certificate's identity is its only name with this ending.
    let reserved = host.ends_with(".fusiondp");
    if host.parse::<IpAddr>().is_ok() || (dns && !reserved) {
        return Ok(());
    }
    Err(value_error(field, host, "is neither an IP address nor a DNS name (outside .fusiondp)"))
}

/// Host of `https://host:port`; IPv6 addresses in brackets.
fn host_of(url: &str) -> Option<&str> {
    let authority = url.strip_prefix("https://")?;
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let (host, port) = authority.rsplit_once(':')?;
    let port = port.parse::<u16>().ok()?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    (port != 0).then(|| bracketed.unwrap_or(host))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const GOOD: &str = "name = \"Demo\"\n[coordinator]\nurl = \"https://localhost:7443\"\n\
                        [[sites]]\nid = \"a\"\ntitle = \"A\"\ncontact = \"a@x\"\n";

    fn read(text: &str) -> Result<ConsortiumFile, ConsortiumError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("consortium.toml");
        std::fs::write(&path, text).unwrap();
        ConsortiumFile::load(&path)
    }

    #[test]
    fn defaults_are_the_documented_ones_and_the_text_is_kept() {
        let consortium = read(GOOD).unwrap();
        assert_eq!((consortium.validity_days(), consortium.authority_validity_days()), (365, 3_650));
        assert_eq!(consortium.coordinator().listen().to_string(), "0.0.0.0:7443");
        assert_eq!(consortium.coordinator().id(), "coordinator");
        assert_eq!(consortium.coordinator().hosts(), ["localhost"]);
        assert_eq!(consortium.text(), GOOD);
    }

    #[test]
    fn hosts_are_the_urls_and_the_further_ones() {
        let with = |url: &str| {
            GOOD.replace("https://localhost:7443\"", &format!("{url}\"\nhost_names = [\"10.0.0.5\"]"))
        };
        let hosts = |url| read(&with(url)).unwrap().coordinator().hosts();
        assert_eq!(hosts("https://f.example.org:443"), ["f.example.org", "10.0.0.5"]);
        assert_eq!(hosts("https://[::1]:443/"), ["::1", "10.0.0.5"]);
        assert_eq!(hosts("https://10.0.0.5:443"), ["10.0.0.5"]);
    }

    #[test]
    fn every_misuse_is_named() {
        let replaced = |old: &str, new: &str| read(&GOOD.replace(old, new)).unwrap_err().to_string();
        for (old, new, fragments) in [
            ("https://localhost:7443", "http://localhost:7443", ["coordinator.url", "https://host:port"]),
            ("https://localhost:7443", "https://localhost", ["coordinator.url", "https://host:port"]),
            ("https://localhost:7443", "https://localhost:0", ["coordinator.url", "https://host:port"]),
            ("https://localhost:7443", "https://a b:1", ["coordinator.url", "DNS name"]),
            ("https://localhost:7443", "https://x.site.fusiondp:1", ["coordinator.url", ".fusiondp"]),
            ("id = \"a\"", "id = \"A\"", ["sites[0].id", "invalid id `A`"]),
            ("id = \"a\"", "id = \"../a\"", ["sites[0].id", "invalid id"]),
            ("id = \"a\"", "id = \"a-\"", ["sites[0].id", "hyphen"]),
            ("title = \"A\"", "title = \" \"", ["sites[0].title", "empty"]),
            ("contact = \"a@x\"", "contact = \"a\\nb\"", ["sites[0].contact", "one line"]),
            ("name = \"Demo\"", "name = \"Demo\"\nvalidity_days = 0", ["validity_days", "between 1 and"]),
            ("name = \"Demo\"", "name = \"Demo\"\nvalidity_days = 1.5", ["validity_days", "u32"]),
            ("name = \"Demo\"", "name = \"Demo\"\ncolor = 1", ["color", "unknown field"]),
            ("name = \"Demo\"", "", ["name", "missing field"]),
        ] {
            let error = replaced(old, new);
            assert!(fragments.iter().all(|fragment| error.contains(fragment)), "{new}: {error}");
            assert!(error.contains("consortium.toml"), "{error}");
        }
        let twice = format!("{GOOD}[[sites]]\nid = \"a\"\ntitle = \"B\"\ncontact = \"b\"\n");
        assert!(read(&twice).unwrap_err().to_string().contains("used twice"));
        let none = "name = \"x\"\nsites = []\n[coordinator]\nurl = \"https://localhost:1\"\n";
        assert!(read(none).unwrap_err().to_string().contains("at least one"));
    }
}
