//! The terminal view of a running study: one live line on a terminal, plain lines every few seconds elsewhere.

use std::fmt;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use fusiondp_protocol::{Metric, MetricFigures, StudyState, StudyStatus};
use fusiondp_runtime::console::OutputError;
use fusiondp_runtime::{errln, outln};
use indicatif::style::TemplateError;
use indicatif::{ProgressBar, ProgressStyle};

use crate::text::{duration, epsilon};

/// Between two plain lines.
const PLAIN_INTERVAL: Duration = Duration::from_secs(3);

/// Sites that the live line names; more are summed up.
const NAMED_SITES: usize = 4;

/// Follows one study.
pub struct Progress {
    bar: Option<ProgressBar>,
    plain: Plain,
    /// What the last plain line said of state and detail, and when.
    last: Option<(StudyState, String, Instant)>,
}

/// Where plain lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plain {
    /// To standard output: they are what the command is for.
    Output,
    /// To standard error, beside the output.
    Beside,
}

impl Plain {
    fn line(self, text: fmt::Arguments<'_>) -> Result<(), OutputError> {
        match self {
            Plain::Output => outln!("{text}"),
            Plain::Beside => {
                errln!("{text}");
                Ok(())
            }
        }
    }
}

impl Progress {
    /// A live line where standard error is a terminal.
    pub fn new(plain: Plain) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(1);
            bar.set_style(style());
            bar
        });
        Self { bar, plain, last: None }
    }

    /// Says one line above whatever is shown.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn say(&self, text: &str) -> Result<(), OutputError> {
        let line = || self.plain.line(format_args!("{text}"));
        match &self.bar {
            Some(bar) => bar.suspend(line),
            None => line(),
        }
    }

    /// Shows a status.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn show(&mut self, status: &StudyStatus) -> Result<(), OutputError> {
        match &self.bar {
            Some(bar) => {
                bar.set_length(u64::from(status.rounds.max(1)));
                bar.set_position(u64::from(status.round));
                bar.set_message(message(status));
                if status.state.has_ended() {
                    bar.finish();
                }
                Ok(())
            }
            None => self.show_plain(status),
        }
    }

    /// Shows that nothing is heard at present.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn lost(&mut self, reason: &str) -> Result<(), OutputError> {
        match &self.bar {
            Some(bar) => {
                bar.set_message(format!("{reason} · trying again"));
                Ok(())
            }
            // Said once per outage, and the next status at once.
            None if self.last.take().is_some() => self.plain.line(format_args!("{reason}; trying again")),
            None => Ok(()),
        }
    }

    fn show_plain(&mut self, status: &StudyStatus) -> Result<(), OutputError> {
        let now = Instant::now();
        let due = match &self.last {
            None => true,
            Some((state, detail, last)) => {
                *state != status.state || *detail != status.detail || now - *last >= PLAIN_INTERVAL
            }
        };
        if due {
            let (round, rounds) = (status.round, status.rounds);
            self.plain.line(format_args!("round {round}/{rounds}  {}", message(status)))?;
            self.last = Some((status.state, status.detail.clone(), now));
        }
        Ok(())
    }
}

fn style() -> ProgressStyle {
    // The template is a constant; without it the default style still shows the position.
    template().unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn template() -> Result<ProgressStyle, TemplateError> {
    ProgressStyle::with_template("{bar:24} {pos}/{len}  {wide_msg}")
}

/// Everything after the round: rate, remaining time, loss, newest metrics, epsilon per site.
fn message(status: &StudyStatus) -> String {
    let mut parts = vec![status.state.to_string()];
    if status.state == StudyState::Running {
        if status.rounds_per_s > 0.0 {
            parts.push(format!("{:.1} rounds/s", status.rounds_per_s));
            let left = f64::from(status.rounds.saturating_sub(status.round)) / status.rounds_per_s;
            parts.push(format!("{} left", duration(left)));
        }
        if status.public_loss > 0.0 {
            parts.push(format!("loss {:.4}", status.public_loss));
        }
    }
    parts.extend(newest(status).map(metric));
    parts.extend(spent(status));
    if !status.detail.is_empty() {
        parts.push(status.detail.clone());
    }
    parts.join(" · ")
}

/// Pooled figures of the newest evaluations: several cohorts where one model was evaluated on several.
fn newest(status: &StudyStatus) -> impl Iterator<Item = &Metric> {
    let pooled = || status.metrics.iter().filter(|metric| metric.site_id.is_none());
    let last = pooled().map(|metric| metric.round).max();
    pooled().filter(move |metric| Some(metric.round) == last)
}

fn metric(metric: &Metric) -> String {
    match metric.figures {
        MetricFigures::Exact { aupr, .. } => {
            format!("{} AUROC {:.4} AUPR {aupr:.4}", metric.cohort, metric.auroc)
        }
        MetricFigures::Noisy { auroc_error } => {
            format!("{} AUROC {:.4} ± {auroc_error:.4} with noise", metric.cohort, metric.auroc)
        }
    }
}

fn spent(status: &StudyStatus) -> Option<String> {
    let sites: Vec<_> = status.sites.iter().filter(|site| site.units > 0).collect();
    if sites.iter().all(|site| site.epsilon_replace.get() == 0.0) {
        return None;
    }
    let named = sites.iter().take(NAMED_SITES);
    let mut figures: Vec<String> =
        named.map(|site| format!("{} {}", site.site_id, epsilon(site.epsilon_replace.get()))).collect();
    if sites.len() > NAMED_SITES {
        figures.push(format!("and {} more", sites.len() - NAMED_SITES));
    }
    Some(format!("ε {}", figures.join(", ")))
}

#[cfg(test)]
mod tests;
