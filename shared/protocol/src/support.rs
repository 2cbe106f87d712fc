//! Whom an imputer was fitted on: a list of digests of unit ids in the metadata of its file, which the study's SHA-256 pins
//! with everything else. A site compares its own patients with it.
//!
//! Each id stands as the first 16 bytes of `SHA-256(salt || id)`. The salt follows from the ids, so that a fit stays
//! reproducible; it makes lists of different sets unlike. Whoever holds the file can still try ids one by one.

use std::collections::{BTreeMap, BTreeSet};

use fusiondp_dp::Digest;

/// Metadata key of the salt, 32 hexadecimal digits.
const SALT_KEY: &str = "fusiondp.support.unit_salt";
/// Metadata key of the list, 32 hexadecimal digits per unit, ascending.
const UNITS_KEY: &str = "fusiondp.support.units";
/// Bytes of the salt and of each entry.
const ENTRY: usize = 16;

/// The patients of an imputer's support data, by digest.
#[derive(Clone, PartialEq, Eq)]
pub struct SupportUnits {
    salt: [u8; ENTRY],
    units: BTreeSet<[u8; ENTRY]>,
}

/// A list that cannot be read. A site takes it for a reason not to use the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "metadata {key} of the imputer is no list of support patients; fit it again with `fusiondp-coordinator imputer fit`"
)]
pub struct SupportError {
    /// The key.
    pub key: &'static str,
}

impl SupportUnits {
    /// The list of these unit ids; `None` of none.
    pub fn of<'a>(ids: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let ids: BTreeSet<&str> = ids.into_iter().map(str::trim).filter(|id| !id.is_empty()).collect();
        if ids.is_empty() {
            return None;
        }
        let mut bytes = Vec::from(*b"fusiondp support salt v1\0");
        for id in &ids {
            bytes.extend((id.len() as u64).to_le_bytes());
            bytes.extend(id.as_bytes());
        }
        let salt = first_bytes(&bytes);
        Some(Self { units: ids.into_iter().map(|id| entry(&salt, id)).collect(), salt })
    }

    /// Reads the list of a file; `None` where it has none.
    ///
    /// # Errors
    /// One of the two keys is missing or malformed.
    pub fn from_metadata(metadata: &BTreeMap<String, String>) -> Result<Option<Self>, SupportError> {
        let (salt, units) = match (metadata.get(SALT_KEY), metadata.get(UNITS_KEY)) {
            (None, None) => return Ok(None),
            (salt, units) => (salt.map_or("", String::as_str), units.map_or("", String::as_str)),
        };
        let salt = parse(salt).ok_or(SupportError { key: SALT_KEY })?;
        let digits = units.as_bytes().chunks(2 * ENTRY);
        let units: Option<BTreeSet<_>> =
            digits.map(|digits| std::str::from_utf8(digits).ok().and_then(parse)).collect();
        match units {
            Some(units) if !units.is_empty() => Ok(Some(Self { salt, units })),
            _ => Err(SupportError { key: UNITS_KEY }),
        }
    }

    /// The metadata entries of the list.
    pub fn to_metadata(&self) -> [(String, String); 2] {
        let units = self.units.iter().map(hex).collect();
        [(SALT_KEY.to_owned(), hex(&self.salt)), (UNITS_KEY.to_owned(), units)]
    }

    /// Number of patients.
    pub fn count(&self) -> usize {
        self.units.len()
    }

    /// Whether a unit is in the list.
    pub fn contains(&self, id: &str) -> bool {
        self.units.contains(&entry(&self.salt, id.trim()))
    }
}

fn entry(salt: &[u8; ENTRY], id: &str) -> [u8; ENTRY] {
    first_bytes(&[salt, id.as_bytes()].concat())
}

fn first_bytes(bytes: &[u8]) -> [u8; ENTRY] {
    let digest = Digest::of(bytes);
    std::array::from_fn(|index| digest.as_bytes()[index])
}

fn hex(bytes: &[u8; ENTRY]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse(text: &str) -> Option<[u8; ENTRY]> {
    if text.len() != 2 * ENTRY || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; ENTRY];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_list_is_written_read_and_knows_its_patients_and_no_others() {
        let list = SupportUnits::of(["p1", "p2", " p1 ", ""]).unwrap();
        assert_eq!(list.count(), 2);
        let metadata = BTreeMap::from(list.to_metadata());
        assert!(metadata.values().all(|value| !value.contains("p1")));
        let read = SupportUnits::from_metadata(&metadata).unwrap().unwrap();
        assert!(read == list && read.contains("p1") && read.contains("p2 ") && !read.contains("p3"));
        assert!(SupportUnits::of(["p2", "p1"]).unwrap() == list, "the same set, the same list");
        assert_ne!(SupportUnits::of(["p1"]).unwrap().salt, list.salt);
    }

    #[test]
    fn no_list_is_none_and_half_a_list_is_an_error() {
        assert!(SupportUnits::of([""; 0]).is_none());
        assert!(SupportUnits::from_metadata(&BTreeMap::new()).unwrap().is_none());
        let good = BTreeMap::from(SupportUnits::of(["p1", "p2"]).unwrap().to_metadata());
        for (key, value) in [(SALT_KEY, ""), (SALT_KEY, "zz"), (UNITS_KEY, ""), (UNITS_KEY, "ab")] {
            let mut bad = good.clone();
            bad.insert(key.to_owned(), value.to_owned());
            assert_eq!(SupportUnits::from_metadata(&bad).err(), Some(SupportError { key }), "{value:?}");
        }
        let mut cut = good.clone();
        cut.get_mut(UNITS_KEY).unwrap().pop();
        assert!(SupportUnits::from_metadata(&cut).is_err());
        cut.remove(UNITS_KEY);
        assert!(SupportUnits::from_metadata(&cut).is_err());
    }
}
