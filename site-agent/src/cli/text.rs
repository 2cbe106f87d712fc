//! Figures and times as the command line shows them.

use fusiondp_dp::Epsilon;
use jiff::Timestamp;

/// Decimals of an epsilon, rounded up.
pub(super) const DECIMALS: u32 = 4;

/// An epsilon, rounded up.
pub(super) fn figure(epsilon: Epsilon) -> String {
    format!("{:.1$}", epsilon.rounded_up(DECIMALS), DECIMALS as usize)
}

/// A time in UTC, to the second.
pub(super) fn time(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| format!("{ms} ms"), |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}
