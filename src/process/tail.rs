//! The end of a program's standard error: bounded, and without secrets.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{io::AsyncReadExt, process::ChildStderr, task::JoinHandle};

use super::error::Said;
use crate::secrets::Secret;

/// How much is kept before secrets are struck out, bytes.
pub(super) const KEPT: usize = 64 * 1024;

/// How much is shown, bytes.
const SHOWN: usize = 4 * 1024;

/// A stray that left the group may hold standard error open after the program has ended; nobody waits longer for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Follows standard error.
#[derive(Debug)]
pub(super) struct Tail {
    place: Place,
    secrets: Vec<Secret>,
}

/// Where standard error goes.
#[derive(Debug)]
enum Place {
    Pipe { kept: Arc<Mutex<Vec<u8>>>, reader: JoinHandle<()> },
    File(File),
}

impl Tail {
    pub(super) fn follow(stderr: Option<ChildStderr>, secrets: Vec<Secret>) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let reader = tokio::spawn(keep(stderr, kept.clone()));
        Self { place: Place::Pipe { kept, reader }, secrets }
    }

    /// Of a program whose standard error is this file.
    pub(super) fn of(file: File, secrets: Vec<Secret>) -> Self {
        Self { place: Place::File(file), secrets }
    }

    /// Waits until nobody can say anything any more, for `longest` at most.
    pub(super) async fn closed(&mut self, longest: Duration) {
        match &mut self.place {
            Place::Pipe { reader, .. } if !reader.is_finished() => {
                let _ = tokio::time::timeout(longest, reader).await;
            }
            Place::Pipe { .. } | Place::File(_) => {}
        }
    }

    /// What the program said last, once it has ended.
    pub(super) async fn said(&mut self) -> Said {
        match &mut self.place {
            Place::Pipe { kept, reader } => {
                let _ = tokio::time::timeout(PATIENCE, reader).await;
                let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                Said(shown(&kept, &self.secrets))
            }
            Place::File(file) => Said(shown(&end_of(file), &self.secrets)),
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        if let Place::Pipe { reader, .. } = &self.place {
            reader.abort();
        }
    }
}

/// The end of a file; nothing of one that can't be read.
fn end_of(file: &File) -> Vec<u8> {
    let length = file.metadata().map_or(0, |about| about.len());
    let mut end = vec![0; usize::try_from(length).map_or(KEPT, |length| length.min(KEPT))];
    let from = length.saturating_sub(end.len() as u64);
    match file.read_exact_at(&mut end, from) {
        Ok(()) => end,
        Err(_) => Vec::new(),
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
