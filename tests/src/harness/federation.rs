//! The whole federation: provision, serve, run, submit, wait, export.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fusiondp_runtime::outln;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::kit::{configure_site, consortium, free_port};
use super::{CommandLine, HarnessError, Process, SiteSetup};

/// Name of the coordinator's program.
pub const COORDINATOR: &str = "fusiondp-coordinator";
/// Name of the site agent's program.
pub const SITE: &str = "fusiondp-site";
/// Name of the simulation's program.
pub const SIMULATE: &str = "fusiondp-simulate";

/// How a federation is set up.
#[derive(Debug, Clone)]
pub struct FederationOptions {
    /// Name of the consortium.
    pub name: String,
    /// Port of the coordinator; any free one if absent.
    pub port: Option<u16>,
    /// Print each command as a user would type it.
    pub echo: bool,
}

impl Default for FederationOptions {
    fn default() -> Self {
        Self { name: "test".to_owned(), port: None, echo: false }
    }
}

/// One coordinator and its sites, all below one folder. Dropping it kills every process.
#[derive(Debug)]
pub struct Federation {
    root: PathBuf,
    port: u16,
    echo: bool,
    setups: Vec<SiteSetup>,
    coordinator: Option<Process>,
    sites: Vec<Option<Process>>,
}

impl Federation {
    /// Writes consortium.toml below `root`, provisions certificates and kits, fills in each site's settings.
    ///
    /// # Errors
    /// A busy port, an unwritable folder, or what `provision` says.
    pub async fn provision(
        root: &Path,
        setups: Vec<SiteSetup>,
        options: FederationOptions,
    ) -> Result<Self, HarnessError> {
        let port = free_port(options.port)?;
        fs::create_dir_all(root.join("imputers")).map_err(HarnessError::io(root))?;
        let file = root.join("consortium.toml");
        fs::write(&file, consortium(&options.name, port, &setups)).map_err(HarnessError::io(&file))?;
        let sites = setups.iter().map(|_| None).collect();
        let federation =
            Self { root: root.to_owned(), port, echo: options.echo, setups, coordinator: None, sites };
        let line = CommandLine::new(COORDINATOR).arg("provision").arg(&file);
        federation.say(line.arg("--out").arg(federation.pki())).stdout().await?;
        for site in &federation.setups {
            configure_site(&federation.site_toml(&site.id), site, &federation.imputers())?;
        }
        Ok(federation)
    }

    /// Folder that holds everything.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Port of the coordinator on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What provisioning wrote.
    #[must_use]
    pub fn pki(&self) -> PathBuf {
        self.root.join("kits")
    }

    /// Folder of ONNX imputers that every site reads.
    #[must_use]
    pub fn imputers(&self) -> PathBuf {
        self.root.join("imputers")
    }

    /// The admin's kit.
    #[must_use]
    pub fn admin(&self) -> PathBuf {
        self.pki().join("admin")
    }

    /// Configuration of a site.
    #[must_use]
    pub fn site_toml(&self, site: &str) -> PathBuf {
        self.pki().join("sites").join(site).join("site.toml")
    }

    /// Configuration of the coordinator.
    #[must_use]
    pub fn coordinator_toml(&self) -> PathBuf {
        self.pki().join("coordinator").join("coordinator.toml")
    }

    /// The coordinator's database.
    #[must_use]
    pub fn coordinator_database(&self) -> PathBuf {
        self.pki().join("coordinator").join("state").join("coordinator.sqlite")
    }

    /// Log file of the coordinator.
    #[must_use]
    pub fn coordinator_log(&self) -> PathBuf {
        self.root.join("logs").join("coordinator.log")
    }

    /// Log file of a site.
    #[must_use]
    pub fn site_log(&self, site: &str) -> PathBuf {
        self.root.join("logs").join(format!("{site}.log"))
    }

    /// Ids of the sites.
    pub fn site_ids(&self) -> impl Iterator<Item = &str> {
        self.setups.iter().map(|site| site.id.as_str())
    }

    fn say(&self, line: CommandLine) -> CommandLine {
        if self.echo {
            // Nobody who reads an echo misses it: the command itself still runs.
            outln!("$ {line}").ok();
        }
        line
    }

    /// Starts the coordinator and waits until it accepts connections.
    ///
    /// # Errors
    /// When it ends at once or does not listen within 20 seconds.
    pub async fn start_coordinator(&mut self) -> Result<(), HarnessError> {
        let line = CommandLine::new(COORDINATOR).args(["serve", "--config"]).arg(self.coordinator_toml());
        let process = Process::start("coordinator", &self.say(line), &self.coordinator_log())?;
        let process = self.coordinator.insert(process);
        let limit = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            process.check_alive()?;
            if Instant::now() > limit {
                return Err(HarnessError::Timeout {
                    what: format!("the coordinator to listen on port {}", self.port),
                    seconds: 20,
                    seen: process.log_text(),
                });
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// The command that checks a site's installation, and its data against a study.
    #[must_use]
    pub fn check_site(&self, site: &str, study: Option<&Path>) -> CommandLine {
        let mut line = CommandLine::new(SITE).args(["check", "--config"]).arg(self.site_toml(site));
        if let Some(study) = study {
            line = line.arg("--study").arg(study);
        }
        self.say(line)
    }

    /// Starts one site's agent.
    ///
    /// # Errors
    /// When it does not start, or no site has this id.
    pub fn start_site(&mut self, site: &str) -> Result<(), HarnessError> {
        let index = self.index(site)?;
        let line = CommandLine::new(SITE).args(["run", "--config"]).arg(self.site_toml(site));
        self.sites[index] = Some(Process::start(site, &self.say(line), &self.site_log(site))?);
        Ok(())
    }

    /// Starts every site's agent.
    ///
    /// # Errors
    /// When one does not start.
    pub fn start_sites(&mut self) -> Result<(), HarnessError> {
        for id in self.setups.iter().map(|site| site.id.clone()).collect::<Vec<_>>() {
            self.start_site(&id)?;
        }
        Ok(())
    }

    /// Kills the coordinator without warning.
    ///
    /// # Errors
    /// When it is not running.
    pub async fn kill_coordinator(&mut self) -> Result<(), HarnessError> {
        let process = self.coordinator.take();
        process.ok_or_else(|| HarnessError::form("coordinator", "is not running"))?.kill().await
    }

    /// Kills a site's agent without warning.
    ///
    /// # Errors
    /// When it is not running.
    pub async fn kill_site(&mut self, site: &str) -> Result<(), HarnessError> {
        let index = self.index(site)?;
        let process = self.sites[index].take();
        process.ok_or_else(|| HarnessError::form(site, "is not running"))?.kill().await
    }

    /// The coordinator's log so far.
    #[must_use]
    pub fn coordinator_log_text(&self) -> String {
        fs::read_to_string(self.coordinator_log()).unwrap_or_default()
    }

    /// A site's log so far.
    #[must_use]
    pub fn site_log_text(&self, site: &str) -> String {
        fs::read_to_string(self.site_log(site)).unwrap_or_default()
    }

    fn index(&self, site: &str) -> Result<usize, HarnessError> {
        let found = self.setups.iter().position(|setup| setup.id == site);
        found.ok_or_else(|| HarnessError::form(site, "is not a site of this federation"))
    }

    /// An error if a process that should run has ended.
    ///
    /// # Errors
    /// [`HarnessError::Died`] with the end of its log.
    pub fn check_alive(&mut self) -> Result<(), HarnessError> {
        for process in self.coordinator.iter_mut().chain(self.sites.iter_mut().flatten()) {
            process.check_alive()?;
        }
        Ok(())
    }

    /// `fusiondp-coordinator study VERB …` with the admin's kit.
    #[must_use]
    pub fn study(&self, verb: &str) -> CommandLine {
        CommandLine::new(COORDINATOR).args(["study", verb, "--admin"]).arg(self.admin())
    }

    /// Submits a study document and returns its id.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub async fn submit(&self, document: &Path) -> Result<String, HarnessError> {
        let line = self.say(self.study("submit").arg(document));
        let said = line.stdout().await?;
        let id = said.split_whitespace().find(|word| is_study_id(word));
        id.map(str::to_owned).ok_or_else(|| HarnessError::form(line, format!("no study id in {said:?}")))
    }

    /// The study's status as JSON.
    ///
    /// # Errors
    /// When the coordinator refuses or answers no JSON.
    pub async fn status(&self, study: &str) -> Result<Value, HarnessError> {
        let line = self.study("status").args([study, "--json"]);
        let said = line.stdout().await?;
        serde_json::from_str(&said).map_err(|e| HarnessError::form(line, format!("{e} in {said:?}")))
    }

    /// Waits until the status satisfies `reached`; fails at once when the study has ended otherwise or a process died.
    ///
    /// # Errors
    /// [`HarnessError::Timeout`] with the last status, [`HarnessError::Died`], or what `status` says.
    pub async fn wait_until(
        &mut self,
        study: &str,
        what: &str,
        limit: Duration,
        reached: impl Fn(&Value) -> bool,
    ) -> Result<Value, HarnessError> {
        let end = Instant::now() + limit;
        loop {
            self.check_alive()?;
            let status = self.status(study).await?;
            if reached(&status) {
                return Ok(status);
            }
            let ended = ["finished", "stopped", "failed"].contains(&text(&status, "state"));
            if ended || Instant::now() > end {
                return Err(HarnessError::Timeout {
                    what: what.to_owned(),
                    seconds: limit.as_secs(),
                    seen: serde_json::to_string_pretty(&status).unwrap_or_default(),
                });
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until the study has finished.
    ///
    /// # Errors
    /// As [`Federation::wait_until`].
    pub async fn wait_finished(&mut self, study: &str, limit: Duration) -> Result<Value, HarnessError> {
        self.wait_until(study, "the study to finish", limit, |status| text(status, "state") == "finished")
            .await
    }

    /// Writes the report folder of a study.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub async fn export(&self, study: &str, out: &Path) -> Result<(), HarnessError> {
        self.say(self.study("export").arg(study).arg("--out").arg(out)).stdout().await.map(drop)
    }

    /// `fusiondp-site ledger show --json` of a site.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn ledger(&self, site: &str, delta: f64) -> Result<Value, HarnessError> {
        let line = CommandLine::new(SITE).args(["ledger", "show", "--json", "--config"]);
        let line = self.say(line.arg(self.site_toml(site)).arg("--delta").arg(delta.to_string()));
        let said = line.stdout().await?;
        serde_json::from_str(&said).map_err(|e| HarnessError::form(line, e))
    }

    /// `fusiondp-site ledger verify` of a site.
    ///
    /// # Errors
    /// When the chain is broken.
    pub async fn verify_ledger(&self, site: &str) -> Result<String, HarnessError> {
        let line = CommandLine::new(SITE).args(["ledger", "verify", "--config"]);
        self.say(line.arg(self.site_toml(site))).stdout().await
    }

    /// Ends every process: agents first, each with SIGTERM and a moment to leave cleanly.
    ///
    /// # Errors
    /// When one does not end within 20 seconds.
    pub async fn stop(mut self) -> Result<(), HarnessError> {
        let running = self.sites.iter_mut().filter_map(Option::take).chain(self.coordinator.take());
        for process in running.collect::<Vec<_>>() {
            process.terminate(Duration::from_secs(20)).await?;
        }
        Ok(())
    }
}

/// The text at `key` of a JSON object, empty when absent.
#[must_use]
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Slug, dash, eight hex digits.
fn is_study_id(word: &str) -> bool {
    word.rsplit_once('-').is_some_and(|(slug, digest)| {
        !slug.is_empty() && digest.len() == 8 && digest.chars().all(|c| c.is_ascii_hexdigit())
    })
}
