//! What happens between two passes.

use std::time::Duration;

use backstay::{
    artifact::{ArtifactId, Kind, layout::Holder},
    clock::Clock as _,
    inventory::Lease,
    plan::manual,
    reconcile::{Ask, Keep},
    spec::names::StoreName,
    stores::faulty::{Chances, Health},
};
use bytes::Bytes;
use jiff::SignedDuration;

use super::{BACKUPS, DAY, HOUR, MINUTE, Simulation, declaration::data_path, fleet::STORES, source::Data};
use crate::simulation::Random;

const KEEPS: [&str; 4] = [
    r#"{ full = "2d", incremental = "1d" }"#,
    r#"{ full = "3d", incremental = "2d" }"#,
    r#"{ daily = 2, incremental = "1d" }"#,
    r#"{ last = 2, incremental = "1d" }"#,
];

impl Simulation {
    /// Something happens between two passes.
    pub(super) async fn disturb(&mut self) {
        let name = self.random.pick(&BACKUPS);
        self.change_data(name);
        let what = self.random.below(14);
        self.fleet.gate.note(format!("disturbance {what}"));
        match what {
            0 => self.change_declaration(),
            1 => self.break_declaration(),
            2 => self.toggle_health(),
            3 => self.toggle_chances(),
            4 | 5 => self.tamper(),
            6 => self.jump(),
            7 => self.lose_state(),
            8 => self.toggle_source(),
            9 => self.set_back(),
            10 => self.lease_of_another().await,
            11 => self.adopt().await,
            12 => self.rename(),
            _ => {}
        }
    }

    /// What the next pass is asked to do: now and then, a backup that is held.
    pub(super) fn ask(&mut self) -> Ask {
        if !self.random.one_in(12) {
            return Ask::Everything;
        }
        let backup = self.declared.name(self.random.pick(&BACKUPS)).parse().unwrap();
        let kind = self.random.pick(&[Kind::Full, Kind::Incremental]);
        let request = manual::Request { backup, kind, reason: Some("an upgrade".to_owned()) };
        Ask::Backup(vec![request], Keep::Held("audit".to_owned()))
    }

    pub(super) fn declare(&mut self, name: &'static str) {
        let policy = (3 * (1 + self.random.below(3)), self.random.pick(&KEEPS));
        self.declared.backups.insert(name, policy);
    }

    fn change_declaration(&mut self) {
        let name = self.random.pick(&BACKUPS);
        match self.random.one_in(4) && self.declared.backups.len() > 1 {
            true => drop(self.declared.backups.remove(name)),
            false => self.declare(name),
        }
        self.commit();
    }

    fn rename(&mut self) {
        *self.declared.renames.entry(self.random.pick(&BACKUPS)).or_default() += 1;
        self.commit();
    }

    pub(super) fn commit(&mut self) {
        self.declared.note += 1;
        self.fleet.commit(&self.declared.text());
    }

    fn break_declaration(&mut self) {
        self.declared.note += 1;
        self.fleet.commit(&self.declared.text().replace("policy =", "polcy ="));
    }

    pub(super) fn change_data(&mut self, name: &str) {
        let random = &mut self.random;
        let mut all = self.fleet.data.lock().unwrap();
        let data: &mut Data = all.entry(data_path(name)).or_default();
        let piece = |random: &mut Random| {
            let words = (0..100 + random.below(400)).map(|_| random.next().to_le_bytes());
            words.flatten().collect::<Vec<u8>>()
        };
        data.pieces.resize_with(4, Vec::new);
        for old in &mut data.pieces {
            if old.is_empty() || random.one_in(3) {
                *old = piece(random);
            }
        }
    }

    fn toggle_source(&mut self) {
        let name = self.random.pick(&BACKUPS);
        let after = self.random.below(4) as usize;
        let mut all = self.fleet.data.lock().unwrap();
        let data = all.entry(data_path(name)).or_default();
        data.fails_after = if data.fails_after.is_some() { None } else { Some(after) };
    }

    fn some_store(&mut self) -> StoreName {
        STORES[self.random.below(self.declared.stores as u64) as usize].parse().unwrap()
    }

    fn toggle_health(&mut self) {
        let store = self.some_store();
        let health = [Health::Well, Health::Away, Health::Gone, Health::Full, Health::ReadOnly];
        self.fleet.stores[&store].faults.set_health(self.random.pick(&health));
    }

    fn toggle_chances(&mut self) {
        let store = self.some_store();
        let failing = Chances { fail: 0.03, lose_answer: 0.02, ..Chances::default() };
        let lying = Chances { tear: 0.02, corrupt: 0.02, ..failing };
        let chances = self.random.pick(&[failing, lying, Chances::default()]);
        let chances = Chances { longest_delay: Duration::ZERO, ..chances };
        self.fleet.stores[&store].faults.set_chances(chances);
    }

    /// Changes, cuts or loses one object behind the store's back: of an artifact, or any.
    fn tamper(&mut self) {
        let store = self.some_store();
        let memory = self.fleet.stores[&store].memory.clone();
        let any = self.random.one_in(6);
        let chosen = |name: &str| {
            let folder = BACKUPS.iter().find_map(|backup| name.strip_prefix(&format!("pavroto/{backup}/")));
            let of_artifact =
                folder.is_some_and(|rest| rest.starts_with("artifacts/") || rest.starts_with("packs/"));
            of_artifact || any && name.starts_with("pavroto/")
        };
        let held = memory.objects_now();
        let held: Vec<_> = held.into_iter().filter(|(name, _)| chosen(name.as_str())).collect();
        if held.is_empty() {
            return;
        }
        let (name, content) = held[self.random.below(held.len() as u64) as usize].clone();
        let instead = self.spoilt(content);
        match &instead {
            None => memory.lose(&name),
            Some(bytes) => memory.overwrite(&name, bytes.clone()),
        }
        self.fleet.gate.note(format!("tampered with {name} in {store}"));
        self.tampered.insert((store, name), instead);
    }

    /// What may be found in an object's place. Where it changes does not depend on its length, which is not the seed's.
    fn spoilt(&mut self, content: Bytes) -> Option<Bytes> {
        let mut bytes = content.to_vec();
        match self.random.below(5) {
            0 => return None,
            1 => bytes = self.random.next().to_le_bytes().repeat(20),
            2 => bytes.truncate(bytes.len() / 2),
            3 => *bytes.first_mut()? ^= 1,
            _ => *bytes.last_mut()? ^= 1,
        }
        Some(bytes.into())
    }

    /// A clock jumps by minutes, a day or up to a year, or is set right.
    fn jump(&mut self) {
        let clocks = self.fleet.clocks();
        let clock = &clocks[self.random.below(clocks.len() as u64) as usize];
        let far = self.random.pick(&[MINUTE, DAY, DAY * 365]);
        let by = SignedDuration::from_secs(self.random.below(far.as_secs() as u64) as i64);
        let by = self.random.pick(&[by, -by, SignedDuration::ZERO]);
        clock.set(self.truth.now() + by);
    }

    fn lose_state(&mut self) {
        self.controller = None;
        self.fleet.lose_state();
    }

    /// A store is set back to what it held before; the first time, that is remembered.
    fn set_back(&mut self) {
        let store = self.some_store();
        let vault = self.fleet.stores.get_mut(&store).unwrap();
        let now = vault.memory.contents();
        if let Some(earlier) = vault.earlier.replace(now) {
            vault.memory.set_back(&earlier);
            self.fleet.gate.note(format!("{store} is set back"));
            // What was spoilt by then is spoilt again, which nobody has written down; what was held is forgotten.
            self.judge.distrust(&store);
            self.held.retain(|(at, _), _| *at != store);
        }
    }

    /// Another controller begins to write into an epoch.
    async fn lease_of_another(&mut self) {
        let holdings = self.holdings().await;
        let all: Vec<_> = holdings
            .iter()
            .flat_map(|(folder, artifacts)| artifacts.values().flatten().map(move |m| (folder, m.epoch)))
            .collect();
        if all.is_empty() {
            return;
        }
        let (folder, epoch) = all[self.random.below(all.len() as u64) as usize];
        let until = self.truth.now() + HOUR * 12;
        let lease = Lease { epoch, until, controller: "another".to_owned() };
        let id = ArtifactId::new(self.truth.now(), self.random.next());
        let name = self.folder(&folder.0, &folder.1).lease(Holder::Writer(id), 0);
        let bytes = serde_json::to_vec(&lease).unwrap();
        self.fleet.stores[&folder.0].memory.overwrite(&name, bytes.into());
        self.leases.push((folder.clone(), name, epoch, until));
    }

    /// A person takes over what stores are refused.
    pub(super) async fn adopt(&mut self) {
        let controller = self.controller.take().unwrap_or_else(|| self.fleet.controller());
        for store in &STORES[..self.declared.stores] {
            let store: StoreName = store.parse().unwrap();
            let adopted = self.fleet.gate.run(None, controller.adopt(&store, "looked at it")).await.unwrap();
            self.fleet.gate.note(format!("adopted {store}: {}", adopted.is_ok()));
        }
        self.controller = Some(controller);
    }
}
