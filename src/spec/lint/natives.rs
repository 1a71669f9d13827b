//! Backups that a provider keeps: what they are no protection against, and what can't be made of them.

use super::Lint;
use crate::{
    artifact::Kind,
    diagnostic::Diagnostic,
    spec::{
        Backup, DrillSubject, Mongodb, Source,
        places::{Path, path},
    },
};

impl Lint<'_> {
    /// Whoever takes the account, or closes it, takes the data and all of its native backups.
    pub(super) fn natives_are_not_alone(&mut self) {
        let backups = &self.lowered.spec.backups;
        let alone = |native: &&Backup| {
            native.source.is_native()
                && !backups.values().any(|other| is_kept_elsewhere(&native.source, other))
        };
        for native in backups.values().filter(alone) {
            let message = format!(
                "the artifacts of backup `{}` are in the account of what they protect, and are lost with it; its stores hold \
                 nothing but their manifests",
                native.name
            );
            self.warning("native-only", &method_of(native), message, remedy(&native.source));
        }
    }

    /// A provider's own backup is whole each time.
    pub(super) fn natives_are_full(&mut self) {
        for native in self.lowered.spec.backups.values().filter(|backup| backup.source.is_native()) {
            for kind in [Kind::Incremental, Kind::Differential] {
                if native.policy.schedules.contains_key(&kind) {
                    let message = format!(
                        "policy `{}` makes {kind}s, and each of a provider's own backups is a full",
                        native.policy.name
                    );
                    let hint = format!("use a policy without `{kind}`");
                    self.error(
                        "native-kind",
                        &path(["backup", native.name.as_str(), "policy"]),
                        message,
                        hint,
                    );
                }
            }
        }
    }
}

impl Lint<'_> {
    /// A drill makes something of its own of a provider's backup, which not each of them can.
    pub(super) fn natives_can_be_drilled(&mut self) {
        for (name, drill) in &self.lowered.spec.drills {
            let DrillSubject::Backup(backup) = &drill.subject else { continue };
            let source = self.lowered.spec.backups.get(backup).map(|backup| &backup.source);
            if matches!(source, Some(Source::Atlas(_))) {
                let message = format!("drill `{name}` can't make a cluster of Atlas for backup `{backup}`");
                let hint = "drill a second backup of its databases, with the source `mongodb`";
                self.error("drill-native", &path(["drill", name.as_str(), "backup"]), message, hint);
            }
        }
    }

    /// A provider has one setting: two backups that declare it otherwise would set it in turn, for ever.
    pub(super) fn providers_are_set_once(&mut self) {
        let lowered = self.lowered;
        let hosted: Vec<&Backup> =
            lowered.spec.backups.values().filter(|backup| backup.source.protection().is_some()).collect();
        for (number, backup) in hosted.iter().enumerate() {
            let earlier = hosted[..number]
                .iter()
                .filter(|other| other.source.native_place() == backup.source.native_place());
            let conflicts = earlier.flat_map(|other| {
                let [one, two] = [other, backup].map(|it| it.source.protection());
                let keys = one.zip(two).map(|(one, two)| one.conflicts(two)).unwrap_or_default();
                keys.into_iter().map(move |key| (*other, key))
            });
            for (other, key) in conflicts {
                self.set_twice(other, backup, key);
            }
        }
    }

    fn set_twice(&mut self, earlier: &Backup, backup: &Backup, key: &str) {
        let at = |backup: &Backup| path(["backup", backup.name.as_str(), backup.source.kind(), key]);
        let message = format!(
            "backup `{}` declares another `{key}` than `{}`, and both are of one {}",
            backup.name,
            earlier.name,
            match backup.source {
                Source::Rds(_) => "instance",
                Source::Atlas(_) => "cluster",
                _ => "table",
            }
        );
        let mut diagnostic = Diagnostic::error("provider-set-twice", message);
        if let Some(place) = self.places.find(&at(earlier)) {
            diagnostic = diagnostic.see(place.clone(), "declared otherwise here");
        }
        self.push(diagnostic, &at(backup), "declare the same in both, or leave it out of one");
    }
}

fn method_of(backup: &Backup) -> Path {
    path(["backup", backup.name.as_str(), backup.source.kind()])
}

/// Whether `other` takes the data of `native` out of its account.
fn is_kept_elsewhere(native: &Source, other: &Backup) -> bool {
    match (native, &other.source) {
        (Source::Dynamodb(native), source @ Source::Dynamodb(other)) => {
            let same = (&native.region, &native.table, &native.endpoint)
                == (&other.region, &other.table, &other.endpoint);
            same && !source.is_native()
        }
        (Source::Rds(instance), other) => other.is_on(instance),
        (Source::Atlas(native), Source::Mongodb(Mongodb { server, .. })) => {
            // As Atlas names the members of a cluster: courses-shard-00-00.ab1cd.mongodb.net
            let host = server.host.to_ascii_lowercase();
            // and over a private endpoint courses-pl-0.ab1cd.mongodb.net; courses-copy is another cluster.
            let member = host.strip_prefix(&format!("{}-", native.cluster.to_ascii_lowercase()));
            let number = member.and_then(|it| it.strip_prefix("shard-").or_else(|| it.strip_prefix("pl-")));
            host.ends_with(".mongodb.net")
                && number.is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()))
        }
        _ => false,
    }
}

fn remedy(native: &Source) -> &'static str {
    match native {
        Source::Dynamodb(_) => {
            "declare a second backup of the table with method = \"logical\", in stores of another account"
        }
        Source::Rds(_) => {
            "declare a second backup, [backup.NAME.mysql] or .postgres, of the databases on its endpoint, in stores of another \
             account"
        }
        Source::Atlas(_) => {
            "declare a second backup, [backup.NAME.mongodb], of a member of the cluster, in stores elsewhere"
        }
        _ => "declare a second backup that captures the data itself, in stores of another account",
    }
}
