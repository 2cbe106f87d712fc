//! A measurement, its statistics, and the memory it took.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// One figure of this machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Measurement {
    /// What was measured, for example `step/fusiondp`.
    pub(super) name: String,
    /// Unit of the value.
    pub(super) unit: &'static str,
    /// The figure: a median where it was measured repeatedly.
    pub(super) value: f64,
    /// Threads that the work may use.
    pub(super) threads: usize,
    /// Further figures by name.
    pub(super) detail: BTreeMap<&'static str, f64>,
}

impl Measurement {
    /// A figure without details.
    pub(super) fn new(name: impl Into<String>, unit: &'static str, value: f64, threads: usize) -> Self {
        Self { name: name.into(), unit, value, threads, detail: BTreeMap::new() }
    }

    /// Adds a further figure.
    pub(super) fn with(mut self, name: &'static str, value: f64) -> Self {
        self.detail.insert(name, value);
        self
    }

    /// Adds the largest resident memory of the process so far, where the system tells it.
    pub(super) fn with_peak_memory(self) -> Self {
        match peak_memory_mib() {
            Some(mib) => self.with("peak_mib", mib),
            None => self,
        }
    }

    /// The figure for people.
    pub(super) fn line(&self) -> String {
        let mut text = format!("{:24} {:>10} {}", self.name, rounded(self.value), self.unit);
        for (name, value) in &self.detail {
            text.push_str(&format!("  {name} {}", rounded(*value)));
        }
        text
    }
}

/// Four significant digits.
fn rounded(value: f64) -> String {
    let digits = if value == 0.0 { 0.0 } else { 3.0 - value.abs().log10().floor() };
    format!("{value:.precision$}", precision = digits.clamp(0.0, 6.0) as usize)
}

/// A running measurement of wall clock and processor time.
pub(super) struct Stopwatch {
    wall: Instant,
    processor: Duration,
}

/// What one repeat took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lap {
    /// Of the wall clock.
    wall: Duration,
    /// Of all threads of this process; other load on the machine shows less in it.
    processor: Duration,
}

impl Stopwatch {
    /// Starts now.
    pub(super) fn start() -> Self {
        Self { wall: Instant::now(), processor: processor_time() }
    }

    /// The time since the start.
    pub(super) fn lap(&self) -> Lap {
        Lap { wall: self.wall.elapsed(), processor: processor_time().saturating_sub(self.processor) }
    }
}

/// Processor time of all threads of this process so far.
pub(super) fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Repeats of some work, in milliseconds, ascending.
pub(super) struct Times {
    wall: Vec<f64>,
    processor: Vec<f64>,
}

impl Times {
    /// Warms up, then repeats `work` for about `seconds`: at least 20 times, or 5 if 20 take more than twice as long. The
    /// work times itself, so that preparation stays out.
    pub(super) fn of<E>(seconds: f64, mut work: impl FnMut() -> Result<Lap, E>) -> Result<Self, E> {
        let warm_up = Instant::now();
        for repeat in 0..10 {
            if repeat > 0 && warm_up.elapsed().as_secs_f64() > seconds {
                break;
            }
            work()?;
        }
        let (start, mut laps) = (Instant::now(), Vec::new());
        let enough = |repeats: usize| match start.elapsed().as_secs_f64() {
            elapsed if elapsed < seconds => false,
            elapsed if elapsed > 2.0 * seconds => repeats >= 5,
            _ => repeats >= 20,
        };
        while !enough(laps.len()) {
            laps.push(work()?);
        }
        let sorted = |of: fn(&Lap) -> Duration| {
            let mut times: Vec<f64> = laps.iter().map(|lap| of(lap).as_secs_f64() * 1e3).collect();
            times.sort_by(f64::total_cmp);
            times
        };
        Ok(Self { wall: sorted(|lap| lap.wall), processor: sorted(|lap| lap.processor) })
    }

    /// The median as a measurement; processor time, shortest, 90th percentile and count beside it.
    pub(super) fn measurement(&self, name: impl Into<String>, threads: usize) -> Measurement {
        Measurement::new(name, "ms", self.median_ms(), threads)
            .with("cpu_value", self.median_processor_ms())
            .with("shortest_ms", quantile(&self.wall, 0.0))
            .with("p90_ms", quantile(&self.wall, 0.9))
            .with("repeats", self.wall.len() as f64)
    }

    /// Median of the wall clock, in milliseconds.
    pub(super) fn median_ms(&self) -> f64 {
        quantile(&self.wall, 0.5)
    }

    /// Median of the processor time of all threads, in milliseconds.
    pub(super) fn median_processor_ms(&self) -> f64 {
        quantile(&self.processor, 0.5)
    }
}

/// A quantile of ascending values; 0.5 is the median.
fn quantile(ascending: &[f64], part: f64) -> f64 {
    let last = ascending.len().saturating_sub(1);
    ascending.get((last as f64 * part).round() as usize).copied().unwrap_or(f64::NAN)
}

/// Largest resident memory of this process so far, in MiB; `None` where the system does not tell.
pub(super) fn peak_memory_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_measurement_is_the_median_of_the_repeats() {
        let lap = |wall| Lap { wall: Duration::from_millis(wall), processor: Duration::from_millis(1) };
        let mut laps = (0..).map(|i| Ok::<_, ()>(lap(if i % 3 == 0 { 3 } else { 5 })));
        let measurement = Times::of(0.01, || laps.next().unwrap()).unwrap().measurement("x", 1);
        assert_eq!((measurement.value, measurement.detail["cpu_value"]), (5.0, 1.0));
        assert_eq!(measurement.detail["shortest_ms"], 3.0);
        assert!(measurement.detail["repeats"] >= 5.0);
    }

    #[test]
    fn processor_time_passes_with_work() {
        let watch = Stopwatch::start();
        let sum = (0..3_000_000_u64).fold(0, |sum, i| std::hint::black_box(sum ^ i));
        let lap = watch.lap();
        assert!(lap.processor > Duration::ZERO && lap.wall > Duration::ZERO, "{lap:?} {sum}");
    }

    #[test]
    fn figures_have_four_digits() {
        assert_eq!([rounded(1234.56), rounded(1.23456), rounded(0.0)], ["1235", "1.235", "0"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn peak_memory_holds_what_was_touched_also_when_it_is_gone() {
        // Other tests of this process take and free memory meanwhile, so only what is here counts.
        let touched = std::hint::black_box(vec![1_u8; 256 << 20]);
        let during = peak_memory_mib().unwrap();
        drop(touched);
        // The system counts pages per core and adds up now and then, so the two need not agree to the last page.
        let after = peak_memory_mib().unwrap();
        assert!(during >= 256.0 && after >= 256.0, "{during} {after}");
    }
}
