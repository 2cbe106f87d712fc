//! How many privacy units take part in a step.

use std::fmt;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Spelling of [`BatchSize::All`].
const ALL: &str = "all";

/// Privacy units in the secret sample of one step, over the whole consortium: an expected number, or `"all"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchSize {
    /// A Poisson sample of this expected size; a valid study has at least 1.
    Expected(u32),
    /// Every unit, sampling probability 1. Nothing is secret about who takes part, and the guarantee rests on noise alone.
    All,
}

impl fmt::Display for BatchSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expected(units) => units.fmt(f),
            Self::All => f.write_str(ALL),
        }
    }
}

impl Serialize for BatchSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Expected(units) => serializer.serialize_u32(*units),
            Self::All => serializer.serialize_str(ALL),
        }
    }
}

impl<'de> Deserialize<'de> for BatchSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl Visitor<'_> for Reader {
    type Value = BatchSize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of privacy units up to 4294967295, or \"all\"")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<BatchSize, E> {
        match u32::try_from(value) {
            Ok(units) => Ok(BatchSize::Expected(units)),
            Err(_) => Err(E::invalid_value(Unexpected::Unsigned(value), &self)),
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<BatchSize, E> {
        match u64::try_from(value) {
            Ok(value) => self.visit_u64(value),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(value), &self)),
        }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<BatchSize, E> {
        if value == ALL { Ok(BatchSize::All) } else { Err(E::invalid_value(Unexpected::Str(value), &self)) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    struct Holder {
        batch: BatchSize,
    }

    fn read(text: &str) -> Result<BatchSize, String> {
        toml::from_str::<Holder>(text).map(|holder| holder.batch).map_err(|error| error.to_string())
    }

    #[test]
    fn numbers_and_all_are_read_and_written_back() {
        for (text, batch) in [("batch = 60", BatchSize::Expected(60)), ("batch = \"all\"", BatchSize::All)] {
            assert_eq!(read(text), Ok(batch));
            assert_eq!(toml::to_string(&Holder { batch }).unwrap().trim(), text);
        }
    }

    #[test]
    fn everything_else_is_refused_with_the_remedy() {
        for text in ["batch = -3", "batch = 4294967296", "batch = 2.5", "batch = \"most\"", "batch = true"] {
            let said = read(text).unwrap_err();
            assert!(said.contains("a number of privacy units up to 4294967295, or \"all\""), "{said}");
        }
    }
}
