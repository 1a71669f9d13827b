//! What of the binary log may go: whole files that every store has.

use super::{ANSWER, Failure, access::Access, binlog::file_and_offset, gtids, session::Session};
use crate::{
    artifact::{manifest::Edge, position::LogPosition, transactions::Transactions},
    sources::entries::is_plain,
};

/// Purges the files before the one that `stored` lies in. Returns what it did; empty where there was nothing to purge.
pub(super) async fn purge(access: &Access, stored: &Edge) -> Result<String, Failure> {
    let mut session = Session::open(access, None, ANSWER)?;
    let server = session.server_identity().await?;
    let listed = files(&mut session).await?;
    let Some(first) = first_to_keep(&stored.position, &server, &listed) else { return Ok(String::new()) };
    // A log that was reset may have come to a file of that name, and only transactions tell.
    if Transactions::of_position(&stored.position).is_empty() {
        return Ok(String::new());
    }
    let (_, offset) = file_and_offset(&stored.position).unwrap_or_default();
    if !gtids::has_place(access, &mut session, &stored.position, (first, offset)).await? {
        return Ok(String::new());
    }
    let before = listed.len();
    session.rows(&format!("PURGE BINARY LOGS TO {}", name(first)?)).await?;
    // The server keeps files that it needs itself, for as long as it does.
    let purged = before.saturating_sub(files(&mut session).await?.len());
    match purged {
        0 => Ok(String::new()),
        1 => Ok(format!("a binary log before {first} purged")),
        several => Ok(format!("{several} binary logs before {first} purged")),
    }
}

async fn files(session: &mut Session) -> Result<Vec<String>, Failure> {
    let rows = session.rows("SHOW BINARY LOGS").await?;
    Ok(rows.into_iter().filter_map(|row| row.into_iter().next()).collect())
}

/// The oldest file that is not stored whole; `None` where no file is older, or the log is another one than was stored.
fn first_to_keep<'f>(stored: &str, server: &str, files: &'f [String]) -> Option<&'f str> {
    let LogPosition::Binlog { server: Some(of), .. } = LogPosition::parse(stored)? else { return None };
    let (file, _) = stored.split(',').next()?.rsplit_once(':')?;
    let place = files.iter().position(|listed| listed == file).filter(|place| *place > 0)?;
    (of == server).then(|| files[place].as_str())
}

/// A file's name in statements that take a literal only, and no expression.
pub(super) fn name(file: &str) -> Result<String, Failure> {
    if is_plain(file) {
        Ok(format!("'{file}'"))
    } else {
        Err(Failure::Answer(format!("{file:?} is no name of a binary log")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_before_the_stored_place_of_this_very_log_go() {
        let files: Vec<String> = (5..9).map(|number| format!("bin.{number:06}")).collect();
        let keep = |stored: &str| first_to_keep(stored, "s", &files);
        assert_eq!(keep("bin.000007:4, server s"), Some("bin.000007"));
        assert_eq!(keep("bin.000005:4, server s"), None, "nothing is older");
        assert_eq!(keep("bin.000009:4, server s"), None, "it was reset");
        assert_eq!(keep("bin.000007:4, server t"), None, "another server's");
        assert_eq!(keep("bin.000007:4"), None, "nobody knows whose");
        assert_eq!(keep("0/3000028, system s"), None);
        assert!(name("bin.000007").is_ok() && name("a'; DROP").is_err());
    }
}
