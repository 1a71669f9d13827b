//! A part of what a stream holds: what stands at some paths, and below them.

use std::path::Path;

use async_trait::async_trait;
use tokio::io::AsyncRead;

use super::{CaptureRequest, Captured, Place, Probe, Replay, Restored, Sink, Source, SourceError};

/// The paths of which a restore brings back what stands there, with all that is below. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    paths: Vec<String>,
}

impl Selection {
    /// Of these paths; `None` where there are none: then all of a stream is restored.
    pub fn of(paths: &[String]) -> Option<Self> {
        (!paths.is_empty()).then(|| Self { paths: paths.to_vec() })
    }

    /// The paths, as they were given.
    pub fn paths(&self) -> &[String] {
        &self.paths
    }
}

/// A source of whose streams only a part is restored.
pub struct Selective {
    source: Box<dyn Source>,
    selection: Selection,
}

impl Selective {
    /// `source`, with restores of `selection` only.
    pub fn new(source: Box<dyn Source>, selection: Selection) -> Self {
        Self { source, selection }
    }
}

#[async_trait]
impl Source for Selective {
    async fn probe(&self) -> Result<Probe, SourceError> {
        self.source.probe().await
    }

    fn stream_name(&self) -> String {
        self.source.stream_name()
    }

    async fn capture(
        &self,
        request: &CaptureRequest<'_>,
        sink: &mut dyn Sink,
    ) -> Result<Captured, SourceError> {
        self.source.capture(request, sink).await
    }

    async fn restore(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
    ) -> Result<Restored, SourceError> {
        self.source.restore_selected(stream, place, &self.selection).await
    }

    async fn make_way(&self) -> Result<(), SourceError> {
        Err(self.whole_only())
    }

    async fn replay(
        &self,
        _stream: &mut (dyn AsyncRead + Send + Unpin),
        _place: &Place,
        _replay: &Replay,
    ) -> Result<Restored, SourceError> {
        Err(self.whole_only())
    }

    fn adds_up(&self, place: &Place) -> bool {
        self.source.adds_up(place)
    }

    async fn join(&self, _folder: &Path, _place: &Place) -> Result<Restored, SourceError> {
        Err(self.whole_only())
    }
}

impl Selective {
    fn whole_only(&self) -> SourceError {
        SourceError::whole_only(&self.stream_name())
    }
}

/// Which paths of a selection have been found so far.
#[derive(Clone, Debug)]
pub(super) struct Picks {
    picks: Vec<Pick>,
}

#[derive(Clone, Debug)]
struct Pick {
    /// As it was given.
    shown: String,
    /// Without slashes around it.
    path: Vec<u8>,
    found: bool,
}

/// Of a selection, paths at which nothing stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    /// As they were given.
    pub paths: Vec<String>,
    /// Whether something was found at others.
    pub others_found: bool,
}

impl Picks {
    /// Slashes around a path mean nothing: names in an archive are relative to `/`.
    pub(super) fn of<'a>(paths: impl IntoIterator<Item = &'a String>) -> Self {
        let pick = |path: &String| Pick {
            shown: path.clone(),
            path: path.trim_matches('/').as_bytes().to_vec(),
            found: false,
        };
        Self { picks: paths.into_iter().map(pick).collect() }
    }

    /// Whether what has this name is selected. Notes that it was found.
    pub(super) fn take(&mut self, name: &[u8]) -> bool {
        let mut taken = false;
        for pick in self.picks.iter_mut().filter(|pick| pick.holds(name)) {
            pick.found = true;
            taken = true;
        }
        taken
    }

    /// Whether what has this name is selected.
    pub(super) fn hold(&self, name: &[u8]) -> bool {
        self.picks.iter().any(|pick| pick.holds(name))
    }

    /// Whether something is selected that stands below this name.
    pub(super) fn reach_below(&self, name: &[u8]) -> bool {
        self.picks.iter().any(|pick| is_at_or_below(&pick.path, trimmed(name)))
    }

    /// What was looked for, and whether it was found.
    pub(super) fn outcomes(&self) -> impl Iterator<Item = (&str, bool)> {
        self.picks.iter().map(|pick| (pick.shown.as_str(), pick.found))
    }
}

impl Pick {
    fn holds(&self, name: &[u8]) -> bool {
        is_at_or_below(trimmed(name), &self.path)
    }
}

impl Missing {
    /// Of paths, and whether each was found once the whole stream was read; `None` where nothing is missing.
    pub(super) fn among<'a>(outcomes: impl Iterator<Item = (&'a str, bool)>) -> Option<Self> {
        let (found, lost): (Vec<_>, Vec<_>) = outcomes.partition(|(_, found)| *found);
        let paths: Vec<String> = lost.into_iter().map(|(path, _)| path.to_owned()).collect();
        (!paths.is_empty()).then_some(Self { paths, others_found: !found.is_empty() })
    }

    /// What to tell whoever asked.
    pub(super) fn told(&self) -> String {
        let paths = self.paths.join(", ");
        match self.others_found {
            true => format!(
                "the artifact holds nothing at {paths}; what it holds at the other paths was restored"
            ),
            false => format!("the artifact holds nothing at {paths}; nothing was restored"),
        }
    }
}

fn trimmed(name: &[u8]) -> &[u8] {
    let from = name.iter().position(|byte| *byte != b'/').unwrap_or(name.len());
    let to = name.iter().rposition(|byte| *byte != b'/').map_or(from, |last| last + 1);
    &name[from..to]
}

fn is_at_or_below(name: &[u8], path: &[u8]) -> bool {
    match name.strip_prefix(path) {
        Some(rest) => rest.is_empty() || path.is_empty() || rest[0] == b'/',
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(paths: &[&str]) -> Picks {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        Picks::of(&paths)
    }

    #[test]
    fn a_path_selects_what_stands_there_and_below_and_nothing_beside() {
        let mut picks = picks(&["/srv/docs/", "a"]);
        for name in ["srv/docs", "srv/docs/", "srv/docs/x/y", "a", "a/b", "/a"] {
            assert!(picks.take(name.as_bytes()), "{name}");
        }
        for name in ["srv", "srv/docs2", "srv/docs2/x", "b/a", "ab", ""] {
            assert!(!picks.take(name.as_bytes()), "{name}");
        }
        assert!(picks.reach_below(b"srv") && picks.reach_below(b"srv/docs/"));
        assert!(!picks.reach_below(b"sr") && !picks.reach_below(b"srv/docs/x"));
    }

    #[test]
    fn the_root_selects_everything() {
        assert!(picks(&["/"]).take(b"srv/docs"));
    }

    #[test]
    fn what_was_not_found_is_told() {
        let mut picks = picks(&["a", "/b"]);
        let missing = |picks: &Picks| Missing::among(picks.outcomes());
        assert_eq!(missing(&picks).unwrap().paths, ["a", "/b"]);
        assert!(missing(&picks).unwrap().told().contains("nothing was restored"));
        picks.take(b"a/x");
        assert_eq!(missing(&picks).unwrap(), Missing { paths: vec!["/b".to_owned()], others_found: true });
        picks.take(b"b");
        assert_eq!(missing(&picks), None);
    }

    #[test]
    fn no_paths_are_no_selection() {
        assert_eq!(Selection::of(&[]), None);
    }
}
