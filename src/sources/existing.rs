//! What becomes of data that a restore over the original would take the place of.

/// Whether a driver may replace it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Existing {
    /// It may.
    #[default]
    Replaced,
    /// It must not: see [`Source::refuse_to_replace`](super::Source::refuse_to_replace).
    Refused,
}

/// Why nothing is restored where there is `what` now, and was nothing before the stream came.
pub(super) fn by_now(what: &str) -> String {
    format!("it holds {what} by now, which somebody put there while the stream came; nothing was changed")
}
