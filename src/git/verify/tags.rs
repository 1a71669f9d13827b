//! Signed tags that name revisions.

use std::collections::HashMap;

use git2::{ObjectType, Oid};

use super::{Choice, Distrust, Judge, Signer, Unverified, matches, named, signed, unreadable};

/// The most tags and the most commits that are looked at for the newest tag.
const MOST_TAGS: usize = 10_000;
const MOST_WALKED: usize = 100_000;

/// A tag whose name matches, not verified yet.
struct Candidate {
    name: String,
    object: Oid,
}

/// The newest trusted tag in the history of `tip`: no commit that follows it has one.
pub(super) fn choose(judge: &Judge<'_>, pattern: &str, tip: &str) -> Result<Choice, Distrust> {
    let tags = candidates(judge, pattern)?;
    let broken = |error: git2::Error| unreadable(&named(tip), &error);
    let mut walk = judge.repo.revwalk().map_err(broken)?;
    walk.set_sorting(git2::Sort::TOPOLOGICAL | git2::Sort::TIME).map_err(broken)?;
    Oid::from_str(tip).and_then(|tip| walk.push(tip)).map_err(broken)?;
    let mut newer = None;
    for id in walk.take(MOST_WALKED) {
        let id = id.map_err(broken)?;
        for candidate in tags.get(&id).into_iter().flatten() {
            match verified(judge, candidate) {
                Ok(signer) => return Ok(Choice { revision: id.to_string(), signer, newer }),
                Err(distrust) => _ = newer.get_or_insert(distrust),
            }
        }
    }
    Err(newer.unwrap_or_else(|| Distrust {
        what: named(tip),
        by: None,
        why: format!(
            "no tag that matches `{}` is in its history; make one with git tag -s",
            pattern.escape_debug()
        ),
    }))
}

/// Who signed a tag of the commit `id`.
pub(super) fn vouch(judge: &Judge<'_>, pattern: &str, id: &str) -> Result<Signer, Distrust> {
    let tags = candidates(judge, pattern)?;
    let of_it = Oid::from_str(id).ok().and_then(|id| tags.get(&id)).into_iter().flatten();
    let mut why = Distrust { what: named(id), by: None, why: "no signed tag names it".to_owned() };
    for candidate in of_it {
        match verified(judge, candidate) {
            Ok(signer) => return Ok(signer),
            Err(distrust) => why = distrust,
        }
    }
    Err(why)
}

/// The tags that match, by the commit that each names. One that names no commit names no revision.
fn candidates(judge: &Judge<'_>, pattern: &str) -> Result<HashMap<Oid, Vec<Candidate>>, Distrust> {
    let broken = |error: git2::Error| unreadable("the tags", &error);
    let mut found: HashMap<Oid, Vec<Candidate>> = HashMap::new();
    for (number, reference) in judge.repo.references_glob("refs/tags/*").map_err(broken)?.enumerate() {
        if number >= MOST_TAGS {
            let why = format!("there are more than {MOST_TAGS} tags");
            return Err(Distrust { what: "the tags".to_owned(), by: None, why });
        }
        let reference = reference.map_err(broken)?;
        let name = reference.name().ok().and_then(|name| name.strip_prefix("refs/tags/")).map(str::to_owned);
        let (Some(name), Some(object)) = (name, reference.target()) else { continue };
        if matches(&name, pattern)
            && let Some(commit) = commit(judge, object)
        {
            found.entry(commit).or_default().push(Candidate { name, object });
        }
    }
    Ok(found)
}

/// The commit that a tag names, itself or through an annotation.
fn commit(judge: &Judge<'_>, object: Oid) -> Option<Oid> {
    match judge.repo.odb().ok()?.read_header(object).ok()?.1 {
        ObjectType::Commit => Some(object),
        ObjectType::Tag => {
            let tag = signed::tag(&judge.raw(object).ok()?)?;
            (tag.kind == "commit").then(|| Oid::from_str(&tag.object).ok())?
        }
        _ => None,
    }
}

/// Who signed a tag, if that counts for the name under which it is found: tags are moved and renamed by anybody who may
/// push.
fn verified(judge: &Judge<'_>, candidate: &Candidate) -> Result<Signer, Distrust> {
    let what = format!("tag {}", candidate.name.escape_debug());
    let tag = judge.raw(candidate.object).ok().and_then(|raw| signed::tag(&raw));
    let Some(tag) = tag else {
        let why = "it is no annotated tag, which alone can be signed: use git tag -s".to_owned();
        return Err(Distrust { what, by: None, why });
    };
    if tag.name != candidate.name {
        let why = format!("it was signed as tag {}", tag.name.escape_debug());
        return Err(Distrust { what, by: tag.by, why });
    }
    let verdict: Result<Signer, Unverified> = tag.signed.and_then(|signed| judge.trust.keys.check(&signed));
    verdict.map_err(|why| Distrust { what, by: tag.by, why: why.to_string() })
}
