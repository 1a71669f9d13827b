//! How machines and recoveries stand.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{
    inventory::{Machine, Observed},
    status::Status,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MachineLabels {
    machine: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RecoveryLabels {
    recovery: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartLabels {
    recovery: String,
    part: &'static str,
}

pub(super) fn register(registry: &mut Registry, status: &Status) {
    machines(registry, status);
    recoveries(registry, status);
}

/// Of a machine that can't be seen nothing is told.
fn machines(registry: &mut Registry, status: &Status) {
    let (runs, drifted) =
        (Family::<MachineLabels, Gauge>::default(), Family::<MachineLabels, Gauge>::default());
    for (name, machine) in &status.machines {
        let Observed::Known(found) = &machine.machine else { continue };
        let labels = MachineLabels { machine: name.to_string() };
        let running = match found {
            Machine::Running(running) => Some(running),
            Machine::Gone | Machine::Broken { .. } => None,
        };
        runs.get_or_create(&labels).set(i64::from(running.is_some()));
        drifted.get_or_create(&labels).set(i64::from(running.is_some_and(|it| !it.drift.is_empty())));
    }
    registry.register("machine_running", "Whether a declared machine is there and runs", runs);
    registry.register("machine_drifted", "Whether a machine differs from what is declared", drifted);
}

fn recoveries(registry: &mut Registry, status: &Status) {
    let family = Family::<RecoveryLabels, Gauge>::default;
    let (last, whole, took, objective, estimates) = (family(), family(), family(), family(), family());
    let worked = Family::<PartLabels, Gauge>::default();
    let seconds = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    for (name, recovery) in &status.recoveries {
        let labels = RecoveryLabels { recovery: name.to_string() };
        if let Some(rto) = recovery.rto_seconds {
            objective.get_or_create(&labels).set(seconds(rto));
        }
        if let Some(estimate) = &recovery.estimate {
            estimates.get_or_create(&labels).set(seconds(estimate.seconds));
        }
        if let Some(run) = &recovery.last {
            last.get_or_create(&labels).set(run.began.as_second());
            whole.get_or_create(&labels).set(i64::from(run.is_whole()));
        }
        let Some(run) = &recovery.last_whole else { continue };
        if let Some(length) = run.seconds {
            took.get_or_create(&labels).set(seconds(length));
        }
        for (part, milliseconds) in &run.worked {
            let labels = PartLabels { recovery: name.to_string(), part: part.as_str() };
            worked.get_or_create(&labels).set(seconds(milliseconds / 1000));
        }
    }
    registry.register("recovery_last_timestamp_seconds", "When the last recovery was begun", last);
    registry.register("recovery_whole", "Whether the last recovery came to its end", whole);
    registry.register("recovery_seconds", "How long the last one took that came to its end", took);
    registry.register("recovery_part_seconds", "How long of it was worked for each purpose", worked);
    registry.register("recovery_estimate_seconds", "How long a recovery would take now", estimates);
    registry.register("recovery_rto_seconds", "The longest that a recovery may take", objective);
}
