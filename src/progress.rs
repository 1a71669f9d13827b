//! How far long work has come, for whoever shows it.

/// Told of bytes as they pass. Called often, from anywhere: cheap, and never waits.
pub trait Progress: Send + Sync {
    /// So many bytes more were read from where the work takes them.
    fn read(&self, bytes: u64);

    /// So many bytes more are durable where the work puts them.
    fn written(&self, bytes: u64);
}

/// Shown to nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unseen;

impl Progress for Unseen {
    fn read(&self, _bytes: u64) {}

    fn written(&self, _bytes: u64) {}
}
