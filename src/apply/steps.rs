//! The steps of each family, from the names in a plan to what the families' modules work with.

mod copies_left;
mod drills;
mod drills_elsewhere;
mod native_drill;
mod natives;
mod previews;
mod recovery;
mod rehearsal;
mod renewals;
mod site;
mod transfers;
mod upkeep;

use super::{
    executor::{Done, Failure},
    world::World,
};
use crate::{git::push::PushMirror, inventory::ArmedSchedule};

impl World {
    pub(super) async fn arm(&self, schedule: &ArmedSchedule) -> Result<Done, Failure> {
        let armed = self.drivers.scheduler(&self.spec.fleet).arm(schedule).await;
        // A failure may come after the change.
        self.deeds.rearm();
        armed?;
        Ok(Done::default())
    }

    pub(super) async fn disarm(&self, schedule: &ArmedSchedule) -> Result<Done, Failure> {
        let disarmed = self.drivers.scheduler(&self.spec.fleet).disarm(schedule).await;
        self.deeds.rearm();
        disarmed?;
        Ok(Done::default())
    }

    pub(super) async fn push(&self, mirror: &str) -> Result<Done, Failure> {
        let pushed = PushMirror::new(&self.mirror, mirror, &self.mirrors)?.push(&self.mirror).await?;
        if let Some(infra) = &self.inventory.infra {
            self.deeds.push(mirror, &infra.position);
        }
        let kept = match pushed.kept.len() {
            0 => String::new(),
            kept => format!(", {kept} old tips kept"),
        };
        Ok(noted(format!("{} references{kept}", pushed.references)))
    }
}

fn noted(note: String) -> Done {
    Done { note: Some(note), ..Done::default() }
}

/// `3 packs, 12.4 MiB`
fn counted(number: u64, what: &str, bytes: u64) -> String {
    format!("{number} {what}{}, {}", if number == 1 { "" } else { "s" }, bytesize::ByteSize(bytes))
}
