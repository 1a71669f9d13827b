//! What a pass holds while it changes something: by whose leave, and the journal of what it does.

use std::sync::{Arc, Mutex};

use super::{Ask, PassError, lock};
use crate::{
    apply::{
        executor::{Halt, Listener},
        journal::Journal,
    },
    inventory::Interrupted,
    state::{Lock, StateDir},
};

/// What a pass works with from its lock to its end.
pub(super) struct Hand {
    _leave: Leave,
    pub(super) journal: Arc<Mutex<Journal>>,
    pub(super) halt: Halt,
    pub(super) listener: Arc<dyn Listener>,
}

/// By whose leave a pass does what it does.
enum Leave {
    /// Nobody else changes anything of what this state directory is for.
    Alone { _lock: Lock },
    /// It changes nothing that others could: a restore reads stores, and goes on beside captures.
    Beside { _journal: tempfile::TempDir },
}

impl Hand {
    pub(super) fn take(
        state: &StateDir,
        ask: &Ask,
        halt: &Halt,
        listener: &Arc<dyn Listener>,
    ) -> Result<Self, PassError> {
        let (leave, path) = match ask {
            Ask::Restore(_) => {
                let folder = state.scratch()?;
                let path = folder.path().join("journal");
                (Leave::Beside { _journal: folder }, path)
            }
            _ => (Leave::Alone { _lock: state.lock()? }, state.journal()),
        };
        let journal = Arc::new(Mutex::new(Journal::open(path)?));
        Ok(Self { _leave: leave, journal, halt: halt.clone(), listener: listener.clone() })
    }

    /// What the steps are writing just now.
    pub(super) fn under_way(&self) -> Vec<Interrupted> {
        lock(&self.journal).under_way()
    }

    /// What was begun, never ended, and does not go on.
    pub(super) fn interrupted(&self) -> Vec<Interrupted> {
        lock(&self.journal).interrupted()
    }
}
