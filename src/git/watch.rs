//! Wakes the loop when a reference of a local repository changes. A hint only: what changed is for a fetch to find out.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use super::url::{RepoUrl, git_dir};

/// Watches one local repository; ends when dropped.
#[derive(Debug)]
pub struct Watch {
    wakes: mpsc::Receiver<()>,
    task: tokio::task::JoinHandle<()>,
}

/// A repository that can't be watched; the poll still finds its changes.
#[derive(Debug, thiserror::Error)]
#[error(
    "failed to watch the repository {}: {reason}; changes are found by polling (fs.inotify.max_user_watches may be too low)", .path.display()
)]
pub struct WatchError {
    path: PathBuf,
    reason: String,
}

impl Watch {
    /// Watches the repository at `url`, from now on; `None` for one that is no folder of this host. A repository that is
    /// missing, or is replaced, is watched as soon as it appears.
    ///
    /// Must be called within a Tokio runtime.
    pub fn start(url: &RepoUrl) -> Result<Option<Self>, WatchError> {
        let Some(path) = url.local().map(Path::to_owned) else { return Ok(None) };
        let (events, seen) = mpsc::channel(1);
        let armed = Armed::new(&path, events.clone()).map_err(|e| failed(&path, e))?;
        let (wake, wakes) = mpsc::channel(1);
        let task = tokio::spawn(follow(path, armed, events, seen, wake));
        Ok(Some(Self { wakes, task }))
    }

    /// Waits until something changed since the last call; any number of changes are one. Cancel safe. `None`, when the
    /// repository can no longer be watched.
    pub async fn changed(&mut self) -> Option<()> {
        self.wakes.recv().await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn failed(path: &Path, error: notify::Error) -> WatchError {
    WatchError { path: path.to_owned(), reason: error.to_string() }
}

/// Hands wake-ups on, and watches anew when a watched folder has been replaced.
async fn follow(
    path: PathBuf,
    mut armed: Armed,
    events: mpsc::Sender<()>,
    mut seen: mpsc::Receiver<()>,
    wake: mpsc::Sender<()>,
) {
    while seen.recv().await.is_some() {
        // Arming may itself miss what happens meanwhile, so it is repeated until nothing has moved.
        while !armed.is_current(&path) {
            match Armed::new(&path, events.clone()) {
                Ok(anew) => armed = anew,
                Err(error) => {
                    tracing::warn!("{}", failed(&path, error));
                    return;
                }
            }
        }
        // A wake-up that waits already covers this one.
        let _ = wake.try_send(());
    }
}

/// A watcher and what it watches.
struct Armed {
    _watcher: RecommendedWatcher,
    places: Vec<Place>,
}

#[derive(PartialEq, Eq)]
struct Place {
    path: PathBuf,
    mode: RecursiveMode,
    /// Device and inode: the same name may be another folder later.
    identity: (u64, u64),
}

impl Armed {
    fn new(path: &Path, events: mpsc::Sender<()>) -> notify::Result<Self> {
        let repository = path.to_owned();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error means that events were lost: look.
            if event.map_or(true, |event| concerns(&event, &repository)) {
                let _ = events.try_send(());
            }
        })?;
        let places = places(path);
        for place in &places {
            match watcher.watch(&place.path, place.mode) {
                // It went between the two; `is_current` sees that.
                Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => {}
                watched => watched?,
            }
        }
        Ok(Self { _watcher: watcher, places })
    }

    fn is_current(&self, path: &Path) -> bool {
        self.places == places(path)
    }
}

/// What to watch: the references, the folder that holds HEAD and `packed-refs`, and the folder around the repository,
/// or around where it will be.
fn places(path: &Path) -> Vec<Place> {
    let place = |path: &Path, mode| {
        let stat = fs::metadata(path).ok()?;
        Some(Place { path: path.to_owned(), mode, identity: (stat.dev(), stat.ino()) })
    };
    let around = path.ancestors().skip(1).find(|folder| folder.is_dir());
    let mut places = vec![around.and_then(|folder| place(folder, RecursiveMode::NonRecursive))];
    match git_dir(path) {
        Some(dir) => {
            places.push(place(&dir, RecursiveMode::NonRecursive));
            places.push(place(&dir.join("refs"), RecursiveMode::Recursive));
            let outer = (dir != path).then(|| place(path, RecursiveMode::NonRecursive));
            places.extend(outer);
        }
        None => places.push(place(path, RecursiveMode::NonRecursive)),
    }
    places.into_iter().flatten().collect()
}

/// Whether an event may mean that a reference moved, or that the repository or a folder above it came or went. Leaves
/// out reading, lock files, and what else lies beside the references, such as the index.
fn concerns(event: &Event, repository: &Path) -> bool {
    let concerned = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let reference = matches!(name.as_ref(), "HEAD" | "packed-refs")
            || path.components().any(|part| part.as_os_str() == "refs");
        reference && !name.ends_with(".lock") || name == ".git" || repository.starts_with(path)
    };
    !matches!(event.kind, EventKind::Access(_)) && (event.need_rescan() || event.paths.iter().any(concerned))
}

#[cfg(test)]
mod tests {
    use notify::event::{AccessKind, CreateKind, ModifyKind, RenameMode};

    use super::*;

    #[test]
    fn references_and_the_repository_itself_wake_and_what_lies_beside_them_does_not() {
        let create = EventKind::Create(CreateKind::File);
        let rename = EventKind::Modify(ModifyKind::Name(RenameMode::Both));
        let wakes = |kind, paths: &[&str]| {
            let event = paths.iter().fold(Event::new(kind), |event, path| event.add_path(path.into()));
            concerns(&event, Path::new("/srv/git/infra"))
        };
        let refs = "/srv/git/infra/.git/refs/heads";
        assert!(wakes(rename, &[&format!("{refs}/main.lock"), &format!("{refs}/main")]));
        assert!(wakes(rename, &["/srv/git/infra/.git/packed-refs.lock", "/srv/git/infra/.git/packed-refs"]));
        assert!(wakes(create, &["/srv/git/infra/.git"]));
        assert!(wakes(create, &["/srv/git/infra"]));
        assert!(wakes(create, &["/srv/git"]));
        assert!(!wakes(create, &[&format!("{refs}/main.lock")]));
        assert!(!wakes(create, &["/srv/git/infra/README.md"]));
        assert!(!wakes(create, &["/srv/git/infra/.git/index"]));
        assert!(!wakes(create, &["/srv/git/other"]));
        assert!(!wakes(EventKind::Access(AccessKind::Read), &[refs]));
    }
}
