//! What every provider must do, whatever it hosts. Run against each driver.

use backstay::{
    artifact::ArtifactId,
    clock::SystemClock,
    inventory::{CopyStanding, NativeName, NativePrefix, NativeState, Renewal, SandboxCopy},
    sources::{Kept, Provider},
    spec::{PointInTime, Protection},
};
use jiff::Timestamp;

/// Names of what a provider hosts: something that is there, and two things that are not.
pub struct Names<'a> {
    pub taken: &'a str,
    pub new: [&'a str; 2],
}

/// Runs the suite against a provider that keeps no second and has no native backup of ours yet.
pub async fn conforms(provider: &dyn Provider, names: &Names<'_>) {
    keeps_and_brings_back(provider, names).await;
    copies_of_drills_bear_a_mark_and_go_by_it(provider, names).await;
    what_a_recovery_makes_is_taken_up_again_by_its_mark(provider, names).await;
}

/// The part of the suite that does not need drills.
pub async fn keeps_and_brings_back(provider: &dyn Provider, names: &Names<'_>) {
    is_set_as_asked(provider).await;
    natives_live_and_die_by_their_names(provider, names).await;
    brings_back_a_moment(provider, names).await;
}

async fn is_set_as_asked(provider: &dyn Provider) {
    for (days, holds) in [(Some(7), 7), (None, 7), (Some(21), 21)] {
        let wanted = Protection { point_in_time: Some(PointInTime::On { days }), ..Protection::default() };
        if provider.settings().await.unwrap().lacks(&wanted).is_some() {
            provider.protect(&wanted).await.unwrap();
        }
        let settings = provider.settings().await.unwrap();
        assert_eq!(settings.point_in_time, PointInTime::On { days: Some(holds) });
    }
    provider.protect(&Protection::default()).await.unwrap();
    let untouched = provider.settings().await.unwrap();
    assert_eq!(untouched.point_in_time, PointInTime::On { days: Some(21) }, "what is not asked for is left");
}

async fn natives_live_and_die_by_their_names(provider: &dyn Provider, names: &Names<'_>) {
    let (fleet, folder) = ("shop".parse().unwrap(), "orders".parse().unwrap());
    let name = |random| NativeName::of(&fleet, &folder, ArtifactId::new(Timestamp::now(), random));
    let prefix = NativePrefix::of(&fleet, &folder);
    let (one, other) = (name(1), name(2));
    let before = Timestamp::now();
    let made = provider.make(&one, &SystemClock).await.unwrap();
    assert!((before..=Timestamp::now()).contains(&made.moment), "what was written before is in it");
    assert_eq!(provider.state(&made.reference).await.unwrap(), NativeState::Available);
    let second = provider.make(&other, &SystemClock).await.unwrap();
    let listed = provider.natives(&prefix).await.unwrap();
    assert_eq!(listed.keys().collect::<std::collections::BTreeSet<_>>().len(), 2);
    assert!(one.is_of(listed[&made.reference].artifact) && other.is_of(listed[&second.reference].artifact));
    let others = NativePrefix::of(&fleet, &"order".parse().unwrap());
    assert_eq!(provider.natives(&others).await.unwrap(), Default::default(), "another backup's");

    assert!(provider.restore_native(&made.reference, names.taken).await.is_err(), "it is there");
    provider.restore_native(&made.reference, names.new[0]).await.unwrap();
    assert!(provider.restore_native(&made.reference, names.new[0]).await.is_err(), "it is there by now");

    assert!(provider.delete(&made.reference, &other).await.is_err(), "it bears another name");
    assert_eq!(provider.state(&made.reference).await.unwrap(), NativeState::Available);
    provider.delete(&made.reference, &one).await.unwrap();
    assert_eq!(provider.state(&made.reference).await.unwrap(), NativeState::Gone);
    provider.delete(&made.reference, &one).await.expect("what is gone is deleted");
    assert_eq!(provider.natives(&prefix).await.unwrap().len(), 1, "the other one stays");
    provider.delete(&second.reference, &other).await.unwrap();
}

async fn copies_of_drills_bear_a_mark_and_go_by_it(provider: &dyn Provider, names: &Names<'_>) {
    let (fleet, folder) = ("shop".parse().unwrap(), "orders".parse().unwrap());
    let name = NativeName::of(&fleet, &folder, ArtifactId::new(Timestamp::now(), 3));
    let made = provider.make(&name, &SystemClock).await.unwrap();
    let copy = SandboxCopy::of(&fleet, &"way-back".parse().unwrap(), ArtifactId::new(Timestamp::now(), 4));
    assert_eq!(provider.standing(&copy.name).await.unwrap(), CopyStanding::Nothing);
    provider.delete_copy(&copy).await.expect("what is not there is deleted");
    provider.copy_for_drill(&made.reference, &copy).await.unwrap();
    assert_eq!(provider.standing(&copy.name).await.unwrap(), CopyStanding::Marked(copy.mark.clone()));
    assert!(provider.copy_for_drill(&made.reference, &copy).await.is_err(), "it is there");
    let other = SandboxCopy { mark: "shop/other".to_owned(), ..copy.clone() };
    assert!(provider.delete_copy(&other).await.is_err(), "it bears another mark");
    let foreign = SandboxCopy { name: names.taken.to_owned(), ..copy.clone() };
    assert_eq!(provider.standing(names.taken).await.unwrap(), CopyStanding::Unmarked);
    assert!(provider.delete_copy(&foreign).await.is_err(), "it bears none");
    provider.delete_copy(&copy).await.unwrap();
    assert_eq!(provider.standing(&copy.name).await.unwrap(), CopyStanding::Nothing);
    assert_eq!(provider.standing(names.taken).await.unwrap(), CopyStanding::Unmarked);
    provider.delete(&made.reference, &name).await.unwrap();
}

async fn what_a_recovery_makes_is_taken_up_again_by_its_mark(provider: &dyn Provider, names: &Names<'_>) {
    let (fleet, folder) = ("shop".parse().unwrap(), "orders".parse().unwrap());
    let name = NativeName::of(&fleet, &folder, ArtifactId::new(Timestamp::now(), 5));
    let before = Timestamp::now();
    let made = provider.make(&name, &SystemClock).await.unwrap();
    let kept = Kept::Backup(&made.reference);
    let of = |name: &str, mark: &str| Renewal { name: name.to_owned(), mark: mark.to_owned(), begun: None };
    let ours = of("recovered", "shop/site/1");
    provider.renew(&kept, &ours).await.unwrap();
    provider.renew(&kept, &ours).await.expect("what bears its mark is its own");
    assert!(provider.renew(&kept, &of("recovered", "shop/site/2")).await.is_err(), "it bears another mark");
    assert!(provider.renew(&kept, &of(names.taken, "shop/site/1")).await.is_err(), "it is somebody's");
    let begun = Renewal { begun: Some(before), ..of(names.taken, "shop/site/1") };
    assert!(provider.renew(&kept, &begun).await.is_err(), "it is of no backup");
    assert_eq!(provider.standing("recovered").await.unwrap(), CopyStanding::Unmarked, "no drill has it");
    provider.delete(&made.reference, &name).await.unwrap();
    assert!(provider.renew(&kept, &of("another", "shop/site/1")).await.is_err(), "there is no such backup");
    provider.renew(&kept, &ours).await.expect("what was made of it is there all the same");
}

async fn brings_back_a_moment(provider: &dyn Provider, names: &Names<'_>) {
    let settings = provider.settings().await.unwrap();
    // What a provider does not tell may be inferred.
    let window = settings.window.or(settings.inferred.map(|inferred| inferred.0)).expect("recovery is on");
    assert!(window.start <= window.end);
    assert!(provider.rewind(window.end, names.taken).await.is_err(), "it is there");
    provider.rewind(window.end, names.new[1]).await.unwrap();
    provider
        .protect(&Protection { point_in_time: Some(PointInTime::Off), ..Protection::default() })
        .await
        .unwrap();
    let off = provider.settings().await.unwrap();
    assert_eq!((off.point_in_time, off.window), (PointInTime::Off, None));
}
