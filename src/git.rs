//! The infra repo: which revision is desired, what it declares, and the repo's own backup.
//!
//! ```text
//! url ──▶ mirror ──▶ revision          which commit is desired, and the files that it declares
//!  │        ├─────▶ verify              who signed it, and whether that counts
//!  │        ├─────▶ bundle, unbundle    the repo's own backup as a stream, and back
//!  │        └─────▶ push                the same to Git servers, usable at once
//!  ├─written                            a branch that the controller itself writes: its runbooks
//!  └─watch                              wakes the loop when a local repository's references change
//! ```
//!
//! Objects are read and packed through git2; fetch and push run the `git` program (see [`program`]), which honours
//! the user's own ssh, credentials and proxies. Nothing of the repository is ever executed.

pub mod bundle;
mod history;
mod introduced;
pub mod mirror;
pub mod program;
pub mod push;
pub mod revision;
pub mod stored;
pub mod tips;
pub mod unbundle;
pub mod url;
pub mod verify;
pub mod watch;
pub mod written;

pub use history::Lost;
pub use mirror::{Fetched, Mirror, MirrorError};
pub use push::{PushError, PushMirror, Pushed};
pub use revision::{Declaration, Revision, RevisionError};
pub use stored::StoredTips;
pub use tips::{Tips, tips_position};
pub use url::RepoUrl;
pub use verify::{Mode, Policy, Trust};
pub use watch::Watch;
pub use written::{WriteError, Written, WrittenBranch};
