//! Whether a file was restored, and is as it should be.

use std::{io::Read, path::Path};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use sha2::{Digest, Sha256};

use super::{found, unmade};
use crate::{artifact::drill::Finding, spec::DrillCheck};

/// How much of a file is read at once, bytes.
const CHUNK: usize = 256 * 1024;

/// The fewest bytes, and the SHA-256.
type ExpectedFile = (Option<u64>, Option<String>);

fn described((min_bytes, sha256): &ExpectedFile) -> String {
    let bytes = min_bytes.map(|bytes| format!("at least {bytes} bytes"));
    let sum = sha256.as_ref().map(|sum| format!("SHA-256 {sum}"));
    let all: Vec<String> = bytes.into_iter().chain(sum).collect();
    if all.is_empty() { "a file".to_owned() } else { all.join(", ") }
}

/// Looks at a file beneath `root`.
pub(super) async fn file(check: &DrillCheck, root: &Path, path: &str, expected: ExpectedFile) -> Finding {
    let (root, path, of_whom, of_what) =
        (root.to_owned(), path.to_owned(), check.clone(), described(&expected));
    let check = check.clone();
    let looked = tokio::task::spawn_blocking(move || look(&check, &root, &path, &expected));
    looked.await.unwrap_or_else(|died| unmade(&of_whom, of_what, died.to_string()))
}

/// No link is followed: what was restored may lead anywhere.
fn look(check: &DrillCheck, root: &Path, path: &str, expected: &ExpectedFile) -> Finding {
    let told = described(expected);
    let looked = || -> std::io::Result<(u64, Option<String>)> {
        let folder = std::fs::File::open(root)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let mut file = std::fs::File::from(openat2(&folder, path, flags, Mode::empty(), resolve)?);
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(std::io::Error::other("it is no file"));
        }
        let sum = if expected.1.is_some() { Some(sha256(&mut file)?) } else { None };
        Ok((about.len(), sum))
    };
    match looked() {
        Ok((length, sum)) => {
            let is_long = expected.0.is_none_or(|least| length >= least);
            let holds = is_long && sum == expected.1;
            let sum = sum.map(|sum| format!(", SHA-256 {sum}")).unwrap_or_default();
            found(check, told, format!("{length} bytes{sum}"), holds)
        }
        Err(error) => found(check, told, error.to_string(), false),
    }
}

fn sha256(file: &mut std::fs::File) -> std::io::Result<String> {
    let (mut digest, mut piece) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hex::encode(digest.finalize())),
            length => digest.update(&piece[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::drill::Verdict;

    #[test]
    fn a_file_is_looked_at_where_it_is_and_no_link_leads_elsewhere() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/conf"), "abc").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("out")).unwrap();
        let verdict = |path: &str, min_bytes, sha256: Option<&str>| {
            let sha256 = sha256.map(str::to_owned);
            let check = DrillCheck::File { path: path.to_owned(), min_bytes, sha256: sha256.clone() };
            look(&check, root.path(), path, &(min_bytes, sha256)).verdict
        };
        let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(verdict("etc/conf", Some(3), Some(sum)), Verdict::Passed);
        assert_eq!(verdict("etc/conf", Some(4), None), Verdict::Failed);
        assert_eq!(verdict("etc/conf", None, Some(&sum.replace('b', "c"))), Verdict::Failed);
        for no_file in ["etc", "out", "../etc/passwd", "nothing"] {
            assert_eq!(verdict(no_file, None, None), Verdict::Failed, "{no_file}");
        }
    }
}
