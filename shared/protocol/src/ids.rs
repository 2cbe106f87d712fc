//! Names that travel: studies, sites and cohorts.
//!
//! All three are DNS labels, because a site's id is read from its certificate and because a name becomes a folder, a
//! metric label and a column of a report.

use std::fmt;
use std::str::FromStr;

use fusiondp_dp::Digest;
use serde::{Deserialize, Serialize};

/// Longest id, in characters: the longest DNS label.
pub const MAX_ID_LENGTH: usize = 63;

/// Hex digits of the document digest that end a study id.
const STUDY_DIGEST_DIGITS: usize = 8;

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {value:?} {reason}; use 1 to 63 of a-z, 0-9 and '-', starting with a letter or digit")]
pub struct IdError {
    kind: &'static str,
    value: String,
    reason: &'static str,
}

fn check(kind: &'static str, text: &str) -> Result<(), IdError> {
    let problem = |reason| {
        // A hostile peer must not decide how long a line of the log is.
        let value = text.chars().take(MAX_ID_LENGTH + 1).collect();
        Err(IdError { kind, value, reason })
    };
    if text.is_empty() {
        return problem("is empty");
    }
    if text.len() > MAX_ID_LENGTH {
        return problem("is longer than 63 characters");
    }
    if text.starts_with('-') {
        return problem("starts with '-'");
    }
    if !text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        return problem("holds a character that is not allowed");
    }
    Ok(())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        ///
        /// `[a-z0-9][a-z0-9-]{0,62}`, checked by every constructor and on deserialisation.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks a text.
            ///
            /// # Errors
            /// [`IdError`] when the text is empty, longer than [`MAX_ID_LENGTH`], starts with `-` or holds another
            /// character than `a-z`, `0-9` and `-`.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                check($kind, &text)?;
                Ok(Self(text))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

id!(
    /// A study: the slug of its name and the start of its document's digest, so that one document has one id
    /// everywhere.
    StudyId,
    "study id"
);
id!(
    /// A site of the consortium, as its certificate names it.
    SiteId,
    "site id"
);
id!(
    /// A named set of records that a site evaluates on, for example `val` or `test`.
    CohortName,
    "cohort"
);

impl StudyId {
    /// `<slug of name>-<first 8 hex digits of digest>`, the name shortened so that the id stays a DNS label.
    pub fn from_document(name: &str, digest: &Digest) -> Self {
        let digest = digest.to_string();
        let longest = MAX_ID_LENGTH - STUDY_DIGEST_DIGITS - 1;
        let slug = slug(name, longest);
        Self(format!("{slug}-{}", &digest[..STUDY_DIGEST_DIGITS]))
    }
}

/// Lower-case ASCII letters and digits; every run of anything else becomes one `-`; `study` if nothing is left.
fn slug(name: &str, longest: usize) -> String {
    let mut slug = String::with_capacity(name.len().min(longest));
    for character in name.chars() {
        if slug.len() >= longest {
            break;
        }
        if character.is_ascii_alphanumeric() {
            slug.push(character.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "study".to_owned() } else { slug.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_the_dns_are_ids_and_nothing_else() {
        for good in ["a", "0", "hospital-a", "test", &"x".repeat(63)] {
            assert_eq!(SiteId::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", "A", "a.b", "a b", "a/b", "..", "é", &"x".repeat(64)] {
            assert!(SiteId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_error_names_kind_and_value_and_stays_short() {
        let error = CohortName::new("y".repeat(100_000) + "!").unwrap_err().to_string();
        assert!(error.starts_with("cohort"), "{error}");
        assert!(error.len() < 250, "{}", error.len());
    }

    #[test]
    fn deserialisation_checks_too() {
        assert!(serde_json::from_str::<SiteId>("\"hospital-a\"").is_ok());
        assert!(serde_json::from_str::<SiteId>("\"Hospital A\"").is_err());
    }

    #[test]
    fn a_study_id_holds_slug_and_digest() {
        let digest = Digest::of(b"document");
        let first = &digest.to_string()[..8];
        let id = StudyId::from_document("Sepsis, two hospitals (v2)", &digest);
        assert_eq!(id.as_str(), format!("sepsis-two-hospitals-v2-{first}"));
        assert_eq!(StudyId::from_document("☃", &digest).as_str(), format!("study-{first}"));
    }

    proptest! {
        #[test]
        fn every_study_name_makes_a_valid_id(name in "\\PC{0,120}", bytes in any::<Vec<u8>>()) {
            let id = StudyId::from_document(&name, &Digest::of(&bytes));
            prop_assert!(StudyId::new(id.as_str()).is_ok());
        }

        #[test]
        fn serde_keeps_an_id(text in "[a-z0-9][a-z0-9-]{0,62}") {
            let id = SiteId::new(text).unwrap();
            let json = serde_json::to_string(&id).unwrap();
            prop_assert_eq!(serde_json::from_str::<SiteId>(&json).unwrap(), id);
        }
    }
}
