//! The checks of a drill: the engine's own, and those that are declared. Each is a finding, whatever comes of it.

mod command;
mod counts;
mod file;

pub(in crate::apply) use counts::counts;

use super::{
    Means, Order,
    reach::{self, Addresses},
};
use crate::{
    artifact::drill::{Finding, Verdict},
    sandboxes::Sandbox,
    sources::{Condition, Examined, Source},
    spec::{DrillCheck, Endpoint, Expected},
};

/// The most faults that a finding names.
const MOST_NAMED: usize = 5;

/// What the engine itself says of all that was restored, whatever is declared.
pub(super) async fn by_the_engine(inspector: &dyn Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for examined in inspector.examine().await {
        findings.push(match &examined.condition {
            // A server that a check brings down is no server that could have gone on.
            Condition::Unknown(why) if inspector.probe().await.is_err() => Finding {
                found: format!("the server did not live through it: {why}"),
                verdict: Verdict::Failed,
                ..told(&examined)
            },
            _ => told(&examined),
        });
    }
    findings
}

fn told(examined: &Examined) -> Finding {
    let (found, verdict) = match &examined.condition {
        Condition::Sound(what) => (what.clone(), Verdict::Passed),
        Condition::Damaged(faults) => (named(faults), Verdict::Failed),
        Condition::Unknown(why) => (why.clone(), Verdict::CouldNotRun),
    };
    let (check, expected) = (examined.by.to_owned(), "no fault".to_owned());
    Finding { check, expected, found, verdict }
}

/// Makes a check that is declared.
pub(super) async fn declared(
    check: &DrillCheck,
    order: &Order<'_>,
    sandbox: &mut dyn Sandbox,
    means: &Means<'_>,
) -> Finding {
    match check {
        DrillCheck::Counts => counts(order.manifests, sandbox.inspector(), means.keys).await,
        DrillCheck::Sql { sql: question, database, expect }
        | DrillCheck::Influxql { influxql: question, database, expect } => {
            asked(check, (database.as_deref(), question), expect, sandbox.inspector()).await
        }
        DrillCheck::File { path, min_bytes, sha256 } => {
            file::file(check, sandbox.files(), path, (*min_bytes, sha256.clone())).await
        }
        DrillCheck::Command(command) => command::run(check, command, sandbox).await,
        DrillCheck::Http(_) | DrillCheck::Tcp(_) | DrillCheck::Items { .. } => {
            reach::reach(check, &Nowhere).await
        }
    }
}

/// Asks `inspector` in its own language.
pub(in crate::apply) async fn asked(
    check: &DrillCheck,
    (database, question): (Option<&str>, &str),
    expect: &Expected,
    inspector: &dyn Source,
) -> Finding {
    match inspector.ask(database, question).await {
        Ok(answer) => found(check, expect.to_string(), answer.clone(), expect.allows(&answer)),
        Err(error) => found(check, expect.to_string(), error.to_string(), false),
    }
}

/// In a sandbox nothing listens.
struct Nowhere;

#[async_trait::async_trait]
impl Addresses for Nowhere {
    async fn of(&self, _: &Endpoint) -> Result<std::net::SocketAddr, String> {
        Err("nothing listens in a sandbox".to_owned())
    }
}

pub(super) fn found(check: &DrillCheck, expected: String, found: String, holds: bool) -> Finding {
    let verdict = if holds { Verdict::Passed } else { Verdict::Failed };
    Finding { check: check.to_string(), expected, found, verdict }
}

/// What every check found that does not hold, for people.
pub(in crate::apply) fn bad(findings: &[Finding]) -> impl Iterator<Item = String> {
    let bad = findings.iter().filter(|finding| finding.verdict != Verdict::Passed);
    bad.map(|it| {
        format!("{} {}: expected {}, found {}", it.check, it.verdict.as_str(), it.expected, it.found)
    })
}

pub(in crate::apply) fn unmade(check: &DrillCheck, expected: String, why: String) -> Finding {
    Finding { check: check.to_string(), expected, found: why, verdict: Verdict::CouldNotRun }
}

/// The first of many, and how many more there are.
fn named(all: &[String]) -> String {
    let more = match all.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", all.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use tokio::io::AsyncRead;

    use super::*;
    use crate::{
        sources::{CaptureRequest, Captured, Place, Probe, Restored, Sink, SourceError},
        stores::Class,
    };

    /// A server whose check came to no end, and that answers afterwards or does not.
    struct Broken {
        answer: Result<Probe, SourceError>,
    }

    #[async_trait]
    impl Source for Broken {
        async fn probe(&self) -> Result<Probe, SourceError> {
            self.answer.clone()
        }

        fn stream_name(&self) -> String {
            "broken".to_owned()
        }

        async fn capture(&self, _: &CaptureRequest<'_>, _: &mut dyn Sink) -> Result<Captured, SourceError> {
            unreachable!("nothing is captured")
        }

        async fn restore(
            &self,
            _: &mut (dyn AsyncRead + Send + Unpin),
            _: &Place,
        ) -> Result<Restored, SourceError> {
            unreachable!("nothing is restored")
        }

        async fn examine(&self) -> Vec<Examined> {
            vec![Examined { by: "CHECK TABLE", condition: Condition::Unknown("lost connection".into()) }]
        }
    }

    #[tokio::test]
    async fn a_server_that_a_check_brings_down_fails_and_one_that_answers_could_not_be_checked() {
        let gone = SourceError::new("probe", "it", Class::Retry, "it is gone");
        for (answer, verdict) in
            [(Ok(Probe { version: "1".into() }), Verdict::CouldNotRun), (Err(gone), Verdict::Failed)]
        {
            let findings = by_the_engine(&Broken { answer }).await;
            assert_eq!(findings[0].verdict, verdict, "{findings:?}");
            assert!(findings[0].found.contains("lost connection"), "{findings:?}");
        }
    }

    #[test]
    fn what_could_not_be_examined_is_no_pass_and_what_is_damaged_is_named() {
        let verdict = |condition| told(&Examined { by: "CHECK TABLE", condition }).verdict;
        assert_eq!(verdict(Condition::Sound("2 tables".into())), Verdict::Passed);
        assert_eq!(verdict(Condition::Unknown("no such program".into())), Verdict::CouldNotRun);
        let faults: Vec<String> = (1..=7).map(|n| format!("fault {n}")).collect();
        let damaged = told(&Examined { by: "CHECK TABLE", condition: Condition::Damaged(faults) });
        assert_eq!(damaged.verdict, Verdict::Failed);
        assert_eq!(damaged.found, "fault 1, fault 2, fault 3, fault 4, fault 5 and 2 more");
    }
}
