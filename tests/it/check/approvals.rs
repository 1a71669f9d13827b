//! What a person may overrule, and that they overrule nothing else.

use backstay::{
    artifact::{
        approval::{PlanApproval, PlanHash, Warrant},
        record::{Event, FORMAT, Record},
    },
    inventory::{Chronicle, Standing},
    plan::Withheld,
};

use super::*;

const DECLARED: &str = "d0";

/// Four expired fulls in each of two stores, of which three would go of store a.
fn crowded() -> (World, Vec<ArtifactId>, Plan) {
    let (mut world, ids) = aged(4);
    world.limits.declaration = DECLARED.to_owned();
    let plan = planted(&world, ids[..3].iter().map(|id| delete(*id, "a")).collect());
    (world, ids, plan)
}

fn only(plan: &Plan) -> &Withheld {
    let [withheld] = plan.withheld.as_slice() else { panic!("{:?}", plan.withheld) };
    withheld
}

fn hash(world: &World, plan: &Plan) -> PlanHash {
    only(&world.judge(plan.clone())).to_approve().expect("a person may approve it")
}

fn approval(world: &World, plan: PlanHash) -> PlanApproval {
    PlanApproval {
        warrant: Warrant {
            plan,
            by: "kai@workstation".to_owned(),
            reason: "retention was shortened".to_owned(),
            commit: None,
        },
        revision: "c0ffee".to_owned(),
        declaration: world.limits.declaration.clone(),
        given: world.now,
        until: world.now + DAY,
    }
}

/// The world in which a commit approves the plan.
fn approved(world: &World, plan: &Plan) -> World {
    let mut approved = world.clone();
    approved.limits.approvals = vec![approval(world, hash(world, plan))];
    approved
}

fn is_let_through(world: &World, plan: &Plan) {
    let judged = world.judge(plan.clone());
    assert_eq!((judged.steps.len(), judged.withheld.as_slice()), (plan.steps.len(), &[][..]));
    assert_eq!(judged.approved.len(), 1);
    assert_eq!(judged.approved[0].warrant.by, "kai@workstation");
}

fn is_withheld(world: &World, plan: &Plan) -> Withheld {
    let judged = world.judge(plan.clone());
    assert_eq!((judged.steps.len(), judged.approved.as_slice()), (0, &[][..]));
    only(&judged).clone()
}

#[test]
fn exactly_what_was_approved_is_let_through() {
    let (world, ids, plan) = crowded();
    let withheld = is_withheld(&world, &plan);
    assert_eq!((withheld.rule.as_str(), withheld.approvable), ("delete-share", true));
    let mut going = ids[..3].to_vec();
    going.sort();
    assert_eq!(withheld.artifacts, going);
    let approved = approved(&world, &plan);
    is_let_through(&approved, &plan);
    // Another store has the same of it, and nobody approved that.
    let mut both: Vec<Action> = ids[..3].iter().map(|id| delete(*id, "a")).collect();
    both.extend(ids[..3].iter().map(|id| delete(*id, "b")));
    let judged = approved.judge(planted(&approved, both));
    assert_eq!((judged.steps.len(), only(&judged).store.as_ref().map(|it| it.as_str())), (3, Some("b")));
    // More than was approved, other than was approved, and less.
    for other in [&ids[..4], &ids[1..4], &ids[..2]] {
        let mut approved = approved.clone();
        approved.limits.delete_share = 0.0;
        let other = planted(&approved, other.iter().map(|id| delete(*id, "a")).collect());
        is_withheld(&approved, &other);
    }
}

#[test]
fn the_name_of_a_plan_is_of_what_goes_and_what_it_rests_on_and_of_nothing_else() {
    let (world, ids, plan) = crowded();
    let named = hash(&world, &plan);
    let mut same = world.clone();
    same.now += HOUR;
    same.stored("a", "agama").artifacts.reverse();
    same.artifact_mut("a", "agama", ids[0]).verified.data = Some(world.now);
    same.stored("b", "agama").artifacts.pop();
    same = same.declare("other", nightly());
    let reversed: Vec<Action> = ids[..3].iter().rev().map(|id| delete(*id, "a")).collect();
    let judged = same.judge(planted(&same, reversed));
    let share = judged.withheld.iter().find(|withheld| withheld.rule == "delete-share");
    assert_eq!(share.unwrap().plan, Some(named));

    type Change<'a> = &'a dyn Fn(&mut World);
    let changes: [Change<'_>; 7] = [
        &|world| world.limits.declaration = "d1".to_owned(),
        &|world| world.spec.fleet.name = "other".parse().unwrap(),
        &|world| world.artifact_mut("a", "agama", ids[3]).condition = damaged(),
        &|world| world.artifact_mut("a", "agama", ids[3]).kind = Kind::Differential,
        &|world| world.artifact_mut("a", "agama", ids[3]).newest += HOUR,
        &|world| world.stored("a", "agama").artifacts.retain(|a| a.id != ids[3]),
        &|world| {
            let newer = artifact(Kind::Full, world.now - MINUTE, 90);
            world.put(&["a", "b"], "agama", &newer);
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut changed = world.clone();
        changed.limits.delete_share = 0.0;
        change(&mut changed);
        let plan = Plan { fleet: changed.spec.fleet.name.clone(), ..plan.clone() };
        let judged = changed.judge(plan.clone());
        assert!(judged.withheld.iter().all(|withheld| withheld.plan != Some(named)), "change {number}");
        // Whatever was approved before.
        changed.limits.approvals = vec![approval(&world, named)];
        assert_eq!(changed.judge(plan).approved, [], "change {number}");
    }
}

#[test]
fn nobody_overrules_a_rule_that_keeps_what_is_needed_or_unknown() {
    let (world, ids, plan) = crowded();
    let approved = approved(&world, &plan);
    type Change<'a> = (&'a str, &'a dyn Fn(&mut World));
    let changes: [Change<'_>; 7] = [
        ("unknown", &|world| {
            world.down.insert(store("b"));
        }),
        ("clock", &|world| world.ahead = 3600),
        ("held", &|world| world.artifact_mut("a", "agama", ids[0]).held = Some("court order".into())),
        ("locked", &|world| world.spec.stores.get_mut(&store("a")).unwrap().immutable = Some(900 * DAY)),
        ("read", &|world| {
            let (reading, id) = (reading(world, ids[1]), artifact(Kind::Full, world.now, 80).id);
            world.stored("a", "agama").readings.insert(id, reading);
        }),
        ("required", &|world| world.artifact_mut("a", "agama", ids[3]).requires = vec![ids[0]]),
        ("unreadable", &|world| {
            let id = artifact(Kind::Full, world.now, 81).id;
            world.stored("a", "agama").unreadable.insert(id, "no signature".to_owned());
        }),
    ];
    for (rule, change) in changes {
        let mut broken = approved.clone();
        change(&mut broken);
        let judged = broken.judge(plan.clone());
        assert_eq!((judged.steps.len(), judged.approved.as_slice()), (0, &[][..]), "{rule}");
        let found = judged.withheld.iter().find(|withheld| withheld.rule == rule);
        assert!(
            found.is_some_and(|withheld| withheld.to_approve().is_none()),
            "{rule}: {:?}",
            judged.withheld
        );
        assert!(
            judged.withheld.iter().all(|withheld| !withheld.approvable),
            "{rule}: nothing is to be approved"
        );
    }
    // The newest good one, whatever its name.
    let newest = world.stores[&store("a")].backups["agama"].artifacts[0].id;
    let mut all: Vec<Action> = ids.iter().map(|id| delete(*id, "a")).collect();
    all.push(delete(newest, "a"));
    let all = planted(&world, all);
    let judged = world.judge(all.clone());
    let named = judged.withheld[0].plan.unwrap();
    assert_eq!(judged.withheld[0].to_approve(), None);
    let mut insisted = world.clone();
    insisted.limits.approvals = vec![approval(&world, named)];
    let judged = insisted.judge(all);
    assert_eq!((judged.steps.len(), judged.approved.len()), (0, 0));
}

#[test]
fn an_approval_that_expired_or_was_given_for_something_else_says_so() {
    let (world, _, plan) = crowded();
    let approved = approved(&world, &plan);
    let mut later = approved.clone();
    later.now += DAY + MINUTE;
    assert!(is_withheld(&later, &plan).reason.contains("it expired at 2026-11-21T12:00:00Z"));
    let mut other = approved.clone();
    other.limits.approvals[0].declaration = "d1".to_owned();
    assert!(is_withheld(&other, &plan).reason.contains("something else is declared now"));
    let mut void = world.clone();
    void.limits.void_approvals.insert(hash(&world, &plan), "commit 3b1e is not signed".to_owned());
    assert!(is_withheld(&void, &plan).reason.contains("commit 3b1e is not signed"));
}

#[test]
fn what_was_begun_by_an_approval_is_covered_to_its_end_and_nothing_more() {
    let (world, ids, plan) = crowded();
    let mut begun = approved(&world, &plan);
    begun.limits.delete_share = 0.0;
    let named = begun.limits.approvals[0].warrant.plan;
    let stored = begun.stored("a", "agama");
    stored.let_go.insert(named, BTreeSet::from_iter(ids[..3].iter().copied()));
    stored.artifacts.retain(|a| a.id != ids[0]);
    let newer = artifact(Kind::Full, begun.now - MINUTE, 90);
    begun.put(&["a", "b"], "agama", &newer);
    let rest = planted(&begun, vec![delete(ids[1], "a"), delete(ids[2], "a")]);
    is_let_through(&begun, &rest);
    is_withheld(&begun, &planted(&begun, vec![delete(ids[1], "a"), delete(ids[3], "a")]));
    // Under another declaration, and once it has expired, the rest of it stays.
    let mut changed = begun.clone();
    changed.limits.declaration = "d1".to_owned();
    is_withheld(&changed, &rest);
    begun.now += DAY + MINUTE;
    is_withheld(&begun, &rest);
}

#[test]
fn a_record_counts_only_of_a_store_that_can_be_believed() {
    let (mut world, _, plan) = crowded();
    let named = hash(&world, &plan);
    let mut records = Chronicle::default();
    let approval = approval(&world, named);
    let event = Event::PlanApproved { backup: backup("agama"), store: Some(store("a")), approval };
    let record = Record {
        format: FORMAT.to_owned(),
        fleet: world.spec.fleet.name.clone(),
        sequence: 0,
        previous: None,
        at: world.now,
        events: vec![event],
        siblings: BTreeMap::new(),
    };
    records.add(&record, "digest".to_owned());
    let log = world.stores[&store("b")].clone();
    world.stores.insert(store("log"), log);
    world.spec.stores.insert(store("log"), local_store("log"));
    world.stores.get_mut(&store("log")).unwrap().records = records;
    is_let_through(&world, &plan);
    world.stores.get_mut(&store("log")).unwrap().standing =
        Standing::Refused("its chain is broken".to_owned());
    is_withheld(&world, &plan);
}
