//! What a provider keeps, restored to something new by hand: by AWS's own program, or at Atlas's site.

use super::{Hand, Line};
use crate::{
    plan::action::{KeptBy, Renew},
    spec::{PointInTime, Protection, Source, Spec},
};

/// What stands for a moment in a line that is printed without one.
const MOMENT: &str = "MOMENT";

/// What stands for the provider's own name of a backup that is not known.
const BACKUP: &str = "BACKUP";

/// What keeps an instance out of reach of the internet: left to itself, RDS may put it there, by the subnets that it takes.
const HIDDEN: &str = "--no-publicly-accessible";

/// What is done for a step; `reference` is the provider's own name of the backup, where it is known.
pub fn by_hand(spec: &Spec, renew: &Renew, reference: Option<&str>) -> Vec<Hand> {
    let Some(source) = spec.backups.get(&renew.backup).map(|backup| &backup.source) else {
        return Vec::new();
    };
    let (of, to) = (KeptName::of(renew, reference), renew.to.name());
    match source {
        Source::Dynamodb(it) => {
            let aws = Aws { service: "dynamodb", region: &it.region, endpoint: it.endpoint.as_deref() };
            let made = |of: &KeptName<'_>| aws.call(&table_of(of, &it.table, to));
            let wait = ["wait", "table-exists", "--table-name", to].map(str::to_owned);
            with_moment(&of, &it.protection, made, vec![Hand::Await(aws.call(&wait))])
        }
        Source::Rds(it) => {
            let aws = Aws { service: "rds", region: &it.region, endpoint: it.endpoint.as_deref() };
            let made = |of: &KeptName<'_>| aws.call(&instance_of(of, &it.instance, to));
            let wait = ["wait", "db-instance-available", "--db-instance-identifier", to].map(str::to_owned);
            let place = "where the original had its own network, add --db-subnet-group-name, --vpc-security-group-ids and \
                         --db-parameter-group-name as it had them; otherwise RDS takes its defaults. Where it was reached from the \
                         internet, and is to be again, --publicly-accessible in the place of --no-publicly-accessible";
            let mut hands = vec![Hand::Know(place.to_owned())];
            hands.extend(with_moment(&of, &it.protection, made, vec![Hand::Await(aws.call(&wait))]));
            hands
        }
        Source::Atlas(it) => {
            let what = match &of {
                KeptName::Backup(reference) => {
                    format!("snapshot {}", reference.rsplit('/').next().unwrap_or(reference))
                }
                KeptName::Moment(at) => format!("the moment {at}"),
            };
            vec![Hand::Know(format!(
                "at {}, in project {}, cluster {}, Backup: restore {what} to cluster {to}, which Atlas erases; wait until its restore job \
                 is done. `backstay restore` does the same by its Admin API",
                it.url, it.project, it.cluster
            ))]
        }
        _ => Vec::new(),
    }
}

/// Of what it is made.
enum KeptName<'a> {
    Backup(&'a str),
    Moment(String),
}

impl<'a> KeptName<'a> {
    fn of(renew: &Renew, reference: Option<&'a str>) -> Self {
        match &renew.from {
            KeptBy::Artifact(_) => KeptName::Backup(reference.unwrap_or(BACKUP)),
            KeptBy::Moment(at) => KeptName::Moment(format!("{at:.0}")),
        }
    }
}

/// A line, and what is waited for behind it; with how any second is brought back in its place, where the provider is to keep that.
fn with_moment(
    of: &KeptName<'_>,
    protection: &Protection,
    made: impl Fn(&KeptName<'_>) -> Line,
    wait: Vec<Hand>,
) -> Vec<Hand> {
    let keeps = matches!(protection.point_in_time, Some(PointInTime::On { .. }));
    let other = (keeps && matches!(of, KeptName::Backup(_))).then(|| {
        let line = made(&KeptName::Moment(MOMENT.to_owned()));
        Hand::Know(format!("or of any second, while the original is there: {line}"))
    });
    [Hand::Type(made(of))].into_iter().chain(other).chain(wait).collect()
}

fn table_of(of: &KeptName<'_>, original: &str, to: &str) -> Vec<String> {
    let words = match of {
        KeptName::Backup(arn) => {
            vec!["restore-table-from-backup", "--target-table-name", to, "--backup-arn", arn]
        }
        KeptName::Moment(at) => vec![
            "restore-table-to-point-in-time",
            "--source-table-name",
            original,
            "--target-table-name",
            to,
            "--restore-date-time",
            at,
        ],
    };
    words.into_iter().map(str::to_owned).collect()
}

fn instance_of(of: &KeptName<'_>, original: &str, to: &str) -> Vec<String> {
    let words = match of {
        KeptName::Backup(snapshot) => vec![
            "restore-db-instance-from-db-snapshot",
            "--db-snapshot-identifier",
            snapshot,
            "--db-instance-identifier",
            to,
            HIDDEN,
        ],
        KeptName::Moment(at) => vec![
            "restore-db-instance-to-point-in-time",
            "--source-db-instance-identifier",
            original,
            "--target-db-instance-identifier",
            to,
            "--restore-time",
            at,
            HIDDEN,
        ],
    };
    words.into_iter().map(str::to_owned).collect()
}

/// AWS's own program, asked of one service.
struct Aws<'a> {
    service: &'a str,
    region: &'a str,
    endpoint: Option<&'a str>,
}

impl Aws<'_> {
    fn call(&self, words: &[String]) -> Line {
        let begin = ["aws".to_owned(), self.service.to_owned()];
        let endpoint =
            self.endpoint.into_iter().flat_map(|url| ["--endpoint-url".to_owned(), url.to_owned()]);
        let region = ["--region".to_owned(), self.region.to_owned()];
        Line::of(begin.into_iter().chain(words.iter().cloned()).chain(region).chain(endpoint))
    }
}
