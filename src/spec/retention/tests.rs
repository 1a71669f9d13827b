use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn now() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

fn id(hours_ago: u64) -> ArtifactId {
    ArtifactId::new(now() - Duration::from_secs(3600 * hours_ago), hours_ago)
}

fn full(hours_ago: u64) -> Candidate<'static> {
    Candidate {
        id: id(hours_ago),
        kind: Kind::Full,
        origin: Origin::Scheduled,
        newest: id(hours_ago).time(),
        checked: Checked::Passed,
        held: None,
        from: None,
        requires: &[],
        supersedes: None,
    }
}

/// Hours since the capture of what `keep` keeps.
fn check(keep: Retention, candidates: &[Candidate<'_>], expect: &[u64]) {
    let rules = Rules { keep: &keep, selects: Selects::Fulls, zone: &TimeZone::UTC };
    let kept: BTreeSet<ArtifactId> = decide(rules, candidates, now())
        .into_iter()
        .filter_map(|(id, verdict)| verdict.keeps().then_some(id))
        .collect();
    assert_eq!(kept, expect.iter().map(|h| id(*h)).collect());
}

#[test]
fn an_age_keeps_what_is_younger() {
    let keep = Retention { full: Some(2 * DAY), ..Retention::default() };
    check(keep, &[full(1), full(47), full(48), full(49)], &[1, 47]);
}

#[test]
fn a_kind_without_a_rule_is_kept() {
    let incremental = Candidate { kind: Kind::Incremental, ..full(5000) };
    let keep = Retention { full: Some(DAY), ..Retention::default() };
    check(keep, &[full(1), incremental, full(30)], &[1, 5000]);
}

#[test]
fn calendar_rules_keep_the_newest_of_each_span() {
    let keep = Retention { daily: Some(2), monthly: Some(2), ..Retention::default() };
    // 20 November at 11:00 and 10:00, 19 November, 18 November, 31 October.
    check(keep, &[full(1), full(2), full(20), full(40), full(20 * 24)], &[1, 20, 20 * 24]);
}

#[test]
fn what_is_not_checked_yet_fills_no_place_and_stays() {
    let keep = Retention { last: Some(1), ..Retention::default() };
    let unchecked = Candidate { checked: Checked::NotYet, ..full(1) };
    check(keep, &[unchecked, full(2), full(3)], &[1, 2]);
}

#[test]
fn what_is_damaged_fills_no_place_is_not_the_newest_and_stays_to_be_repaired() {
    let keep = Retention { last: Some(1), ..Retention::default() };
    let damaged = Candidate { checked: Checked::Failed, ..full(1) };
    check(keep.clone(), &[damaged, full(2), full(3)], &[1, 2]);
    check(keep, &[full(1), Candidate { checked: Checked::Failed, ..full(2) }], &[1]);
}

#[test]
fn what_is_damaged_and_newer_than_all_that_is_good_stays_however_old() {
    let keep = Retention { full: Some(HOUR), ..Retention::default() };
    let damaged = |hours| Candidate { checked: Checked::Failed, ..full(hours) };
    check(keep.clone(), &[damaged(10), damaged(20), full(30), damaged(40)], &[10, 20, 30]);
    let repaired = Candidate { supersedes: Some(id(20)), newest: id(20).time(), ..full(15) };
    check(keep, &[damaged(20), repaired], &[15]);
}

#[test]
fn where_nothing_is_good_all_stays() {
    let keep = Retention { full: Some(HOUR), ..Retention::default() };
    let damaged = |hours| Candidate { checked: Checked::Failed, ..full(hours) };
    let rules = Rules { keep: &keep, selects: Selects::Fulls, zone: &TimeZone::UTC };
    let verdicts = decide(rules, &[damaged(10), damaged(20)], now());
    assert!(verdicts.values().all(|verdict| *verdict == Verdict::Keep(vec![Keep::Damaged])));
    let verdicts = decide(rules, &[full(10), damaged(20)], now());
    assert!(!verdicts[&id(20)].keeps(), "there is a good one");
}

#[test]
fn the_newest_good_one_what_is_held_and_what_is_from_the_future_stay() {
    let keep = Retention { full: Some(HOUR), manual: Some(HOUR), ..Retention::default() };
    let future = now() + 3 * HOUR;
    let ahead = Candidate { id: ArtifactId::new(future, 0), newest: future, ..full(0) };
    let held = Candidate { held: Some("audit"), ..full(30) };
    let manual = Candidate { origin: Origin::Manual, ..full(20) };
    let rules = Rules { keep: &keep, selects: Selects::Fulls, zone: &TimeZone::UTC };
    let verdicts = decide(rules, &[full(10), ahead, held, manual], now());
    assert_eq!(verdicts[&id(10)], Verdict::Keep(vec![Keep::Newest]));
    assert!(verdicts[&ahead.id].keeps() && verdicts[&id(30)].keeps() && !verdicts[&id(20)].keeps());
}

#[test]
fn what_a_kept_one_requires_stays_however_long_the_chain() {
    let (a, b) = ([id(30)], [id(20)]);
    let second = Candidate { requires: &a, ..full(20) };
    let third = Candidate { requires: &b, ..full(10) };
    let keep = Retention { full: Some(HOUR), ..Retention::default() };
    check(keep, &[third, full(30), second, full(40)], &[10, 20, 30]);
}

#[test]
fn what_repairs_a_required_one_stays_with_what_requires_it() {
    let (full_one, chain) = (full(40), [id(40)]);
    let damaged = Candidate { checked: Checked::Failed, ..full_one };
    let repair = Candidate { supersedes: Some(id(40)), newest: full_one.newest, ..full(3) };
    let increment = Candidate { kind: Kind::Incremental, requires: &chain, ..full(2) };
    let keep = Retention { full: Some(HOUR), incremental: Some(DAY), ..Retention::default() };
    check(keep, &[damaged, repair, increment], &[2, 3, 40]);
}

#[test]
fn a_repaired_one_goes_once_its_replacement_is_good() {
    let keep = Retention { full: Some(DAY), ..Retention::default() };
    let damaged = Candidate { checked: Checked::Failed, ..full(5) };
    let repaired = Candidate { supersedes: Some(id(5)), ..full(1) };
    check(keep.clone(), &[damaged, repaired], &[1]);
    check(keep, &[damaged, Candidate { checked: Checked::Failed, ..repaired }], &[1, 5]);
}

#[test]
fn every_kind_is_selected_where_the_rules_say_so() {
    let keep = Retention { last: Some(1), ..Retention::default() };
    let older = Candidate { kind: Kind::Incremental, ..full(2) };
    let rules = Rules { keep: &keep, selects: Selects::EveryKind, zone: &TimeZone::UTC };
    assert_eq!(decide(rules, &[full(1), older], now())[&id(2)], Verdict::Delete(Expired::NotSelected));
}
