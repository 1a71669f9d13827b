//! Records of Route 53: looked at, and changed in one batch that deletes what was found and creates what is wanted.
//!
//! Route 53 deletes only what is exactly as the batch says, and does all of a batch or nothing: so it holds only where nobody has
//! changed the record since (ChangeResourceRecordSets, "Change Batches and Transactional Changes"). Then it is waited for until all of
//! its servers answer the change.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use aws_sdk_route53::{
    Client,
    error::BuildError,
    types::{
        Change, ChangeAction, ChangeBatch, ChangeInfo, ChangeStatus, ResourceRecord, ResourceRecordSet,
        RrType,
    },
};

use super::{SetError, Switch, SwitchError};
use crate::{
    aws::{self, Fault, ServiceOptions},
    spec::traffic::{HostedZone, Record, RecordKind},
};

/// What the access key must be allowed.
const ACTIONS: &str =
    "route53:GetHostedZone, ListResourceRecordSets and ChangeResourceRecordSets of the zone, and GetChange";

/// The most pages of one name's records that are read: each holds 100, and a name can have no more than some hundreds.
const MOST_PAGES: usize = 20;

/// How long all servers may take to answer a change: most often they do within a minute.
const IN_SYNC: Duration = Duration::from_secs(600);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_secs(2);

/// A record of a zone of Route 53.
#[derive(Debug)]
pub struct Route53Switch {
    client: Client,
    record: Record,
    zone: HostedZone,
}

/// What keeps a record from being switched or told.
#[derive(Debug)]
enum Trouble {
    Aws(Fault),
    /// Why.
    Unusable(String),
}

impl<E: Into<Fault>> From<E> for Trouble {
    fn from(fault: E) -> Self {
        Trouble::Aws(fault.into())
    }
}

impl Route53Switch {
    /// The record `record` of `zone`. Asks nobody.
    ///
    /// # Errors
    /// No access key where none is declared, or certificates that can't be read.
    pub fn new(options: &ServiceOptions, record: Record, zone: HostedZone) -> Result<Self, SwitchError> {
        let client = aws::route53(options);
        let client = client.map_err(|fault| failed("reach", &record, &zone, &Trouble::Aws(fault)))?;
        Ok(Self { client, record, zone })
    }

    fn failed(&self, doing: &str, trouble: &Trouble) -> SwitchError {
        failed(doing, &self.record, &self.zone, trouble)
    }

    /// Refuses a zone that is another one than the declared: what the host allows rests on its name.
    async fn must_be_the_zone(&self) -> Result<(), Trouble> {
        let answer = self.client.get_hosted_zone().id(&self.zone.id).send().await?;
        let name = answer.hosted_zone().map(|zone| plain(zone.name()));
        match name {
            Some(name) if name == self.zone.name => Ok(()),
            Some(name) => Err(Trouble::Unusable(format!(
                "the zone of that id is {}: declare its own",
                name.escape_debug()
            ))),
            None => Err(Trouble::Unusable("the server names no zone of that id".to_owned())),
        }
    }

    /// The record as it is; `None` where there is none.
    async fn found(&self) -> Result<Option<ResourceRecordSet>, Trouble> {
        let of_name = self.of_name().await?;
        judged(of_name, &self.record).map_err(Trouble::Unusable)
    }

    /// All records of that name.
    async fn of_name(&self) -> Result<Vec<ResourceRecordSet>, Trouble> {
        let (mut all, mut next) = (Vec::new(), (self.record.name.clone(), None, None));
        for _ in 0..MOST_PAGES {
            let (name, kind, identifier) = next;
            let asked = self.client.list_resource_record_sets().hosted_zone_id(&self.zone.id);
            let asked = asked.start_record_name(name).set_start_record_type(kind);
            let answer = asked.set_start_record_identifier(identifier).send().await?;
            // They come in the order of their names, and begin with this one.
            let sets = answer.resource_record_sets();
            let own = sets.iter().take_while(|set| plain(set.name()) == self.record.name).count();
            all.extend_from_slice(&sets[..own]);
            let Some(name) = answer.next_record_name().filter(|_| answer.is_truncated() && own == sets.len())
            else {
                return Ok(all);
            };
            let identifier = answer.next_record_identifier().map(str::to_owned);
            next = (name.to_owned(), answer.next_record_type().cloned(), identifier);
        }
        Err(Trouble::Unusable("it has more records of that name than anybody needs".to_owned()))
    }

    /// The change, as far as it was taken.
    async fn changed(
        &self,
        before: &BTreeSet<String>,
        wanted: &BTreeSet<String>,
    ) -> Result<ChangeInfo, Trouble> {
        let found = self.found().await?;
        let now = found.as_ref().map_or(Ok(BTreeSet::new()), |set| values(set, self.record.kind));
        if now.map_err(Trouble::Unusable)? != *before {
            return Err(Trouble::Unusable(CHANGED.to_owned()));
        }
        let batch = batch(found, &self.record, wanted)
            .map_err(|error| Trouble::Unusable(format!("the change can't be written: {error}")))?;
        let asked =
            self.client.change_resource_record_sets().hosted_zone_id(&self.zone.id).change_batch(batch);
        let answer = asked.send().await.map_err(|error| match Fault::from(error) {
            Fault::Service { code, message, .. } if code == "InvalidChangeBatch" => {
                Trouble::Unusable(format!("{CHANGED} ({message})"))
            }
            fault => Trouble::Aws(fault),
        })?;
        answer
            .change_info()
            .cloned()
            .ok_or_else(|| Trouble::Unusable("the server tells of no change".to_owned()))
    }

    /// Waits until all servers answer the change.
    async fn in_sync(&self, mut change: ChangeInfo) -> Result<(), Trouble> {
        let (began, mut unanswered) = (Instant::now(), None);
        while *change.status() != ChangeStatus::Insync {
            if began.elapsed() >= IN_SYNC {
                return Err(Trouble::Unusable(not_in_sync(unanswered.as_ref())));
            }
            tokio::time::sleep(PAUSE).await;
            match self.client.get_change().id(change.id()).send().await.map_err(Fault::from) {
                Ok(answer) => {
                    unanswered = None;
                    change = answer.change_info().cloned().unwrap_or(change);
                }
                Err(fault) if fault.is_denial() => return Err(Trouble::Aws(fault)),
                // What can't be asked now may be a moment later: the change is made already.
                Err(fault) => unanswered = Some(fault),
            }
        }
        Ok(())
    }
}

fn not_in_sync(unanswered: Option<&Fault>) -> String {
    let why = unanswered.map(|fault| format!(" ({fault})")).unwrap_or_default();
    format!(
        "after {}s not all of its servers are known to answer it{why}; it may still hold soon",
        IN_SYNC.as_secs()
    )
}

const CHANGED: &str = "somebody changed it since it was asked for; look at it, and try again";

fn failed(doing: &str, record: &Record, zone: &HostedZone, trouble: &Trouble) -> SwitchError {
    let why = match trouble {
        Trouble::Aws(fault) => match fault.hint(ACTIONS) {
            Some(hint) => format!("{fault}; {hint}"),
            None => fault.to_string(),
        },
        Trouble::Unusable(why) => why.clone(),
    };
    SwitchError(format!(
        "failed to {doing} {} in the zone {} ({}) of Route 53: {why}",
        record.name, zone.name, zone.id
    ))
}

#[async_trait]
impl Switch for Route53Switch {
    async fn observe(&self) -> Result<BTreeSet<String>, SwitchError> {
        let seen = async {
            self.must_be_the_zone().await?;
            match self.found().await? {
                Some(set) => values(&set, self.record.kind).map_err(Trouble::Unusable),
                None => Ok(BTreeSet::new()),
            }
        };
        seen.await.map_err(|trouble| self.failed("ask for", &trouble))
    }

    async fn set(&self, before: &BTreeSet<String>, wanted: &BTreeSet<String>) -> Result<(), SetError> {
        let taken = async {
            self.must_be_the_zone().await?;
            self.changed(before, wanted).await
        };
        let change = taken.await.map_err(|trouble| self.failed("change", &trouble))?;
        self.in_sync(change).await.map_err(|trouble| {
            let doing = "confirm the change, which was taken, of";
            SetError::Unconfirmed(self.failed(doing, &trouble))
        })
    }
}

/// A name as Route 53 has it, as declarations have it.
fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn rr_type(kind: RecordKind) -> RrType {
    match kind {
        RecordKind::A => RrType::A,
        RecordKind::Aaaa => RrType::Aaaa,
        RecordKind::Cname => RrType::Cname,
    }
}

/// The one record that may be switched, out of all of its name; why none of them may be.
fn judged(of_name: Vec<ResourceRecordSet>, record: &Record) -> Result<Option<ResourceRecordSet>, String> {
    let wanted = rr_type(record.kind);
    let (own, others): (Vec<_>, Vec<_>) = of_name.into_iter().partition(|set| *set.r#type() == wanted);
    // A name that stands for another one has nothing else, and is not what is declared.
    let takes_its_place =
        |set: &&ResourceRecordSet| wanted == RrType::Cname || *set.r#type() == RrType::Cname;
    if let Some(other) = others.iter().find(takes_its_place).filter(|_| own.is_empty()) {
        return Err(format!("it is a record of another kind, {}, and left alone", other.r#type().as_str()));
    }
    let [one] = own.as_slice() else {
        return match own.len() {
            0 => Ok(None),
            several => Err(format!("it is {several} records with a routing policy, and left alone")),
        };
    };
    let special = [
        (one.alias_target().is_some(), "an alias"),
        (one.set_identifier().is_some(), "a record with a routing policy"),
        (one.traffic_policy_instance_id().is_some(), "a record of a traffic policy"),
        (one.health_check_id().is_some(), "a record with a health check"),
        (one.ttl().is_none() || one.resource_records().is_empty(), "a record without values"),
    ];
    match special.into_iter().find(|(is_so, _)| *is_so) {
        Some((_, what)) => Err(format!("it is {what}, and left alone")),
        None => Ok(own.into_iter().next()),
    }
}

/// The values of a record.
fn values(set: &ResourceRecordSet, kind: RecordKind) -> Result<BTreeSet<String>, String> {
    let value = |record: &ResourceRecord| {
        let text = record.value();
        kind.value(text)
            .ok_or_else(|| format!("it has the value `{}`, which is none of its kind", text.escape_debug()))
    };
    set.resource_records().iter().map(value).collect()
}

/// The batch that puts `wanted` in the place of what was found.
fn batch(
    found: Option<ResourceRecordSet>,
    record: &Record,
    wanted: &BTreeSet<String>,
) -> Result<ChangeBatch, BuildError> {
    let records = wanted.iter().map(|value| ResourceRecord::builder().value(value).build());
    let records: Vec<ResourceRecord> = records.collect::<Result<_, _>>()?;
    let set = ResourceRecordSet::builder().name(&record.name).r#type(rr_type(record.kind));
    let set = set.ttl(i64::from(record.ttl)).set_resource_records(Some(records)).build()?;
    let change = |action, set| Change::builder().action(action).resource_record_set(set).build();
    let deleted = found.map(|found| change(ChangeAction::Delete, found)).transpose()?;
    let created = change(ChangeAction::Create, set)?;
    ChangeBatch::builder().set_changes(Some(deleted.into_iter().chain([created]).collect())).build()
}

#[cfg(test)]
mod tests {
    use aws_sdk_route53::types::AliasTarget;

    use super::*;

    /// A zone with no records, which takes a change and lets nobody ask for it.
    async fn answer(request: axum::extract::Request) -> (axum::http::StatusCode, String) {
        const OF: &str = "xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"";
        let path = request.uri().path();
        let (status, text) = match (request.method().as_str(), path) {
            ("POST", _) => (
                200,
                format!(
                    "<ChangeResourceRecordSetsResponse {OF}><ChangeInfo><Id>/change/C1</Id><Status>PENDING</Status>\
                     <SubmittedAt>2026-01-01T00:00:00Z</SubmittedAt></ChangeInfo></ChangeResourceRecordSetsResponse>"
                ),
            ),
            (_, path) if path.contains("/change/") => (
                403,
                format!(
                    "<ErrorResponse {OF}><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error>\
                     <RequestId>1</RequestId></ErrorResponse>"
                ),
            ),
            (_, path) if path.ends_with("/rrset") => (
                200,
                format!(
                    "<ListResourceRecordSetsResponse {OF}><ResourceRecordSets></ResourceRecordSets><IsTruncated>false</IsTruncated>\
                     <MaxItems>100</MaxItems></ListResourceRecordSetsResponse>"
                ),
            ),
            _ => (
                200,
                format!(
                    "<GetHostedZoneResponse {OF}><HostedZone><Id>/hostedzone/Z1</Id><Name>example.org.</Name>\
                     <CallerReference>1</CallerReference></HostedZone></GetHostedZoneResponse>"
                ),
            ),
        };
        (axum::http::StatusCode::from_u16(status).unwrap(), text)
    }

    #[tokio::test]
    async fn a_change_that_nobody_lets_us_ask_for_is_an_error_at_once() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
        let server = axum::Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, server).await });
        let credentials =
            crate::aws::AwsCredentials::Key { id: "k".to_owned(), secret: "s".to_owned().into() };
        let region = "us-east-1".to_owned();
        let silence = Duration::from_secs(60);
        let options =
            ServiceOptions { region: region.clone(), endpoint: endpoint.clone(), credentials, silence };
        let reach = crate::spec::traffic::AwsReach { region, endpoint, credentials: None };
        let zone = HostedZone { name: "example.org".to_owned(), id: "Z1".to_owned(), reach };
        let switch = Route53Switch::new(&options, record(RecordKind::A), zone).unwrap();
        let (began, wanted) = (Instant::now(), BTreeSet::from(["192.0.2.1".to_owned()]));
        let failed = switch.set(&BTreeSet::new(), &wanted).await.unwrap_err();
        assert!(began.elapsed() < IN_SYNC / 4, "{:?}", began.elapsed());
        let SetError::Unconfirmed(SwitchError(why)) = &failed else { panic!("{failed:?}") };
        assert!(why.contains("which was taken") && why.contains("GetChange"), "{why}");
    }

    fn record(kind: RecordKind) -> Record {
        Record { name: "www.example.org".to_owned(), kind, ttl: 60 }
    }

    fn set(kind: RrType) -> aws_sdk_route53::types::builders::ResourceRecordSetBuilder {
        ResourceRecordSet::builder().name("www.example.org.").r#type(kind)
    }

    fn with_value(kind: RrType, value: &str) -> ResourceRecordSet {
        let value = ResourceRecord::builder().value(value).build().unwrap();
        set(kind).ttl(300).resource_records(value).build().unwrap()
    }

    #[test]
    fn only_a_plain_record_of_the_declared_kind_is_switched() {
        let a = || with_value(RrType::A, "192.0.2.1");
        let mail = with_value(RrType::Mx, "10 mx.example.org");
        let one = judged(vec![a(), mail.clone()], &record(RecordKind::A)).unwrap();
        assert_eq!(values(&one.unwrap(), RecordKind::A), Ok(BTreeSet::from(["192.0.2.1".to_owned()])));
        assert_eq!(judged(vec![mail], &record(RecordKind::A)), Ok(None));
        let alias = AliasTarget::builder().hosted_zone_id("Z").dns_name("lb").evaluate_target_health(true);
        let alias = set(RrType::A).alias_target(alias.build().unwrap()).build().unwrap();
        let one_of = |id: &str| {
            let value = ResourceRecord::builder().value("192.0.2.1").build().unwrap();
            set(RrType::A).set_identifier(id).weight(1).ttl(60).resource_records(value).build().unwrap()
        };
        for (sets, kind, why) in [
            (vec![alias], RecordKind::A, "an alias"),
            (vec![one_of("a"), one_of("b")], RecordKind::A, "2 records"),
            (vec![one_of("a")], RecordKind::A, "routing policy"),
            (vec![with_value(RrType::Cname, "a.example.org.")], RecordKind::A, "another kind"),
            (vec![a()], RecordKind::Cname, "another kind"),
            (vec![set(RrType::A).build().unwrap()], RecordKind::A, "without values"),
        ] {
            let refused = judged(sets, &record(kind)).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn a_batch_deletes_exactly_what_was_found_and_creates_what_is_wanted() {
        let found = with_value(RrType::A, "192.0.2.1");
        let wanted = BTreeSet::from(["198.51.100.1".to_owned()]);
        let batch = batch(Some(found.clone()), &record(RecordKind::A), &wanted).unwrap();
        let [delete, create] = batch.changes() else { panic!("{batch:?}") };
        assert_eq!((delete.action(), delete.resource_record_set()), (&ChangeAction::Delete, Some(&found)));
        assert_eq!(create.action(), &ChangeAction::Create);
        assert_eq!(create.resource_record_set().unwrap().ttl(), Some(60));
        let alone = super::batch(None, &record(RecordKind::A), &wanted).unwrap();
        assert_eq!(alone.changes().len(), 1);
    }
}
