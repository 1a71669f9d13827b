//! Any bytes that claim to be a saved plan are refused or read; what was read is shown, and is written as it was.
#![no_main]

use backstay::{
    reconcile::saved,
    render::{Palette, plan},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(plan) = saved::parse(input) else { return };
    plan::text(&plan, Palette::Plain);
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path().join("plan.json");
    saved::save(&path, &plan).expect("a plan can be written");
    let loaded = saved::load(&path).expect("a plan that was written");
    assert_eq!(saved::current(&loaded, plan.clone()), Ok(plan));
});
