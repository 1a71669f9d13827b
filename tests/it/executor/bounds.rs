//! How many steps run at a time.

use std::sync::{Arc, atomic::Ordering};

use backstay::{
    apply::executor::{Bounds, Effects, Execution},
    plan::Action,
};

use super::{Act, Bench, plan, push};

/// Begins as many of nine steps as may run, all of which hang; returns how many those are, and that `expected` do.
async fn most_at_a_time(bench: &Bench, mut execution: Execution, expected: u32) -> usize {
    let steps: Vec<(Action, &[u32])> = (0..9).map(|n| (push(n), &[][..])).collect();
    let effects: Arc<dyn Effects> = bench.effects.clone();
    execution.add(plan(steps).steps, &effects);
    tokio::select! {
        () = execution.next() => panic!("nothing ends"),
        () = bench.effects.hanging.come(expected) => {}
    }
    // Whatever has begun besides gets its turn.
    for _ in 0..9 {
        tokio::task::yield_now().await;
    }
    bench.effects.most.load(Ordering::SeqCst)
}

fn bench() -> Bench {
    Bench::new((0..9).map(|n| (push(n), vec![Act::Hang])).collect())
}

#[tokio::test]
async fn no_more_steps_run_at_a_time_than_the_bounds_allow() {
    let mut bench = bench();
    bench.bounds.steps = 3;
    assert_eq!(most_at_a_time(&bench, bench.execution(), 3).await, 3);
}

#[tokio::test]
async fn what_begins_from_then_on_keeps_within_other_bounds_as_when_another_fleet_comes() {
    let bench = bench();
    let mut execution = bench.execution();
    execution.keep_within(Bounds { steps: 3, ..bench.bounds.clone() });
    assert_eq!(most_at_a_time(&bench, execution, 3).await, 3);
}
