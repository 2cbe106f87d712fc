//! `fusiondp-site ledger restore` and `accept`.

use std::sync::Arc;

use fusiondp_runtime::clock::{Clock, SystemClock};
use fusiondp_runtime::outln;

use super::{AcceptArgs, Acceptable, RestoreArgs, WhyArgs};
use crate::config::SiteConfig;
use crate::store::ledger_file::LedgerFile;
use crate::store::repair::Decision;
use crate::store::{SiteLedger, Store};

/// Brings charges back from a file.
pub(super) async fn restore(config: &SiteConfig, args: &RestoreArgs) -> anyhow::Result<()> {
    let store = open(config).await?;
    let from = args.from.clone().unwrap_or_else(|| config.journal());
    let file = LedgerFile::read(&from)?;
    let restored = SiteLedger::restore(store, file, args.trust_key, &decision(&args.why)).await?;
    outln!(
        "{}: {} entries known already, {} added as they were, {} charged again at the end of the chain",
        from.display(),
        restored.known,
        restored.appended,
        restored.charged_again
    )?;
    Ok(outln!("the ledger counts every charge of the file; the agent can be started")?)
}

/// Records a decision.
pub(super) async fn accept(config: &SiteConfig, args: &AcceptArgs) -> anyhow::Result<()> {
    let (store, decision) = (open(config).await?, decision(&args.why));
    match args.what {
        Acceptable::Journal => {
            let entries = store.accept_journal(&decision).await?;
            outln!("a new journal of {entries} entries stands in {}", config.journal().display())?;
        }
        Acceptable::Clock => {
            let newest_ms = store.accept_clock(&decision).await?;
            let ahead_s = newest_ms.saturating_sub(decision.now_ms) / 1000;
            outln!("charges carry the newest one's time until the clock has passed it, in {ahead_s} s")?;
        }
        Acceptable::LostEntries => {
            let places = store.accept_lost_entries(&decision).await?;
            let places: Vec<String> = places.iter().map(u64::to_string).collect();
            outln!(
                "given up: entries {}. What they charged is counted nowhere at this site any more; lower the limits in [policy] \
                 by what they may have spent",
                places.join(", ")
            )?;
        }
    }
    Ok(())
}

async fn open(config: &SiteConfig) -> anyhow::Result<Arc<Store>> {
    Ok(Arc::new(Store::open_with_journal(&config.state_dir, &config.journal()).await?))
}

fn decision(why: &WhyArgs) -> Decision<'_> {
    Decision { reason: &why.reason, decided_by: &why.by, now_ms: SystemClock.now_ms() }
}
