//! The server that is copied, and its data folder on this host.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use sha2::{Digest, Sha256};

use super::{
    super::{Failure, gtids::binlog_gtid_pos, marks::Position, session::Session},
    standing::{Now, Seen, Standing, Told},
};

/// The file that every data folder has from its beginning; what stands in for it where it is kept elsewhere.
const OLDEST: [&str; 2] = ["ibdata1", "mysql"];

/// Where the engines put files that could lie elsewhere (MariaDB's documentation, "InnoDB System Variables").
const PLACES: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('innodb_undo_directory', 'innodb_data_home_dir', \
                      'innodb_log_group_home_dir', 'aria_log_dir_path', 'innodb_data_file_path')";

/// What stands in an artifact for the name of a data folder whose file system does not keep when files were made.
pub(super) const NAMELESS: &str = "unknown";

/// Hexadecimal digits that name a data folder.
const DIGITS: usize = 16;

/// A server whose files lie on this host.
#[derive(Clone, Debug)]
pub(super) struct Here {
    pub version: String,
    server: String,
    files: String,
}

impl Here {
    pub(super) async fn of(session: &mut Session, data_dir: &Path) -> Result<Self, Failure> {
        let version = session.one("SELECT VERSION()").await?;
        if !version.contains("MariaDB") {
            let why = format!(
                "physical captures are of MariaDB, and this is MySQL {version}; use method = \"logical\""
            );
            return Err(Failure::Refused(why));
        }
        must_be_this_host(&session.one("SELECT @@hostname").await?)?;
        must_be_the_folder(&session.one("SELECT @@datadir").await?, data_dir)?;
        must_lie_inside(&session.rows(PLACES).await?, data_dir)?;
        Ok(Self { version, server: session.server_identity().await?, files: name_of(data_dir)? })
    }

    /// Where a copy of it stands.
    pub(super) fn standing(&self, told: Told) -> Standing {
        let Told { to_lsn, log, gtid, .. } = told;
        Standing { log, gtid, lsn: to_lsn, files: self.files.clone(), server: self.server.clone() }
    }

    /// What there is now at the place of a base.
    pub(super) async fn compared_with(&self, session: &mut Session, base: &Standing) -> Result<Now, Failure> {
        let lsn = session.rows("SHOW GLOBAL STATUS LIKE 'Innodb_lsn_current'").await?;
        let lsn = lsn.first().and_then(|row| row.get(1)?.parse().ok());
        let log = match &base.log {
            Some(place) if session.one("SELECT @@log_bin").await? == "1" => seen(session, place).await?,
            _ => Seen::Nothing,
        };
        Ok(Now { files: self.files.clone(), server: self.server.clone(), lsn, log })
    }
}

/// What is found in the server's binary log at a place of it.
async fn seen(session: &mut Session, place: &Position) -> Result<Seen, Failure> {
    let listed: Vec<String> = session
        .rows("SHOW BINARY LOGS")
        .await?
        .into_iter()
        .filter_map(|row| row.into_iter().next())
        .collect();
    if !listed.contains(&place.file) {
        let is_purged = listed.first().is_some_and(|first| is_before(&place.file, first));
        return Ok(if is_purged { Seen::Nothing } else { Seen::Otherwise });
    }
    let found = binlog_gtid_pos(session, &place.file, place.offset).await?;
    Ok(found.map_or(Seen::Otherwise, Seen::Gtid))
}

/// Whether a file of a binary log comes before another of the same log.
fn is_before(one: &str, other: &str) -> bool {
    let number = |file: &str| {
        let (stem, number) = file.rsplit_once('.')?;
        Some((stem.to_owned(), number.parse::<u64>().ok()?))
    };
    match (number(one), number(other)) {
        (Some((stem, one)), Some((other_stem, other))) => stem == other_stem && one < other,
        _ => false,
    }
}

/// The files that are read must be those of the server that is asked.
fn must_be_this_host(server: &str) -> Result<(), Failure> {
    let system = rustix::system::uname();
    let here = system.nodename().to_string_lossy();
    // The server cuts longer names.
    if server == here || (server.len() >= 60 && here.starts_with(server)) {
        return Ok(());
    }
    Err(Failure::Refused(format!(
        "the server runs on host {server}, and this is {here}: a physical capture reads the files of a server on its own host; \
         run the controller there, or use method = \"logical\""
    )))
}

fn must_be_the_folder(server: &str, declared: &Path) -> Result<(), Failure> {
    let real = |path: &Path| {
        path.canonicalize().map_err(|error| Failure::Refused(format!("{}: {error}", path.display())))
    };
    if real(Path::new(server))? == real(declared)? {
        return Ok(());
    }
    Err(Failure::Refused(format!(
        "the server's data folder is {server}, and {} is declared: declare data_dir = {server:?}",
        declared.display()
    )))
}

/// A server that is started on a restored copy must not find the original's files.
fn must_lie_inside(places: &[Vec<String>], data_dir: &Path) -> Result<(), Failure> {
    let data = data_dir.canonicalize();
    let data = data.map_err(|error| Failure::Refused(format!("{}: {error}", data_dir.display())))?;
    let is_inside = |value: &str| {
        let place = data.join(value);
        place.canonicalize().is_ok_and(|place| place.starts_with(&data))
    };
    for row in places {
        let [name, value] = row.as_slice() else {
            return Err(Failure::Answer("the server's list of settings can't be read".to_owned()));
        };
        // `ibdata1:12M;/elsewhere/ibdata2:1G:autoextend` names files, which stand in the folder by their names alone.
        let fits = match name.as_str() {
            "innodb_data_file_path" => !value.contains('/'),
            _ => is_inside(value),
        };
        if !fits {
            return Err(Failure::Refused(format!(
                "the server keeps files outside its data folder, {name} = {value:?}: a server on the restored copy would open \
                 the original's; move them into {}, or use method = \"logical\"",
                data_dir.display()
            )));
        }
    }
    Ok(())
}

/// A name of a data folder that a restart does not change, and another folder in its place does not have.
fn name_of(data_dir: &Path) -> Result<String, Failure> {
    let wanted = StatxFlags::INO | StatxFlags::BTIME;
    let look = |name: &&str| statx(CWD, data_dir.join(name), AtFlags::SYMLINK_NOFOLLOW, wanted).ok();
    let found = OLDEST.iter().find_map(look);
    let found = found.ok_or_else(|| {
        Failure::Refused(format!(
            "{} holds no {}, or may not be read",
            data_dir.display(),
            OLDEST.join(" or ")
        ))
    })?;
    // Without it a folder that is put in the place of another could have the same name: this one is like no other then.
    if found.stx_mask & StatxFlags::BTIME.bits() == 0 {
        return Ok(NAMELESS.to_owned());
    }
    let text = format!("{} {} {}", found.stx_ino, found.stx_btime.tv_sec, found.stx_btime.tv_nsec);
    Ok(hex::encode(Sha256::digest(text)).chars().take(DIGITS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_folder_in_the_place_of_one_has_another_name() {
        let scratch = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let folder = scratch.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("ibdata1"), "pages").unwrap();
            folder
        };
        let (one, other) = (make("one"), make("other"));
        let name = name_of(&one).unwrap();
        std::fs::write(one.join("ibdata1"), "more pages").unwrap();
        assert_eq!(name_of(&one).unwrap(), name);
        assert_ne!(name_of(&other).unwrap(), name);
        assert!(name_of(scratch.path()).is_err());
    }

    #[test]
    fn what_lies_outside_the_data_folder_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let (data, away) = (scratch.path().join("data"), scratch.path().join("away"));
        [&data, &away].into_iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
        std::os::unix::fs::symlink(&away, data.join("link")).unwrap();
        let look =
            |name: &str, value: &str| must_lie_inside(&[vec![name.to_owned(), value.to_owned()]], &data);
        let inside = data.display().to_string();
        for value in ["./", "", ".", inside.as_str()] {
            look("innodb_undo_directory", value).unwrap();
        }
        look("innodb_data_file_path", "ibdata1:12M:autoextend").unwrap();
        for value in [away.to_str().unwrap(), "..", "../away", "link", "absent"] {
            let refused = look("innodb_log_group_home_dir", value).unwrap_err().reason();
            assert!(refused.contains("innodb_log_group_home_dir"), "{refused}");
        }
        look("innodb_data_file_path", "ibdata1:12M;/dev/sdb1:1Graw").unwrap_err();
        assert!(must_lie_inside(&[vec!["x".to_owned()]], &data).is_err());
    }

    #[test]
    fn files_of_one_log_are_ordered_by_number() {
        assert!(is_before("bin.000009", "bin.000010"));
        assert!(!is_before("bin.000010", "bin.000009") && !is_before("a.000001", "b.000002"));
    }
}
