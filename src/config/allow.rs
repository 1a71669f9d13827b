//! What a commit may make this host do. Everything that is not listed is refused, with the line to add.

use std::path::{Component, Path, PathBuf};

use crate::{
    secrets::Allowance,
    spec::{
        suggest::shown,
        values::{Invalid, TextForm, Word},
    },
};

/// What a commit may make this host do; everything else is refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Allow {
    /// Folders and files that sources may read.
    pub read: Vec<PathBuf>,
    /// Folders that local stores and restores may write.
    pub write: Vec<PathBuf>,
    /// Secrets, each bound to where it may be sent.
    pub secrets: Vec<Allowance>,
    /// Beginnings of git URLs that may be pushed to.
    pub mirrors: Vec<String>,
    /// What machines may be made by: hypervisors by their URIs, and regions of clouds (`cloudformation:eu-north-1`).
    pub machines: Vec<String>,
    /// What recoveries may switch.
    pub traffic: Vec<Switchable>,
    /// Programs that secrets, hooks and recovery steps may start.
    pub run: Vec<String>,
    /// The largest share of a backup's artifacts in a store that may go within 24 hours, in 0..=1.
    pub delete_share: f64,
}

/// What recoveries may switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Switchable {
    /// All records of the zone of this name: `zone:example.org`.
    Zone(String),
    /// The record of this name, in whatever zone, or the listener or rule of this ARN.
    Single(String),
}

/// What a zone is written with, so that nobody takes it for the record of that name.
const ZONE: &str = "zone:";

impl Switchable {
    /// Whether it is the record `what` of `zone`, or, without a zone, what has the ARN `what`.
    fn covers(&self, what: &str, zone: Option<&str>) -> bool {
        match (self, zone) {
            (Self::Zone(listed), Some(zone)) => is_name(listed, zone),
            (Self::Zone(_), None) => false,
            (Self::Single(listed), Some(_)) => is_name(listed, what),
            (Self::Single(listed), None) => listed == what,
        }
    }
}

impl TextForm for Switchable {
    const FORMAT: &'static str = "switchable";
    const NOUN: &'static str = "what recoveries may switch";
    const EXAMPLE: &'static str = "www.example.org";

    fn parse(text: &str) -> Result<Self, Invalid> {
        let Word(text) = Word::parse(text)?;
        match text.strip_prefix(ZONE) {
            Some("" | ".") => Err(Invalid::value("it names no zone")),
            Some(zone) => Ok(Self::Zone(zone.to_owned())),
            None => Ok(Self::Single(text)),
        }
    }
}

/// Names of DNS, however they are written.
fn is_name(listed: &str, name: &str) -> bool {
    listed.trim_end_matches('.').eq_ignore_ascii_case(name.trim_end_matches('.'))
}

/// Something that this host does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "failed to {verb} {what}: this host does not allow it; if that is meant, add {line} to `{list}` in [allow] of the \
     controller's configuration"
)]
pub struct Refusal {
    /// What a commit wants: `read`, `write`, `push to`, `make machines by`, `switch`, `run`.
    pub verb: &'static str,
    /// Of what.
    pub what: String,
    /// The list that would allow it.
    pub list: &'static str,
    /// What to add to the list, as TOML.
    pub line: String,
}

impl Refusal {
    fn new(verb: &'static str, what: &str, list: &'static str) -> Self {
        let line = serde_json::Value::from(what).to_string();
        Self { verb, what: shown(what), list, line }
    }
}

impl Allow {
    /// Whether a source may read `path`.
    ///
    /// # Errors
    /// A refusal that names the line to add.
    pub fn check_read(&self, path: &Path) -> Result<(), Refusal> {
        inside(path, &self.read).ok_or_else(|| Refusal::new("read", &path.to_string_lossy(), "read"))
    }

    /// Whether a store or a restore may write to `path`.
    ///
    /// # Errors
    /// A refusal that names the line to add.
    pub fn check_write(&self, path: &Path) -> Result<(), Refusal> {
        inside(path, &self.write).ok_or_else(|| Refusal::new("write", &path.to_string_lossy(), "write"))
    }

    /// Whether machines may be made by `maker`.
    ///
    /// # Errors
    /// A refusal that names the line to add.
    pub fn check_machine(&self, maker: &str) -> Result<(), Refusal> {
        let listed = self.machines.iter().any(|allowed| allowed == maker);
        listed.then_some(()).ok_or_else(|| Refusal::new("make machines by", maker, "machines"))
    }

    /// Whether recoveries may switch `what`: a record, which is in `zone`, or what a load balancer does, by its ARN.
    ///
    /// # Errors
    /// A refusal that names the line to add.
    pub fn check_traffic(&self, what: &str, zone: Option<&str>) -> Result<(), Refusal> {
        let listed = self.traffic.iter().any(|listed| listed.covers(what, zone));
        listed.then_some(()).ok_or_else(|| Refusal::new("switch", what, "traffic"))
    }

    /// Whether `program`, as a declaration spells it, may be started.
    ///
    /// # Errors
    /// A refusal that names the line to add.
    pub fn check_run(&self, program: &str) -> Result<(), Refusal> {
        let listed = self.run.iter().any(|allowed| allowed == program);
        listed.then_some(()).ok_or_else(|| Refusal::new("run", program, "run"))
    }
}

/// Whether one of `allowed` is `path` or a folder around it. `..` never leaves a folder.
fn inside(path: &Path, allowed: &[PathBuf]) -> Option<()> {
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    (plain && path.is_absolute() && allowed.iter().any(|folder| path.starts_with(folder))).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow() -> Allow {
        Allow {
            read: vec!["/srv".into()],
            write: vec!["/srv/restore".into()],
            secrets: Vec::new(),
            mirrors: Vec::new(),
            machines: Vec::new(),
            traffic: Vec::new(),
            run: vec!["pass".into()],
            delete_share: 0.5,
        }
    }

    #[test]
    fn what_is_listed_is_allowed_with_all_below_it() {
        assert_eq!(allow().check_read(Path::new("/srv")), Ok(()));
        assert_eq!(allow().check_read(Path::new("/srv/data/a")), Ok(()));
        assert_eq!(allow().check_write(Path::new("/srv/restore/b")), Ok(()));
        assert_eq!(allow().check_run("pass"), Ok(()));
    }

    #[test]
    fn what_is_not_listed_is_refused_with_the_line_to_add() {
        for bad in ["/etc", "/srv/../etc", "/srvx", "srv/data", "/", ""] {
            assert!(allow().check_read(Path::new(bad)).is_err(), "{bad}");
        }
        let refusal = allow().check_write(Path::new("/srv/data")).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "failed to write /srv/data: this host does not allow it; if that is meant, add \"/srv/data\" to `write` \
             in [allow] of the controller's configuration"
        );
        assert_eq!(allow().check_run("sh").unwrap_err().list, "run");
    }

    #[test]
    fn a_zone_allows_all_of_its_records_and_a_record_no_other_one_of_its_zone() {
        let listener = "arn:aws:elasticloadbalancing:eu-north-1:1:listener/app/web/1/2";
        let traffic = ["zone:Example.org.", "www.example.net", listener];
        let traffic = traffic.into_iter().map(|text| Switchable::parse(text).unwrap()).collect();
        let allow = Allow { traffic, ..allow() };
        let check = |what: &str, zone| allow.check_traffic(what, zone);
        assert_eq!(check("www.example.org", Some("example.org")), Ok(()));
        assert_eq!(check("www.example.net", Some("example.net")), Ok(()));
        // In a zone of its own it is the same record.
        assert_eq!(check("www.example.net", Some("www.example.net")), Ok(()));
        assert_eq!(check(listener, None), Ok(()));
        assert!(Switchable::parse("zone:").is_err() && Switchable::parse("").is_err());
        for (what, zone) in [
            // The zone of a record's name is another matter, such as one that it was delegated to.
            ("a.www.example.net", Some("www.example.net")),
            ("zone:example.org", None),
            ("mail.example.net", Some("example.net")),
            ("example.net", Some("example.net")),
            ("www.example.org", Some("other.org")),
            (&listener.to_uppercase(), None),
        ] {
            assert_eq!(check(what, zone).unwrap_err().list, "traffic", "{what}");
        }
    }
}
