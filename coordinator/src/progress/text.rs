//! Numbers and times for a terminal.

use std::time::Duration;

use fusiondp_dp::Epsilon;
use fusiondp_runtime::{Clock as _, SystemClock};

/// An epsilon, rounded up.
pub(crate) fn epsilon(figure: Epsilon) -> String {
    if figure.is_finite() { format!("{:.3}", figure.rounded_up(3)) } else { "unbounded".to_owned() }
}

/// A duration in seconds, for people.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX).as_secs();
    match whole {
        0..=119 => format!("{whole} s"),
        120..=7_199 => format!("{} min", whole / 60),
        _ => format!("{} h", whole / 3_600),
    }
}

/// A time, UTC.
pub(crate) fn time(unix_ms: u64) -> String {
    let stamp = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    stamp.map_or_else(|| "-".to_owned(), |stamp| stamp.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// How long ago a time is.
pub(crate) fn ago(unix_ms: u64) -> String {
    let passed = SystemClock.now_ms().saturating_sub(unix_ms);
    format!("{} ago", duration(passed as f64 / 1_000.0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn epsilons_are_rounded_up() {
        assert_eq!(epsilon(Epsilon::new(0.9991).unwrap()), "1.000");
        assert_eq!(epsilon(Epsilon::INFINITE), "unbounded");
        assert_eq!(
            (duration(3.9), duration(600.0), duration(9_000.0)),
            ("3 s".into(), "10 min".into(), "2 h".into())
        );
        assert_eq!(time(0), "1970-01-01 00:00:00 UTC");
    }
}
