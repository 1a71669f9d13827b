//! Counting beside a dump: rows are read in the dump's own view, and may take longer than the dump, but not for ever.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::artifact::manifest::Rows;

/// How long one answer of a session that counts beside a dump may take: what bounds it is [`beside`].
pub(super) const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3600);

/// What is known of rows before they are read, where a dump waits at `least` so long for them.
pub(super) fn unread(least: Duration) -> Rows {
    let minutes = least.as_secs().div_ceil(60);
    Rows::not_captured(format!(
        "they were not all read in time: a dump waits for as long again as it took itself, and at least for {minutes} minutes"
    ))
}

/// Dumps and counts at the same time. A dump that fails does not wait for the counts; one that is done waits for as long again as it
/// took itself, and at least for `least`. What `count` has not noted by then stays as it was.
///
/// # Errors
/// Those of the dump.
pub(super) async fn beside<T, E>(
    dump: impl Future<Output = Result<T, E>>,
    count: impl Future<Output = ()>,
    least: Duration,
) -> Result<T, E> {
    let began = Instant::now();
    tokio::pin!(dump, count);
    tokio::select! {
        () = &mut count => dump.await,
        dumped = &mut dump => {
            let dumped = dumped?;
            if timeout(began.elapsed().max(least), count).await.is_err() {
                tracing::warn!("the rows of a dump were not all read in time");
            }
            Ok(dumped)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    async fn after<T>(length: Duration, value: T) -> T {
        tokio::time::sleep(length).await;
        value
    }

    /// Whether rows that are read for so long beside a dump of ten minutes are.
    async fn is_read(length: Duration, least: Duration) -> bool {
        let mut read = false;
        let count = async {
            tokio::time::sleep(length).await;
            read = true;
        };
        beside(after(10 * MINUTE, Ok::<_, ()>(())), count, least).await.unwrap();
        read
    }

    #[tokio::test(start_paused = true)]
    async fn counts_may_take_as_long_again_as_the_dump_and_no_longer() {
        assert!(is_read(Duration::ZERO, MINUTE).await);
        assert!(is_read(19 * MINUTE, MINUTE).await);
        assert!(!is_read(21 * MINUTE, MINUTE).await);
        assert!(is_read(21 * MINUTE, 15 * MINUTE).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dump_that_fails_waits_for_no_count() {
        assert_eq!(beside(after(MINUTE, Err::<(), _>("gone")), pending(), MINUTE).await, Err("gone"));
        assert_eq!(beside(ready(Err::<(), _>("gone")), ready(()), MINUTE).await, Err("gone"));
    }
}
