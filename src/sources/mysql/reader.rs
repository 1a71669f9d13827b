//! The reader of a binary log as it is written: `mariadb-binlog` or `mysqlbinlog` without an end, looked after. The program begins a file anew
//! wherever it was in it: what was read of that is kept aside until as much has come again.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use super::{
    ANSWER, Failure,
    access::Access,
    ahead::{self, Kept, before, names, origin, parts},
    gtids,
    programs::Flavour,
    session::Session,
};
use crate::{
    process::{Process, Program},
    sources::{
        Read, Reading,
        entries::{Entry, is_plain},
        spool,
    },
};

/// Reads until it is told to stop.
pub(super) async fn read(access: &Access, reading: &Reading<'_>) -> Result<Read, Failure> {
    let mut session = Session::open(access, None, ANSWER)?;
    if access.programs.flavour == Flavour::MySql && session.one("SELECT @@GLOBAL.gtid_mode").await? != "ON" {
        // Nothing would tell a log that was reset from the one before.
        return Ok(Read::NotReadable(
            "the server numbers no transactions: its gtid_mode is not ON".to_owned(),
        ));
    }
    if access.programs.flavour == Flavour::MySql && gtids::have_tags(&mut session).await? {
        return Ok(Read::NotReadable("transactions of the server bear tags, which are not read".to_owned()));
    }
    let (folder, program) = begin(access, session, reading.spool).await?;
    spool::attend(program, Watch { access, folder }, reading).await
}

async fn begin(access: &Access, mut session: Session, spool: &Path) -> Result<(PathBuf, Process), Failure> {
    let server = session.server_identity().await?;
    let listed = listed(&mut session).await?;
    let place = spool.to_owned();
    let (folder, first) = blocking(move || resume(&place, &server, &listed).map_err(unusable)).await?;
    let program = reader(access, &folder, spool, &first)?;
    Ok((folder, program.start()?))
}

/// The server's files, oldest first; the last one is written to.
async fn listed(session: &mut Session) -> Result<Vec<Entry>, Failure> {
    let mut files = Vec::new();
    for row in session.rows("SHOW BINARY LOGS").await? {
        let file = match row.as_slice() {
            [name, size, ..] if is_plain(name) => {
                size.parse().ok().map(|size| Entry { name: name.clone(), size })
            }
            _ => None,
        };
        let unreadable = || Failure::Answer("the server's list of binary logs can't be read".to_owned());
        files.push(file.ok_or_else(unreadable)?);
    }
    match files.is_empty() {
        true => Err(Failure::Refused("the server keeps no binary log".to_owned())),
        false => Ok(files),
    }
}

/// The stretch that the server's log goes on from, and the file to go on with; or else a new one, with the file that is written now.
fn resume(spool: &Path, server: &str, listed: &[Entry]) -> io::Result<(PathBuf, String)> {
    if let Some(folder) = spool::stretches(spool)?.into_iter().next()
        && origin(&folder).as_deref() == Some(server)
        && let Some(newest) = names(&folder)?.pop()
    {
        let kept = Kept::longest(&folder, &newest)?;
        let has = kept.as_ref().map_or(0, Kept::end);
        if listed.iter().any(|file| file.name == newest && file.size >= has) {
            set_aside(&folder, &newest, kept.as_ref())?;
            return Ok((folder, newest));
        }
    }
    let active = listed.last().map(|file| file.name.clone()).unwrap_or_default();
    Ok((ahead::begin(spool, server)?, active))
}

/// Keeps what was read of a file: the program begins it anew.
fn set_aside(folder: &Path, name: &str, longest: Option<&Kept>) -> io::Result<()> {
    let aside = before(folder, name);
    match longest {
        Some(kept) if kept.path() == aside => Ok(()),
        Some(kept) => fs::rename(kept.path(), &aside),
        None => Ok(()),
    }
}

fn reader(access: &Access, folder: &Path, spool: &Path, first: &str) -> Result<Program, Failure> {
    let mut files = OsString::from("--result-file=");
    // The program puts a file's name behind it.
    files.push(folder.join(""));
    let reader = access.binlog(Duration::MAX)?.dies_with_us()?;
    let reader = reader.arguments(["--read-from-remote-server", "--raw", "--stop-never"]).argument(files);
    let numbered = match access.programs.flavour {
        Flavour::MariaDb => "--stop-never-slave-server-id",
        Flavour::MySql => "--connection-server-id",
    };
    let reader = reader.argument(format!("{numbered}={}", number_of(spool)));
    Ok(reader.discard_output().argument("--").argument(first))
}

/// The number by which the server knows this reader: the same each time, so that it lets go of a connection that is left, and
/// another one than that of any other. In the upper half, where nobody numbers servers by hand.
fn number_of(spool: &Path) -> u32 {
    let host = rustix::system::uname();
    let mut digest = Sha256::new();
    digest.update(host.nodename().to_bytes());
    digest.update([0]);
    digest.update(spool.as_os_str().as_encoded_bytes());
    let digest = digest.finalize();
    let number = digest.iter().take(4).fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    number | 1 << 31
}

struct Watch<'a> {
    access: &'a Access,
    folder: PathBuf,
}

/// The number of a file, and how much of it there is.
type Place = (u64, u64);

#[async_trait]
impl spool::Watched for Watch<'_> {
    type Place = Place;
    type Failure = Failure;

    async fn server(&self) -> Result<Place, Failure> {
        let mut session = Session::open(self.access, None, ANSWER)?;
        let files = listed(&mut session).await?;
        let place = |file: &Entry| parts(&file.name).map(|(_, number)| (number, file.size));
        let unreadable = || Failure::Answer("the server's binary logs have no numbers".to_owned());
        files.last().and_then(place).ok_or_else(unreadable)
    }

    async fn spool(&self) -> Result<Option<Place>, Failure> {
        let folder = self.folder.clone();
        blocking(move || place(&folder).map_err(unusable)).await
    }

    fn fails(&self, told: String) -> Failure {
        Failure::Answer(told)
    }
}

/// How far the program has come; and lets go of what was set aside and has come again.
fn place(folder: &Path) -> io::Result<Option<Place>> {
    let listed = names(folder)?;
    let size = |path: PathBuf| path.metadata().ok().map(|found| found.len());
    for name in &listed {
        let (has, had) = (size(folder.join(name)), size(before(folder, name)));
        if had.is_some_and(|had| has.is_some_and(|has| has >= had)) {
            fs::remove_file(before(folder, name))?;
        }
    }
    let newest = listed.last().and_then(|name| Some((parts(name)?.1, size(folder.join(name))?)));
    Ok(newest)
}

/// Looks into files, which may be large.
pub(super) async fn blocking<T: Send + 'static>(
    look: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let looked = tokio::task::spawn_blocking(look).await;
    looked.unwrap_or_else(|died| Err(Failure::Incomplete(died.to_string())))
}

pub(super) fn unusable(error: io::Error) -> Failure {
    Failure::Refused(format!(
        "the spool of the log's reader can't be used: {error}; see that state_dir has room"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_has_one_number_of_its_own() {
        let number = number_of(Path::new("/var/lib/backstay/readers/shop"));
        assert_eq!(number, number_of(Path::new("/var/lib/backstay/readers/shop")));
        assert_ne!(number, number_of(Path::new("/var/lib/backstay/readers/agama")));
        assert!(number >= 1 << 31);
    }

    fn listed(files: &[(&str, u64)]) -> Vec<Entry> {
        files.iter().map(|(name, size)| Entry { name: (*name).to_owned(), size: *size }).collect()
    }

    #[test]
    fn a_reader_goes_on_with_its_newest_file_where_the_server_still_has_that() {
        let spool = tempfile::tempdir().unwrap();
        let on = |server: &str, files: &[(&str, u64)]| resume(spool.path(), server, &listed(files)).unwrap();
        let (first, file) = on("a", &[("bin.000006", 900), ("bin.000007", 100)]);
        assert_eq!(file, "bin.000007", "what is written now");
        fs::write(first.join("bin.000007"), "x").unwrap();
        let later = [("bin.000007", 500), ("bin.000008", 10)];
        assert_eq!(on("a", &later), (first.clone(), "bin.000007".to_owned()));
        assert!(before(&first, "bin.000007").exists() && !first.join("bin.000007").exists());
        assert_eq!(on("a", &later), (first.clone(), "bin.000007".to_owned()), "what is set aside counts");
        let purged = on("a", &[("bin.000009", 100)]);
        assert!(purged.0 != first && purged.1 == "bin.000009");
        assert_ne!(on("b", &[("bin.000009", 100)]).0, purged.0, "another server");
    }
}
