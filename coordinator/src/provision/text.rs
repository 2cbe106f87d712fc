//! The files for people, filled in from `templates/`.
//!
//! A line `#option = value` in a template is an option at its default; prose begins with `# `. The tests hold every such
//! line to be valid once its `#` is gone.

use super::consortium::{ConsortiumFile, SiteEntry};

const COORDINATOR: &str = include_str!("templates/coordinator.toml");
const ADMIN: &str = include_str!("templates/admin.toml");
const SITE: &str = include_str!("templates/site.toml");
const SITE_README: &str = include_str!("templates/README.md");

pub(super) fn coordinator_toml(consortium: &ConsortiumFile) -> String {
    fill(COORDINATOR, &common(consortium))
}

pub(super) fn admin_toml(consortium: &ConsortiumFile) -> String {
    fill(ADMIN, &common(consortium))
}

pub(super) fn site_toml(consortium: &ConsortiumFile, site: &SiteEntry) -> String {
    fill(SITE, &with_site(consortium, site))
}

pub(super) fn site_readme(consortium: &ConsortiumFile, site: &SiteEntry) -> String {
    fill(SITE_README, &with_site(consortium, site))
}

type Fields = Vec<(&'static str, String)>;

fn common(consortium: &ConsortiumFile) -> Fields {
    let coordinator = consortium.coordinator();
    vec![
        ("{{consortium}}", consortium.name().to_owned()),
        ("{{coordinator_url}}", coordinator.url().to_owned()),
        ("{{coordinator_id}}", coordinator.id().to_owned()),
        ("{{listen}}", coordinator.listen().to_string()),
        ("{{validity_days}}", consortium.validity_days().to_string()),
    ]
}

fn with_site(consortium: &ConsortiumFile, site: &SiteEntry) -> Fields {
    let mut fields = common(consortium);
    fields.push(("{{site_id}}", site.id().to_owned()));
    fields.push(("{{site_title}}", site.title().to_owned()));
    fields.push(("{{site_contact}}", site.contact().to_owned()));
    fields
}

fn fill(template: &str, fields: &Fields) -> String {
    // One pass over the template, so that text from the consortium file is never read as a field again.
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        let found = fields.iter().find_map(|(name, value)| {
            let tail = after.strip_prefix(name.trim_start_matches("{{"))?;
            Some((value, tail))
        });
        match found {
            Some((value, tail)) => {
                filled.push_str(value);
                rest = tail;
            }
            None => {
                filled.push_str("{{");
                rest = after;
            }
        }
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests;
