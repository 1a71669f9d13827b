//! Bounds that change while steps are under way, as they do when another fleet comes.

use std::sync::{Arc, atomic::Ordering};

use backstay::{apply::executor::Bounds, plan::Action};
use tokio::sync::Barrier;

use super::{Act, Bench, done, plan, push, to_the_end};

#[tokio::test]
async fn what_begins_from_then_on_keeps_within_other_bounds() {
    let three = Arc::new(Barrier::new(3));
    let bench = Bench::new((0..21).map(|n| (push(n), vec![Act::Meet(three.clone())])).collect());
    let steps: Vec<(Action, &[u32])> = (0..21).map(|n| (push(n), &[][..])).collect();
    let mut execution = bench.execution();
    execution.keep_within(Bounds { steps: 3, ..bench.bounds.clone() });
    let ended = to_the_end(&mut execution, &plan(steps), bench.effects.clone()).await;
    assert_eq!(ended, vec![done(); 21]);
    assert_eq!(bench.effects.most.load(Ordering::SeqCst), 3);
}
