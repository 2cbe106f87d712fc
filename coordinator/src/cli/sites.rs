//! `sites`.

use clap::Args;
use fusiondp_proto::v1;
use fusiondp_protocol::RegisteredSite;
use fusiondp_protocol::convert::listed_sites;
use fusiondp_runtime::{out, outln};
use serde_json::json;

use super::table::Table;
use super::{AdminKit, admin, block_on};
use crate::text::{ago, time};

/// List the consortium's sites and which are connected.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  fusiondp-coordinator sites --admin kits/admin")]
pub(super) struct Sites {
    #[command(flatten)]
    kit: AdminKit,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Sites {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let sites = block_on(async {
            let mut admin = self.kit.connect().await?;
            let answer = admin.list_sites(v1::ListSitesRequest {}).await.map_err(admin::refusal)?;
            Ok(listed_sites(answer.into_inner())?)
        })?;
        if self.json {
            let sites: Vec<_> = sites.iter().map(as_json).collect();
            outln!("{}", serde_json::to_string_pretty(&sites)?)?;
        } else {
            out!("{}", table(&sites))?;
        }
        Ok(())
    }
}

fn as_json(site: &RegisteredSite) -> serde_json::Value {
    json!({
        "site_id": site.site_id.as_str(),
        "connected": site.connected,
        "agent_version": site.agent_version,
        "last_seen_ms": site.last_seen_ms,
        "peer_address": site.peer_address,
    })
}

fn table(sites: &[RegisteredSite]) -> Table {
    let mut table = Table::new(["SITE", "CONNECTED", "LAST SEEN", "AGENT", "ADDRESS"]);
    for site in sites {
        let connected = if site.connected { "yes" } else { "no" };
        let last_seen =
            site.last_seen_ms.map_or_else(|| "never".to_owned(), |at| format!("{} ({})", time(at), ago(at)));
        table.row([
            site.site_id.to_string(),
            connected.to_owned(),
            last_seen,
            site.agent_version.clone(),
            site.peer_address.clone(),
        ]);
    }
    table
}
