//! What every maker of machines must meet.

use std::{collections::BTreeSet, sync::Mutex};

use backstay::{
    inventory::{Machine, PreviewMark, Running},
    provisioners::{ProvisionError, Provisioner},
};

/// Proves that `provisioner`, of whose machine nothing is there, meets its trait. `things` tells everything that is really
/// there, by whoever would know, never by the provisioner.
pub async fn conforms(provisioner: &dyn Provisioner, things: impl AsyncFn() -> BTreeSet<String>) {
    let before = things().await;
    assert_eq!(provisioner.observe().await, Ok(Machine::Gone));
    previews_without_a_trace(provisioner, &things, &before).await;
    assert_eq!(removed(provisioner).await.0, Ok(()), "where nothing is there it is removed at once");
    assert_eq!(things().await, before);

    let first = comes_up(provisioner, &things, &before).await;
    let there = things().await;
    stays_as_it_is(provisioner, &things, &first).await;
    goes(provisioner, &things, &before).await;

    comes_up(provisioner, &things, &before).await;
    assert_eq!(things().await.len(), there.len(), "a second time makes as much as the first");
    goes(provisioner, &things, &before).await;
}

async fn previews_without_a_trace(
    provisioner: &dyn Provisioner,
    things: &impl AsyncFn() -> BTreeSet<String>,
    before: &BTreeSet<String>,
) {
    let lines = provisioner.preview(&PreviewMark::drawn(7)).await.unwrap();
    assert!(
        !lines.is_empty() && lines.iter().all(|line| !line.trim().is_empty() && !line.contains('\n')),
        "{lines:?}"
    );
    assert_eq!(&things().await, before, "a preview changes nothing");
    assert_eq!(provisioner.observe().await, Ok(Machine::Gone), "a preview leaves nothing");
}

async fn comes_up(
    provisioner: &dyn Provisioner,
    things: &impl AsyncFn() -> BTreeSet<String>,
    before: &BTreeSet<String>,
) -> Running {
    let (made, said) = made(provisioner).await;
    let made = made.unwrap();
    assert!(!said.is_empty(), "it tells of what it does");
    let there = things().await;
    assert!(there.is_superset(before) && there.len() > before.len(), "something is really there");
    assert_eq!(made.drift, Vec::<String>::new());
    made
}

async fn stays_as_it_is(
    provisioner: &dyn Provisioner,
    things: &impl AsyncFn() -> BTreeSet<String>,
    made: &Running,
) {
    let there = things().await;
    for _ in 0..2 {
        let Ok(Machine::Running(seen)) = provisioner.observe().await else { panic!("it runs") };
        assert_eq!((&seen.address, &seen.host_key), (&made.address, &made.host_key));
        assert_eq!(seen.drift, Vec::<String>::new());
    }
    // Whether or not there is something to tell of what is there already.
    let _ = provisioner.preview(&PreviewMark::drawn(7)).await;
    assert_eq!(things().await, there, "neither a look nor a preview changes what is there");
    let (again, _) = self::made(provisioner).await;
    let refused = again.expect_err("what is there is not made a second time").message;
    assert!(refused.starts_with("failed to "), "{refused}");
    assert_eq!(things().await, there, "what was refused changed nothing");
    assert!(matches!(provisioner.observe().await, Ok(Machine::Running(_))));
}

async fn goes(
    provisioner: &dyn Provisioner,
    things: &impl AsyncFn() -> BTreeSet<String>,
    before: &BTreeSet<String>,
) {
    let (gone, said) = removed(provisioner).await;
    assert_eq!(gone, Ok(()));
    assert!(!said.is_empty(), "it tells of what it does");
    assert_eq!(&things().await, before, "all of it is gone, and nothing else");
    assert_eq!(provisioner.observe().await, Ok(Machine::Gone));
    assert_eq!(removed(provisioner).await.0, Ok(()), "what is gone can be removed");
}

/// Makes a machine; what was said of it, too.
pub async fn made(provisioner: &dyn Provisioner) -> (Result<Running, ProvisionError>, Vec<String>) {
    let said = Mutex::new(Vec::new());
    let made = provisioner.up(&|line| said.lock().unwrap().push(line.to_owned())).await;
    (made, said.into_inner().unwrap())
}

/// Removes a machine; what was said of it, too.
pub async fn removed(provisioner: &dyn Provisioner) -> (Result<(), ProvisionError>, Vec<String>) {
    let said = Mutex::new(Vec::new());
    let removed = provisioner.down(&|line| said.lock().unwrap().push(line.to_owned())).await;
    (removed, said.into_inner().unwrap())
}
