//! What drills left with providers: it lies in no store, and waits for none.

use backstay::{
    artifact::ArtifactId,
    inventory::{CopyLeft, Interrupted, SandboxCopy, Work},
    plan::Action,
};

use super::{aged, planted};
use crate::world::*;

#[test]
fn what_a_provider_made_goes_without_its_store_and_what_is_in_the_store_does_not() {
    let (mut world, ids) = aged(1);
    let reader = ArtifactId::new(world.now, 83);
    let copy = |drill: &str| Action::DeleteDrillCopy {
        drill: drill.parse().unwrap(),
        backup: backup("agama"),
        store: store("a"),
        artifact: reader,
    };
    let clean_up = Action::CleanUp { backup: backup("agama"), store: store("a"), artifact: reader };
    let rules = |world: &World, action: Action| {
        let judged = world.judge(planted(world, vec![action]));
        judged.withheld.into_iter().map(|withheld| withheld.rule).collect::<Vec<_>>()
    };
    assert_eq!(rules(&world, copy("trial")), ["not-ours"]);
    let left = |work, artifact| Interrupted {
        backup: folder("agama"),
        store: store("a"),
        artifact,
        work,
        copy: Some(Box::new(copy_left("trial", reader))),
    };
    // What wrote under the name of an artifact left packs, whatever else it says.
    world.interrupted = vec![left(Work::Capture, reader), left(Work::Reading, ids[0])];
    assert_eq!(rules(&world, copy("trial")), ["not-ours"]);
    world.interrupted = vec![left(Work::Reading, reader)];
    assert_eq!(rules(&world, copy("trial")), Vec::<String>::new());
    assert_eq!(rules(&world, copy("another")), ["not-ours"]);
    world.down.insert(store("a"));
    assert_eq!(rules(&world, copy("trial")), Vec::<String>::new());
    assert_eq!(rules(&world, clean_up), ["unknown"]);
    world.interrupted[0].copy = None;
    assert_eq!(rules(&world, copy("trial")), ["not-ours"]);
}

fn copy_left(drill: &str, reader: ArtifactId) -> CopyLeft {
    let drill = drill.parse().unwrap();
    CopyLeft {
        copy: SandboxCopy::of(&"pavroto".parse().unwrap(), &drill, reader),
        drill,
        of: None,
        revision: "0f".to_owned(),
        declared_in: String::new(),
    }
}

#[test]
fn a_copy_that_a_drill_left_with_a_provider_waits_for_no_store_and_everything_else_does() {
    let (mut world, _) = aged(1);
    let reader = ArtifactId::new(world.now, 83);
    let left = |store: &str, copy: Option<CopyLeft>, work| Interrupted {
        backup: folder("agama"),
        store: store.parse().unwrap(),
        artifact: reader,
        work,
        copy: copy.map(Box::new),
    };
    let trial = || Some(copy_left("trial", reader));
    let planned = |world: &World| {
        let plan = world.plan();
        let steps = plan.steps.iter().map(|step| brief(&step.action));
        let waits = plan.waiting.iter().map(|waiting| waiting.what.clone());
        let ours = |text: &String| text.starts_with("delete-copy") || text.starts_with("clean-up");
        steps.chain(waits).filter(ours).collect::<Vec<_>>()
    };
    world.interrupted = vec![left("a", trial(), Work::Reading)];
    assert_eq!(planned(&world), ["clean-up agama a"]);
    world.down.insert(store("a"));
    assert_eq!(planned(&world), ["delete-copy trial a"]);
    world.interrupted = vec![left("withdrawn", trial(), Work::Reading)];
    assert_eq!(planned(&world), ["delete-copy trial withdrawn"]);
    for waits in [left("a", None, Work::Reading), left("a", trial(), Work::Capture)] {
        world.interrupted = vec![waits];
        assert_eq!(planned(&world), [format!("clean-up after {reader} of agama in a")]);
    }
}
