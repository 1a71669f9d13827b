//! Stored artifacts as a table: a row an artifact, a column a store.

use std::collections::{BTreeMap, BTreeSet};

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use super::{Palette, WIDEST, bytes};
use crate::{
    artifact::{ArtifactId, Kind, until::NamedPoint},
    inventory::{Condition, Inventory, Observed, Origin, StoredArtifact, lineage},
    spec::{
        Spec,
        names::{BackupName, FolderName, StoreName},
    },
};

/// All artifacts of some backups, and the stores that could not be seen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listing {
    /// Oldest first within a backup.
    pub artifacts: Vec<Row>,
    /// Stores that could not be seen, and why: what they hold is unknown, not absent.
    pub unknown: BTreeMap<StoreName, String>,
    /// Where the fleet's people tell the time; for texts only.
    #[serde(skip)]
    pub zone: TimeZone,
}

/// One artifact, wherever it is stored.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its backup.
    pub backup: BackupName,
    /// The folder of its backup in the stores, where that has another name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored_as: Option<FolderName>,
    /// Its name.
    pub artifact: ArtifactId,
    /// What it holds.
    pub kind: Kind,
    /// Who asked for it.
    pub origin: Origin,
    /// The slot that it fills.
    pub slot: Option<Timestamp>,
    /// The newest data that it brings back.
    pub newest: Timestamp,
    /// The artifact whose segments it shared.
    pub base: Option<ArtifactId>,
    /// The engine's name of the newest moment, such as a place in its log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Box<str>>,
    /// For logs: the named restore points in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub named: Vec<NamedPoint>,
    /// What a restore needs besides it.
    pub requires: Vec<ArtifactId>,
    /// What it goes on from, as far as that is there.
    pub goes_on_from: Option<ArtifactId>,
    /// Its copies.
    pub stores: BTreeMap<StoreName, Stored>,
}

/// One copy of an artifact.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stored {
    /// Bytes that it added to the store.
    pub bytes: u64,
    /// The provider's own name of it, where it is a backup that the provider keeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub native: Option<String>,
    /// What the last look found.
    pub condition: Condition,
    /// When a check of any depth last found it good.
    pub verified: Option<Timestamp>,
    /// Why it is held.
    pub held: Option<String>,
}

impl Listing {
    /// Collects what the inventory shows of the backups that `wanted` picks.
    pub fn of(
        spec: &Spec,
        inventory: &Inventory,
        now: Timestamp,
        wanted: impl Fn(&BackupName) -> bool,
    ) -> Self {
        let mut rows: BTreeMap<(BackupName, ArtifactId), Row> = BTreeMap::new();
        let mut unknown = BTreeMap::new();
        for (store, observed) in &inventory.stores {
            let found = match observed {
                Observed::Known(found) => found,
                Observed::Unknown(why) => {
                    unknown.insert(store.clone(), why.clone());
                    continue;
                }
            };
            for (folder, stored) in &found.backups {
                let backup = spec.moved.backup(folder);
                if !wanted(&backup) {
                    continue;
                }
                let lineage = lineage(stored, now);
                for artifact in &stored.artifacts {
                    let row = rows.entry((backup.clone(), artifact.id));
                    let row = row.or_insert_with(|| self::row((&backup, folder), artifact));
                    row.goes_on_from = row.goes_on_from.or(lineage.get(&artifact.id).copied());
                    row.stores.insert(store.clone(), copy(artifact));
                }
            }
        }
        Self { artifacts: rows.into_values().collect(), unknown, zone: spec.fleet.time_zone.clone() }
    }

    /// The listing as a table for people.
    pub fn text(&self, palette: Palette) -> String {
        let mut out = String::new();
        if self.artifacts.is_empty() {
            out.push_str("No artifacts.\n");
        } else {
            out.push_str(&self.table(palette).trim_fmt());
            out.push('\n');
            if self.artifacts.iter().any(|row| row.origin == Origin::Manual) {
                out.push_str("* made on demand\n");
            }
        }
        out + &self.remarks(palette)
    }

    /// What neither table nor tree tells.
    pub(super) fn remarks(&self, palette: Palette) -> String {
        let mut out = String::new();
        let moved = self.artifacts.iter().filter_map(|row| Some((&row.backup, row.stored_as.as_ref()?)));
        for (backup, folder) in moved.collect::<BTreeMap<_, _>>() {
            out.push_str(&format!("{backup} is stored as {folder}\n"));
        }
        for (store, why) in &self.unknown {
            out.push_str(&format!("{} {store} could not be seen: {why}\n", palette.warn("!")));
        }
        out
    }

    /// The newest data of an artifact: seconds are in its name, and the zone in a table's head.
    pub(super) fn moment(&self, row: &Row) -> String {
        row.newest.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M").to_string()
    }

    fn table(&self, palette: Palette) -> Table {
        let seen = self.artifacts.iter().flat_map(|row| row.stores.keys());
        let stores: BTreeSet<&StoreName> = seen.chain(self.unknown.keys()).collect();
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDEST);
        let zone = self.zone.iana_name().unwrap_or("local time");
        let heads = ["BACKUP", "ARTIFACT", "KIND"].into_iter().map(str::to_owned);
        let heads = heads.chain([format!("DATA OF ({zone})")]);
        table.set_header(heads.chain(stores.iter().map(|store| store.to_string().to_uppercase())));
        for row in &self.artifacts {
            let kind = match row.origin {
                Origin::Scheduled => row.kind.to_string(),
                Origin::Manual => format!("{}*", row.kind),
            };
            let cells =
                [row.backup.to_string(), row.artifact.to_string(), kind, self.moment(row)].into_iter();
            let copies = stores.iter().map(|store| match self.unknown.contains_key(*store) {
                true => palette.warn("unknown"),
                false => cell(row.stores.get(*store), palette),
            });
            table.add_row(cells.chain(copies));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        // A name that is broken in two can't be copied.
        if let Some(names) = table.column_mut(1) {
            names.set_constraint(ColumnConstraint::ContentWidth);
        }
        table
    }
}

fn row((backup, folder): (&BackupName, &FolderName), artifact: &StoredArtifact) -> Row {
    Row {
        backup: backup.clone(),
        stored_as: (folder.as_str() != backup.as_str()).then(|| folder.clone()),
        artifact: artifact.id,
        kind: artifact.kind,
        origin: artifact.origin,
        slot: artifact.slot,
        newest: artifact.newest,
        base: artifact.base,
        position: artifact.position.clone(),
        named: artifact.named().to_vec(),
        requires: artifact.requires.clone(),
        goes_on_from: None,
        stores: BTreeMap::new(),
    }
}

fn copy(artifact: &StoredArtifact) -> Stored {
    Stored {
        bytes: artifact.bytes,
        native: artifact.reference().map(str::to_owned),
        condition: artifact.condition.clone(),
        verified: artifact.verified.at_least(crate::artifact::Depth::Metadata),
        held: artifact.held.as_deref().map(str::to_owned),
    }
}

fn cell(stored: Option<&Stored>, palette: Palette) -> String {
    let Some(stored) = stored else { return palette.faint("-") };
    let held = if stored.held.is_some() { ", held" } else { "" };
    match &stored.condition {
        Condition::Good if stored.native.is_some() => format!("native{held}"),
        Condition::Good => format!("{}{held}", bytes(stored.bytes)),
        Condition::Damaged(_) => palette.bad(format!("damaged{held}")),
        Condition::Unknown(_) => palette.warn(format!("unknown{held}")),
    }
}
