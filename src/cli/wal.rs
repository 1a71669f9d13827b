//! `backstay wal-push` and `wal-fetch`: what PostgreSQL's `archive_command` and `restore_command` start.

use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use clap::Args;

use super::{controller, exit::Exit, terminal::Terminal};
use crate::{
    archive::{self, ArchiveError, Pushed},
    config::Config,
    reconcile::FetchedFile,
    spec::names::BackupName,
    state::StateDir,
};

/// Take a file of a PostgreSQL server's log into its backup's archive
///
/// For `archive_command`, of a backup that declares `log_from = "archive"`. Returns once the file is durable on this host; the next
/// capture of the log stores it. The same file again is no fault; another one of the same name is refused.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  backstay wal-push orders pg_wal/00000001000000000000000A\n\nIn postgresql.conf:\n  archive_command = 'backstay wal-push orders %p'"
)]
pub(super) struct WalPush {
    /// The backup
    name: BackupName,
    /// The file, as the server names it
    path: PathBuf,
}

/// Fetch a file of a PostgreSQL server's log: from this host, or else from the stores
///
/// For `restore_command`. Exits with 1 where there is no such file, as the server expects. What is stored can be read with an identity
/// only.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  backstay wal-fetch orders 00000001000000000000000A /tmp/segment\n\nIn postgresql.conf:\n  restore_command = 'backstay wal-fetch orders %f %p'"
)]
pub(super) struct WalFetch {
    /// The backup
    name: BackupName,
    /// The name of the file
    file: PathBuf,
    /// Where to write it; what is there is replaced
    to: PathBuf,
    /// The size of the server's segments, where that is another than the default
    #[arg(long, value_name = "SIZE", default_value = "16MiB")]
    segment_size: ByteSize,
}

impl WalPush {
    pub(super) fn run(self, config: &Path, terminal: &Terminal) -> anyhow::Result<Exit> {
        let config = Config::load(config)?;
        let spool = spool_of(&config, &self.name);
        let most = config.readers.most().unwrap_or(u64::MAX);
        match archive::push(&spool, &self.name, &self.path, most)? {
            Pushed::Taken => {}
            Pushed::Known => terminal.note("It was there already."),
        }
        Ok(Exit::Done)
    }
}

impl WalFetch {
    pub(super) fn run(self, config: &Path) -> anyhow::Result<Exit> {
        let name = archive::file_name(&self.file)?;
        if archive::give(&spool_of(&Config::load(config)?, &self.name), &name, &self.to)? {
            return Ok(Exit::Done);
        }
        let controller = controller::open(config)?;
        let size = self.segment_size.0;
        let fetched = controller::block_on(async {
            Ok(controller.fetch_wal(&self.name, &name, &self.to, size).await?)
        })?;
        match fetched {
            FetchedFile::Found => Ok(Exit::Done),
            FetchedFile::Nowhere { unseen } => {
                Err(ArchiveError::Missing { name, backup: self.name, unseen }.into())
            }
        }
    }
}

/// The folder of what is read ahead of a backup. Nothing is made where it is missing.
fn spool_of(config: &Config, backup: &BackupName) -> PathBuf {
    StateDir::readers_in(&config.state_dir).join(backup.as_str())
}
