//! What providers keep by themselves of the data that they host.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Condition, Inventory, Observed, StoredArtifact, Stretch};
use crate::{
    artifact::{ArtifactId, manifest::NativePlace},
    spec::{
        DailyWindow, PointInTime, Protection, SnapshotRule, Source, Spec, TimeOfDay, lost_snapshots,
        names::{BackupName, FleetName, FolderName},
    },
};

/// What a provider was found to keep, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct ProvidedSeen {
    /// When it was asked, by the controller's clock.
    pub at: Timestamp,
    /// Of what.
    pub source: Source,
    /// What it answered.
    pub found: Observed<Provided>,
}

/// What a provider keeps of the data of one backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Provided {
    /// How it is set.
    #[serde(flatten)]
    pub settings: ProviderSettings,
    /// The native backups that bear a name of this backup's, by reference; `None` where it was not asked for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub natives: Option<BTreeMap<String, Native>>,
    /// The account that it answers for, where it was asked for native backups and tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
}

/// How a provider is set to keep the data that it hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProviderSettings {
    /// Whether any second can be brought back, and of how many days.
    pub point_in_time: PointInTime,
    /// From when to when that is now, as the provider tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Stretch>,
    /// From when to when that may be, where the provider does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inferred: Option<Inferred>,
    /// When in the day the provider makes its own backup, where it makes one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_window: Option<DailyWindow>,
    /// The snapshots that it makes by itself, where it tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<BTreeSet<SnapshotRule>>,
    /// When in the day it makes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_time: Option<TimeOfDay>,
    /// What it is changing just now, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changing: Option<String>,
}

/// A stretch of time that follows from what a provider tells of other things. It is tried where a person asks for a second of it, and
/// counts for nothing: no objective holds by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Inferred(pub Stretch);

impl ProviderSettings {
    /// What of `declared` does not hold; `None` where everything does.
    pub fn lacks(&self, declared: &Protection) -> Option<Protection> {
        let point_in_time = declared.point_in_time.filter(|declared| !declared.holds(self.point_in_time));
        let backup_window =
            declared.backup_window.clone().filter(|declared| Some(declared) != self.backup_window.as_ref());
        let snapshots =
            declared.snapshots.clone().filter(|declared| Some(declared) != self.snapshots.as_ref());
        let snapshot_time = declared.snapshot_time.filter(|declared| Some(*declared) != self.snapshot_time);
        let lacking = Protection { point_in_time, backup_window, snapshots, snapshot_time };
        (!lacking.is_empty()).then_some(lacking)
    }

    /// What would be lost by setting `wanted`, for people; `None` where nothing is.
    pub fn loss(&self, wanted: &Protection) -> Option<String> {
        let losses: Vec<String> =
            self.lost_seconds(wanted).into_iter().chain(self.lost_snapshots(wanted)).collect();
        (!losses.is_empty()).then(|| losses.join("; "))
    }

    fn lost_snapshots(&self, wanted: &Protection) -> Option<String> {
        let lost = lost_snapshots(self.snapshots.as_ref()?, wanted.snapshots.as_ref()?);
        let lost: Vec<String> = lost.into_iter().map(|rule| format!("`{rule}`")).collect();
        (!lost.is_empty()).then(|| {
            format!("from then on snapshots are not made or not kept any more as of {}", lost.join(" and "))
        })
    }

    fn lost_seconds(&self, wanted: &Protection) -> Option<String> {
        let wanted = wanted.point_in_time.filter(|wanted| self.point_in_time.loses(*wanted))?;
        let kept = match wanted {
            PointInTime::Off => "nothing of that".to_owned(),
            PointInTime::On { days } => format!("the last {} days of that", days.unwrap_or_default()),
        };
        Some(match (&self.window, &self.inferred) {
            (Some(window), _) => format!(
                "any second of {:.0} to {:.0} can be brought back until then, and afterwards {kept}",
                window.start, window.end
            ),
            (None, Some(Inferred(window))) => format!(
                "any second of {:.0} to {:.0}, as far as can be inferred, can be brought back until then, and afterwards {kept}",
                window.start, window.end
            ),
            (None, None) => format!(
                "it goes from {} to {wanted}: {kept} can be brought back afterwards",
                self.point_in_time
            ),
        })
    }
}

/// For people: `point-in-time recovery 35d, daily backup at 03:00-04:00`.
impl fmt::Display for ProviderSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "point-in-time recovery {}", self.point_in_time)?;
        self.backup_window.as_ref().map_or(Ok(()), |window| write!(f, ", daily backup at {window}"))?;
        self.snapshots.as_ref().map_or(Ok(()), |rules| write!(f, ", {}", told_snapshots(rules)))?;
        self.snapshot_time.map_or(Ok(()), |time| write!(f, ", snapshots at {time}"))
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let point_in_time = self.point_in_time.map(|it| format!("point-in-time recovery {it}"));
        let window = self.backup_window.as_ref().map(|window| format!("daily backup at {window}"));
        let snapshots = self.snapshots.as_ref().map(told_snapshots);
        let time = self.snapshot_time.map(|time| format!("snapshots at {time}"));
        let all: Vec<String> = point_in_time.into_iter().chain(window).chain(snapshots).chain(time).collect();
        f.write_str(&all.join(", "))
    }
}

fn told_snapshots(rules: &BTreeSet<SnapshotRule>) -> String {
    let rules: Vec<String> = rules.iter().map(|rule| format!("`{rule}`")).collect();
    if rules.is_empty() { "no snapshots".to_owned() } else { format!("snapshots {}", rules.join(" and ")) }
}

/// A provider's own backup, as it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Native {
    /// The artifact that its name stands for.
    pub artifact: ArtifactId,
    /// How it is.
    pub state: NativeState,
}

/// A backup that a provider keeps, as a manifest names it. In one piece, for inventories hold many artifacts that have none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NativeReference {
    /// What kind of thing it is, such as `rds-snapshot`.
    pub provider: String,
    /// The provider's own name of it.
    pub reference: String,
    /// Where it lies, where its manifest tells.
    pub place: Option<NativePlace>,
}

impl NativeReference {
    /// Why it can't be asked for where `source` is, for people; `None` where it can, as far as is told. `account` is what the
    /// provider of the source told of itself, if it did.
    pub fn out_of_reach(&self, source: &Source, account: Option<&str>) -> Option<String> {
        let place = self.place.as_ref()?;
        let why = match source.native_place() {
            None => Some(format!(
                "it is a {}, and a source of the kind {} is declared now",
                self.provider,
                source.kind()
            )),
            Some((kind, _)) if kind != self.provider => {
                Some(format!("it is a {}, and the declared source has {kind}s", self.provider))
            }
            Some((_, declared)) => {
                place.other_than(&NativePlace { account: account.map(str::to_owned), ..declared })
            }
        };
        why.map(|why| format!("{why}; {DECLARE_AGAIN}"))
    }

    /// Whether it is known in which account it lies.
    pub fn has_account(&self) -> bool {
        self.place.as_ref().is_some_and(|place| place.account.is_some())
    }

    /// The same, once the provider was asked which account it answers for: one that does not tell may be another's, and what it says
    /// of the native backup says nothing.
    pub fn out_of_reach_of(&self, source: &Source, account: Option<&str>) -> Option<String> {
        self.out_of_reach(source, account).or_else(|| {
            let here = self.place.as_ref()?.account.as_deref().filter(|_| account.is_none())?;
            Some(format!("it lies in account {here}, and its provider does not tell which one it answers for; see to the access key"))
        })
    }
}

/// What to do about what can't be asked for from here.
const DECLARE_AGAIN: &str =
    "declare the source as it was, and what is new in a backup of its own, to have it asked for";

/// How a provider's own backup is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NativeState {
    /// It can be restored.
    Available,
    /// It is being made.
    Making,
    /// It can't be restored, and why.
    Broken(String),
    /// There is none.
    Gone,
}

/// The name of a provider's own backup: of letters, digits and single hyphens, so that every provider takes it. Tells what it
/// was made for, so that what an interrupted capture left is found again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeName {
    prefix: String,
    artifact: ArtifactId,
}

impl NativeName {
    /// The name of what is made for `artifact`.
    pub fn of(fleet: &FleetName, backup: &FolderName, artifact: ArtifactId) -> Self {
        Self { prefix: NativePrefix::of(fleet, backup).0, artifact }
    }

    /// Whether it is what is made for `artifact`.
    pub fn is_of(&self, artifact: ArtifactId) -> bool {
        self.artifact == artifact
    }

    /// The earliest that it can have been made, whatever the provider's clock shows.
    pub fn since(&self) -> Timestamp {
        self.artifact.time().saturating_sub(LISTS_LATE).unwrap_or(Timestamp::MIN)
    }

    /// What the names of everything that is made for the same backup begin with.
    pub fn prefix(&self) -> NativePrefix {
        NativePrefix(self.prefix.clone())
    }
}

impl fmt::Display for NativeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.prefix, self.artifact.to_string().to_ascii_lowercase())
    }
}

/// What all names of a backup's [`NativeName`]s begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativePrefix(String);

impl NativePrefix {
    /// That of a backup.
    pub fn of(fleet: &FleetName, backup: &FolderName) -> Self {
        let words = [fleet.as_str(), backup.as_str()].map(|text| {
            let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
            words.collect::<Vec<_>>().join("-")
        });
        // `a.b` and `a-b` are two backups, and read alike.
        let digest = hex::encode(Sha256::digest(format!("{fleet}/{backup}")));
        Self(format!("backstay-{}-{}-", words.join("-"), &digest[..8]))
    }

    /// The artifact that `name` stands for, where it is one of this backup's.
    pub fn artifact(&self, name: &str) -> Option<ArtifactId> {
        let name = name.to_ascii_lowercase();
        let (time, random) = name.strip_prefix(&self.0)?.split_once('-')?;
        format!("{}-{random}", time.to_ascii_uppercase()).parse().ok()
    }
}

/// How long a provider may take to list what it made.
const LISTS_LATE: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);

impl Inventory {
    /// Judges artifacts that are native backups by what their provider was found to keep: one that it does not have is no
    /// artifact that could be restored, whatever its manifest says. Of one that lies where nobody can ask from here nothing is known.
    /// Nothing follows from what was not seen.
    pub fn judge_natives(&mut self, spec: &Spec) {
        let Self { provided, stores, .. } = self;
        for backup in spec.backups.values() {
            let folder = spec.moved.folder(&backup.name);
            let seen = provided.get(&backup.name);
            let known = stores.values_mut().filter_map(|store| match store {
                Observed::Known(store) => store.backups.get_mut(&folder),
                Observed::Unknown(_) => None,
            });
            known.flat_map(|stored| &mut stored.artifacts).for_each(|it| judge(it, &backup.source, seen));
        }
    }

    /// The native backups that manifests of any store name and that can be asked for where `source` is, as far as manifests tell.
    pub fn natives_named(&self, folder: &FolderName, source: &Source) -> BTreeMap<String, Named> {
        let known = self.stores.values().filter_map(Observed::known);
        let artifacts = known.filter_map(|store| store.backups.get(folder)).flat_map(|it| &it.artifacts);
        let named = artifacts.filter_map(|it| Some((it.content(), it.native.as_deref()?)));
        let here = named.filter(|(_, native)| native.out_of_reach(source, None).is_none());
        here.map(|(artifact, native)| (native.reference.clone(), Named { artifact, native: native.clone() }))
            .collect()
    }

    /// What the provider of a backup was found to keep.
    pub fn provided(&self, backup: &BackupName) -> Observed<&Provided> {
        match self.provided.get(backup) {
            Some(seen) => seen.found.as_ref(),
            None => Observed::default(),
        }
    }
}

/// A native backup that a manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The artifact that it was made for.
    pub artifact: ArtifactId,
    /// What the manifest says of it.
    pub native: NativeReference,
}

fn judge(artifact: &mut StoredArtifact, source: &Source, seen: Option<&ProvidedSeen>) {
    let Some(native) = artifact.native.as_deref() else { return };
    let told = seen.and_then(|seen| Some((seen.at, seen.found.known()?)));
    let why = match told {
        Some((_, Provided { natives: Some(_), account, .. })) => {
            native.out_of_reach_of(source, account.as_deref())
        }
        _ => native.out_of_reach(source, None),
    };
    if let Some(why) = why {
        artifact.condition = Condition::Unknown(why.into());
        return;
    }
    let Some((at, Some(natives))) = told.map(|(at, provided)| (at, provided.natives.as_ref())) else {
        return;
    };
    let is_listed_by_now = artifact.id.time().saturating_add(LISTS_LATE).is_ok_and(|by| by <= at);
    let judged = match natives.get(&native.reference).map(|native| &native.state) {
        Some(NativeState::Available) if artifact.is_judged_by_provider() => Condition::Good,
        Some(NativeState::Broken(why)) => broken(&native.reference, why),
        Some(NativeState::Gone) => gone(&native.reference),
        None if is_listed_by_now => gone(&native.reference),
        Some(NativeState::Available | NativeState::Making) | None => return,
    };
    artifact.condition = judged;
}

/// What every judgement by a provider begins with, so that a later one can take it back.
pub(super) const BY_PROVIDER: &str = "its provider";

fn gone(reference: &str) -> Condition {
    Condition::Damaged(format!("{BY_PROVIDER} has no {reference} any more").into())
}

fn broken(reference: &str, why: &str) -> Condition {
    Condition::Damaged(format!("{BY_PROVIDER} can't restore {reference}: {why}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(point_in_time: PointInTime) -> ProviderSettings {
        let at = |text: &str| text.parse().unwrap();
        let window = Stretch { start: at("2026-11-01T00:00:00Z"), end: at("2026-11-29T12:00:00Z") };
        ProviderSettings {
            point_in_time,
            window: Some(window),
            inferred: None,
            backup_window: None,
            snapshots: None,
            snapshot_time: None,
            changing: None,
        }
    }

    #[test]
    fn names_tell_the_artifact_and_no_other_backups() {
        let artifact: ArtifactId = "20261120T010000Z-3k7qz0m4xw".parse().unwrap();
        let (fleet, backup): (FleetName, FolderName) = ("shop".parse().unwrap(), "a-table".parse().unwrap());
        let name = NativeName::of(&fleet, &backup, artifact);
        let (head, tail) = (name.to_string(), "-20261120t010000z-3k7qz0m4xw");
        assert!(head.starts_with("backstay-shop-a-table-") && head.ends_with(tail), "{head}");
        assert_eq!(name.prefix().artifact(&name.to_string()), Some(artifact));
        for other in ["a", "a.table", "a-table-b"] {
            let other = NativePrefix::of(&fleet, &other.parse().unwrap());
            assert_eq!(other.artifact(&name.to_string()), None);
        }
        for stranger in ["", "backstay-shop-a-table-", "nightly", "backstay-shop-a-table-20261120t010000z"] {
            assert_eq!(name.prefix().artifact(stranger), None, "{stranger}");
        }
    }

    #[test]
    fn only_what_is_declared_and_does_not_hold_is_lacking() {
        let declared = |point_in_time| Protection { point_in_time, ..Protection::default() };
        let on = PointInTime::On { days: Some(35) };
        assert_eq!(settings(on).lacks(&declared(None)), None);
        assert_eq!(settings(on).lacks(&declared(Some(PointInTime::On { days: None }))), None);
        assert_eq!(settings(PointInTime::Off).lacks(&declared(Some(on))), Some(declared(Some(on))));
        let off = declared(Some(PointInTime::Off));
        assert_eq!(settings(on).lacks(&off), Some(off));
    }

    #[test]
    fn what_would_be_lost_is_told() {
        let off = Protection { point_in_time: Some(PointInTime::Off), ..Protection::default() };
        let loss = settings(PointInTime::On { days: Some(35) }).loss(&off).unwrap();
        assert!(loss.contains("2026-11-01T00:00:00Z to 2026-11-29T12:00:00Z"), "{loss}");
        assert_eq!(settings(PointInTime::Off).loss(&off), None);
        let longer =
            Protection { point_in_time: Some(PointInTime::On { days: Some(35) }), ..Protection::default() };
        assert_eq!(settings(PointInTime::On { days: Some(7) }).loss(&longer), None);
    }

    #[test]
    fn a_schedule_of_snapshots_is_held_against_the_whole_that_is_declared() {
        let rules = |texts: &[&str]| -> BTreeSet<SnapshotRule> {
            texts.iter().map(|text| SnapshotRule::parse(text).unwrap()).collect()
        };
        let declared = |texts: &[&str]| Protection { snapshots: Some(rules(texts)), ..Protection::default() };
        let found = ProviderSettings {
            snapshots: Some(rules(&["every day, keep 7d", "every sunday, keep 4w"])),
            ..settings(PointInTime::Off)
        };
        assert_eq!(found.lacks(&Protection::default()), None, "left out is left as it is");
        assert_eq!(found.lacks(&declared(&["every sunday, keep 4w", "every day, keep 7d"])), None);
        let less = declared(&["every day, keep 6d", "every sunday, keep 8w"]);
        assert_eq!(found.lacks(&less), Some(less.clone()));
        let loss = found.loss(&less).unwrap();
        assert!(loss.contains("`every day, keep 7d`") && !loss.contains("sunday"), "{loss}");
        assert_eq!(found.loss(&declared(&["every 12h, keep 1d"])).unwrap().matches("every").count(), 2);
        assert_eq!(found.loss(&declared(&["every day, keep 8d", "every sunday, keep 4w"])), None);
    }
}
