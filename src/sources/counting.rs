//! Counting beside a dump: rows are read in the dump's own view, and may take longer than the dump, but not for ever.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::artifact::manifest::Rows;

/// How long one answer of a session that counts may take. What bounds it is [`beside`].
pub(super) const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Dumps and counts at the same time. A dump that fails does not wait for the counts; one that is done waits for as long again as it
/// took itself, and at least for `least`. What is not counted by then is not captured.
///
/// # Errors
/// Those of the dump.
pub(super) async fn beside<T, E>(
    dump: impl Future<Output = Result<T, E>>,
    count: impl Future<Output = Rows>,
    least: Duration,
) -> Result<(T, Rows), E> {
    let began = Instant::now();
    tokio::pin!(dump, count);
    tokio::select! {
        rows = &mut count => Ok((dump.await?, rows)),
        dumped = &mut dump => {
            let dumped = dumped?;
            let longest = began.elapsed().max(least);
            Ok((dumped, timeout(longest, count).await.unwrap_or_else(|_| too_late(longest))))
        }
    }
}

fn too_late(longest: Duration) -> Rows {
    let minutes = longest.as_secs().div_ceil(60);
    Rows::not_captured(format!("they were not all read within {minutes} minutes of the end of the dump"))
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;
    use crate::artifact::manifest::Counts;

    const MINUTE: Duration = Duration::from_secs(60);

    fn counted() -> Rows {
        Counts::Captured([("a".to_owned(), 1)].into()).into()
    }

    async fn after<T>(length: Duration, value: T) -> T {
        tokio::time::sleep(length).await;
        value
    }

    #[tokio::test(start_paused = true)]
    async fn counts_may_take_as_long_again_as_the_dump_and_no_longer() {
        let dump = || after(10 * MINUTE, Ok::<_, ()>(()));
        assert_eq!(beside(dump(), ready(counted()), MINUTE).await.unwrap().1, counted());
        assert_eq!(beside(dump(), after(19 * MINUTE, counted()), MINUTE).await.unwrap().1, counted());
        let (_, late) = beside(dump(), after(21 * MINUTE, counted()), MINUTE).await.unwrap();
        assert!(matches!(&late.counts, Counts::NotCaptured(why) if why.contains("10 minutes")), "{late:?}");
        assert_eq!(beside(dump(), after(21 * MINUTE, counted()), 15 * MINUTE).await.unwrap().1, counted());
    }

    #[tokio::test(start_paused = true)]
    async fn a_dump_that_fails_waits_for_no_count() {
        let failed = beside(after(MINUTE, Err::<(), _>("gone")), pending(), MINUTE).await;
        assert_eq!(failed.unwrap_err(), "gone");
        assert_eq!(beside(ready(Err::<(), _>("gone")), ready(counted()), MINUTE).await.unwrap_err(), "gone");
    }
}
