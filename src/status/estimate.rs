//! How long recovery would take, before it is needed: what drills measured, scaled to the data of now and to its growth.
//!
//! A restore takes time in proportion to what is restored: from the newest drill that passed, seconds for a byte. What a log adds
//! is not foreseen. Growth is the straight line through the lengths of what was captured lately (least squares).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::artifact::drill::Drilled;

/// Captures older than this say nothing of how the data grows.
const LATELY: SignedDuration = SignedDuration::from_hours(90 * 24);

/// How far ahead is looked.
const AHEAD: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The share of an objective from which on it is at risk.
const NEAR: f64 = 0.8;

/// How long recovery would take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Now, seconds.
    pub seconds: u64,
    /// In 30 days, as the data grows, seconds.
    pub seconds_in_30_days: u64,
    /// When what it rests on was measured.
    pub measured: Timestamp,
}

impl Estimate {
    /// Whether it comes near what is allowed, or will not be within it soon.
    pub fn puts_at_risk(&self, allowed: Duration) -> bool {
        self.seconds as f64 > allowed.as_secs_f64() * NEAR || self.seconds_in_30_days > allowed.as_secs()
    }
}

/// The length of what was captured at a moment, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// When.
    pub at: Timestamp,
    /// How long the whole stream is.
    pub bytes: u64,
}

/// How long a restore would take by what a drill measured; `None` where it measured nothing that can be scaled. `lengths` are those
/// of what was captured, oldest first.
pub fn restore(passed: &Drilled, lengths: &[Length], now: Timestamp) -> Option<Estimate> {
    let (took, newest) = (passed.rto_seconds?, lengths.last()?);
    if passed.bytes == 0 {
        return None;
    }
    let scaled = |bytes: f64| (took as f64 * (bytes / passed.bytes as f64).max(0.0)).ceil() as u64;
    let growth = growth(lengths, now).unwrap_or(0.0).max(0.0);
    let soon = newest.bytes as f64 + growth * AHEAD.as_secs_f64();
    Some(Estimate {
        seconds: scaled(newest.bytes as f64),
        seconds_in_30_days: scaled(soon),
        measured: passed.began,
    })
}

/// Bytes a second; `None` where there are no two moments.
fn growth(lengths: &[Length], now: Timestamp) -> Option<f64> {
    let age = |length: &Length| length.at.duration_since(now).as_secs_f64();
    let points: Vec<(f64, f64)> = lengths
        .iter()
        .filter(|length| now.duration_since(length.at) <= LATELY)
        .map(|length| (age(length), length.bytes as f64))
        .collect();
    let number = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / number;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let together: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    (spread > 0.0).then(|| together / spread)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::{ArtifactId, drill::DrillOutcome};

    fn t(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn passed(bytes: u64, seconds: u64) -> Drilled {
        let began = t("2026-11-01T04:00:00Z");
        Drilled {
            drill: "agama".parse().unwrap(),
            slot: None,
            began,
            backup: "agama".parse().unwrap(),
            artifact: ArtifactId::new(began, 1),
            logs: 0,
            store: "a".parse().unwrap(),
            point: began,
            outcome: DrillOutcome::Passed,
            stages: Vec::new(),
            checks: Vec::new(),
            rpo_seconds: None,
            rto_seconds: Some(seconds),
            bytes,
            isolation: None,
            sealed: None,
        }
    }

    #[test]
    fn twice_the_data_takes_twice_the_time_and_growth_goes_on() {
        let now = t("2026-11-20T00:00:00Z");
        let lengths = [
            Length { at: t("2026-11-10T00:00:00Z"), bytes: 1000 },
            Length { at: t("2026-11-20T00:00:00Z"), bytes: 2000 },
        ];
        let estimate = restore(&passed(1000, 600), &lengths, now).unwrap();
        assert_eq!((estimate.seconds, estimate.seconds_in_30_days), (1200, 3000));
        assert!(estimate.puts_at_risk(Duration::from_secs(2400)), "in 30 days it is over");
        assert!(estimate.puts_at_risk(Duration::from_secs(1400)));
        assert!(!estimate.puts_at_risk(Duration::from_secs(3600)));
    }

    #[test]
    fn one_capture_and_data_that_shrinks_foresee_no_growth() {
        let now = t("2026-11-20T00:00:00Z");
        let one = [Length { at: now, bytes: 500 }];
        let estimate = restore(&passed(1000, 600), &one, now).unwrap();
        assert_eq!((estimate.seconds, estimate.seconds_in_30_days), (300, 300));
        let shrinking = [Length { at: t("2026-11-10T00:00:00Z"), bytes: 900 }, one[0]];
        assert_eq!(restore(&passed(1000, 600), &shrinking, now), Some(estimate));
        assert_eq!(restore(&passed(0, 600), &one, now), None, "nothing was measured");
        assert_eq!(restore(&passed(1000, 600), &[], now), None);
    }
}
