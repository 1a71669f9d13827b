//! The end of a program's standard error: bounded, and without secrets.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{io::AsyncReadExt, process::ChildStderr, task::JoinHandle};

use super::error::Said;
use crate::secrets::Secret;

/// How much is kept before secrets are struck out, bytes.
const KEPT: usize = 64 * 1024;

/// How much is shown, bytes.
const SHOWN: usize = 4 * 1024;

/// A stray that left the group may hold standard error open after the program has ended; nobody waits longer for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Follows standard error.
#[derive(Debug)]
pub(super) struct Tail {
    kept: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
    secrets: Vec<Secret>,
}

impl Tail {
    pub(super) fn follow(stderr: Option<ChildStderr>, secrets: Vec<Secret>) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let reader = tokio::spawn(keep(stderr, kept.clone()));
        Self { kept, reader, secrets }
    }

    /// Waits until nobody can say anything any more, for `longest` at most.
    pub(super) async fn closed(&mut self, longest: Duration) {
        if !self.reader.is_finished() {
            let _ = tokio::time::timeout(longest, &mut self.reader).await;
        }
    }

    /// What the program said last, once it has ended.
    pub(super) async fn said(&mut self) -> Said {
        let _ = tokio::time::timeout(PATIENCE, &mut self.reader).await;
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        Said(shown(&kept, &self.secrets))
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn keep(stderr: Option<ChildStderr>, kept: Arc<Mutex<Vec<u8>>>) {
    let Some(mut stderr) = stderr else { return };
    let mut chunk = [0; 4096];
    while let Ok(length @ 1..) = stderr.read(&mut chunk).await {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(&chunk[..length]);
        if kept.len() > 2 * KEPT {
            let excess = kept.len() - KEPT;
            kept.drain(..excess);
        }
    }
}

/// The last lines of `kept` without `secrets`. What was cut off lies far before what is shown, so no secret can be
/// shown in part.
fn shown(kept: &[u8], secrets: &[Secret]) -> String {
    let mut text = String::from_utf8_lossy(kept).into_owned();
    for secret in secrets.iter().filter(|secret| !secret.expose().is_empty()) {
        text = text.replace(secret.expose(), "***");
    }
    let mut from = text.len().saturating_sub(SHOWN);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let lines =
        text[from..].lines().map(|line| line.chars().map(printable).collect::<String>().trim().to_owned());
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_shown_in_one_line_without_secrets_and_control_characters() {
        let secret = Secret::new("hunter2".to_owned());
        let said = format!("{}\nAccess denied (hunter2)\n\x1b[31mbye\n", "x".repeat(2 * SHOWN));
        let shown = shown(said.as_bytes(), &[secret]);
        assert!(
            shown.ends_with("Access denied (***);  [31mbye")
                || shown.ends_with("Access denied (***); [31mbye"),
            "{shown}"
        );
        assert!(shown.len() <= SHOWN + 16);
    }
}
