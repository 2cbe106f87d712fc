//! TOML documents edited for a run: a sample study with other rounds, a kit with its settings filled in.

use toml::{Table, Value};

use super::HarnessError;

/// The sepsis sample: a study with the columns of the real and of the synthetic cohort.
pub const SAMPLE_STUDY: &str = include_str!("../../../deploy/samples/sepsis-study.toml");

/// A document under edit. Lines that are not touched keep their bytes, comments included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TomlText(String);

impl TomlText {
    /// From a document.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The document.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Sets `key` of `[section]` to a value; adds key or section when absent.
    ///
    /// # Errors
    /// When the result is no longer valid TOML.
    pub fn set(&mut self, section: &str, key: &str, value: impl Into<Value>) -> Result<(), HarnessError> {
        let line = format!("{key} = {}", value.into());
        let header = format!("[{section}]");
        let mut lines: Vec<String> = self.0.lines().map(str::to_owned).collect();
        let Some(start) = lines.iter().position(|line| line.trim() == header) else {
            self.0.push_str(&format!("\n{header}\n{line}\n"));
            return self.check();
        };
        let end =
            (start + 1..lines.len()).find(|&i| lines[i].trim_start().starts_with('[')).unwrap_or(lines.len());
        match (start + 1..end).find(|&i| is_key(&lines[i], key)) {
            Some(index) => lines[index] = line,
            None => lines.insert(start + 1, line),
        }
        self.0 = lines.join("\n") + "\n";
        self.check()
    }

    /// Sets the rounds of a study. Rounds without a private part come first and give way, so that as many private rounds
    /// remain as there were, if there are so many in all.
    ///
    /// # Errors
    /// When the text is no longer valid TOML.
    pub fn set_rounds(&mut self, rounds: u32) -> Result<(), HarnessError> {
        let study = self.0.parse::<Table>().map_err(|e| HarnessError::form("study", e))?;
        let count = |section: &str, key: &str| {
            study.get(section).and_then(|section| section.get(key)).and_then(Value::as_integer).unwrap_or(0)
        };
        let warmup = count("fusion", "warmup_rounds");
        if warmup > 0 {
            let private = count("training", "rounds") - warmup;
            self.set("fusion", "warmup_rounds", (i64::from(rounds) - private).max(0))?;
        }
        self.set("training", "rounds", i64::from(rounds))
    }

    /// Removes `key` of `[section]`; nothing happens when it is absent.
    ///
    /// # Errors
    /// When the result is no longer valid TOML.
    pub fn remove(&mut self, section: &str, key: &str) -> Result<(), HarnessError> {
        let mut inside = false;
        let header = format!("[{section}]");
        let kept = self.0.lines().filter(|line| {
            if line.trim_start().starts_with('[') {
                inside = line.trim() == header;
            }
            !(inside && is_key(line, key))
        });
        self.0 = kept.collect::<Vec<_>>().join("\n") + "\n";
        self.check()
    }

    /// Replaces the whole section `[section]`, its sections `[section.*]` included.
    ///
    /// # Errors
    /// When the result is no longer valid TOML.
    pub fn replace_section(&mut self, section: &str, body: &str) -> Result<(), HarnessError> {
        let (header, below) = (format!("[{section}]"), format!("[{section}."));
        let mut kept = Vec::new();
        let mut inside = false;
        for line in self.0.lines() {
            if line.trim_start().starts_with('[') {
                inside = line.trim() == header || line.trim_start().starts_with(&below);
            }
            if !inside {
                kept.push(line);
            }
        }
        self.0 = format!("{}\n\n{header}\n{}\n", kept.join("\n").trim_end(), body.trim_end());
        self.check()
    }

    fn check(&self) -> Result<(), HarnessError> {
        let parsed = self.0.parse::<Table>();
        parsed.map(drop).map_err(|e| HarnessError::form("edited TOML", e))
    }
}

fn is_key(line: &str, key: &str) -> bool {
    line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DOCUMENT: &str =
        "# top\n[study]\nname = \"x\" # kept\n\n[study.more]\nkey = 1\n\n[training]\n# why\nrounds = 400\n";

    #[test]
    fn values_are_replaced_and_added_in_place() {
        let mut study = TomlText::new(DOCUMENT);
        study.set("training", "rounds", 12).unwrap();
        study.set("study", "description", "a \"b\"").unwrap();
        study.set("evaluation", "every_rounds", 3).unwrap();
        let table: Table = study.text().parse().unwrap();
        assert_eq!(table["training"]["rounds"].as_integer(), Some(12));
        assert_eq!(table["study"]["description"].as_str(), Some("a \"b\""));
        assert_eq!(table["evaluation"]["every_rounds"].as_integer(), Some(3));
        assert!(study.text().contains("# why") && study.text().contains("# kept"));
    }

    #[test]
    fn fewer_rounds_leave_the_private_ones() {
        let document = "[fusion]\nwarmup_rounds = 392\n[training]\nrounds = 400\n";
        for (rounds, warmup) in [(500, 492), (20, 12), (8, 0), (5, 0)] {
            let mut study = TomlText::new(document);
            study.set_rounds(rounds).unwrap();
            let table: Table = study.text().parse().unwrap();
            assert_eq!(table["fusion"]["warmup_rounds"].as_integer(), Some(warmup));
            assert_eq!(table["training"]["rounds"].as_integer(), Some(rounds.into()));
        }
    }

    #[test]
    fn a_section_is_replaced_whole() {
        let mut study = TomlText::new(DOCUMENT);
        study.replace_section("study", "name = \"y\"").unwrap();
        let table: Table = study.text().parse().unwrap();
        assert_eq!(table["study"].as_table().unwrap().len(), 1);
        assert_eq!(table["study"]["name"].as_str(), Some("y"));
        assert_eq!(table["training"]["rounds"].as_integer(), Some(400));
    }

    #[test]
    fn a_value_is_removed_from_its_section_only() {
        let mut study = TomlText::new(DOCUMENT);
        study.remove("study", "rounds").unwrap();
        assert!(study.text().contains("rounds"));
        study.remove("training", "rounds").unwrap();
        assert!(!study.text().contains("rounds"));
    }

    #[test]
    fn what_breaks_the_document_is_an_error() {
        let mut study = TomlText::new(DOCUMENT);
        assert!(study.replace_section("study", "name = ").is_err());
    }
}
