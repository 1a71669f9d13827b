//! When the infra repo is asked again: at a steady pace that differs a little from host to host and from time to time, so
//! that many controllers do not ask together; quickly after a first failure, then ever more slowly. Pure: chance is an
//! argument.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

/// The shortest pace.
const SHORTEST: Duration = Duration::from_secs(1);
/// The pause after a first failure, where the pace itself is not quicker; doubled for every further one.
const FIRST_RETRY: Duration = Duration::from_secs(10);
/// The longest pause after failures, where the pace itself is not slower.
const LONGEST_RETRY: Duration = Duration::from_secs(900);
/// How much of a pause the host, and chance, each make of it at most.
const SPREAD: f64 = 0.05;

/// The pace of looks at the infra repo.
#[derive(Clone, Debug)]
pub struct Poll {
    period: Duration,
    /// In -1.0..=1.0: always the same for a host.
    lean: f64,
    failures: u32,
}

impl Poll {
    /// A look every `period`, more or less; `host` is what tells this controller from others.
    pub fn new(period: Duration, host: &[u8]) -> Self {
        let digest = Sha256::digest(host);
        let number = u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]);
        let lean = f64::from(number) / f64::from(u32::MAX) * 2.0 - 1.0;
        Self { period: period.max(SHORTEST), lean, failures: 0 }
    }

    /// The infra repo has answered.
    pub fn answered(&mut self) {
        self.failures = 0;
    }

    /// The infra repo could not be asked.
    pub fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// How long it is until the next look; `chance` is in 0.0..1.0.
    pub fn pause(&self, chance: f64) -> Duration {
        let pause = match self.failures.checked_sub(1) {
            None => self.period,
            Some(further) => self
                .period
                .min(FIRST_RETRY)
                .saturating_mul(1 << further.min(16))
                .min(self.period.max(LONGEST_RETRY)),
        };
        pause.mul_f64(1.0 + SPREAD * self.lean + SPREAD * (chance * 2.0 - 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn steady(period: Duration) -> Poll {
        Poll { lean: 0.0, ..Poll::new(period, b"") }
    }

    #[test]
    fn pauses_stay_within_a_tenth_and_differ_by_host_and_by_chance() {
        let hosts: Vec<Poll> = (0u8..100).map(|host| Poll::new(10 * MINUTE, &[host])).collect();
        for poll in &hosts {
            for chance in [0.0, 0.3, 0.999] {
                let pause = poll.pause(chance).as_secs_f64();
                assert!((540.0..=660.0).contains(&pause), "{pause}");
            }
            assert_ne!(poll.pause(0.2), poll.pause(0.7));
        }
        assert!(hosts.iter().any(|poll| poll.lean < -0.5) && hosts.iter().any(|poll| poll.lean > 0.5));
        assert_eq!(Poll::new(MINUTE, b"a").pause(0.5), Poll::new(MINUTE, b"a").pause(0.5));
    }

    #[test]
    fn failures_are_retried_soon_then_ever_more_slowly_until_one_is_answered() {
        let mut poll = steady(MINUTE);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            poll.failed();
            pauses.push(poll.pause(0.5).as_secs());
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 900, 900]);
        poll.answered();
        assert_eq!(poll.pause(0.5), MINUTE);
    }

    #[test]
    fn a_pace_beyond_the_bounds_of_retries_is_kept() {
        let mut quick = steady(Duration::from_secs(2));
        quick.failed();
        assert_eq!(quick.pause(0.5), Duration::from_secs(2));
        let mut slow = steady(60 * MINUTE);
        for _ in 0..40 {
            slow.failed();
        }
        assert_eq!(slow.pause(0.5), 60 * MINUTE);
        assert_eq!(steady(Duration::ZERO).pause(0.5), SHORTEST);
    }
}
