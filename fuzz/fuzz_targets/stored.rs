//! What a store gives back is refused or read without a panic; what was read is written as it was, and no two names mean
//! the same object. The first byte says what the rest claims to be.
#![no_main]

use backstay::artifact::{
    index::Index,
    layout::{self, Object, ObjectName},
    manifest::{Manifest, Sealed},
    record::Record,
};
use libfuzzer_sys::fuzz_target;
use serde::{Serialize, de::DeserializeOwned};

fuzz_target!(|input: &[u8]| {
    let Some((what, content)) = input.split_first() else { return };
    match what {
        b'm' => json::<Manifest>(content),
        b'r' => json::<Record>(content),
        b's' => json::<Sealed>(content),
        b'i' => index(content),
        _ => name(content),
    }
});

fn json<T: DeserializeOwned + Serialize>(content: &[u8]) {
    let Ok(read) = serde_json::from_slice::<T>(content) else { return };
    let written = serde_json::to_vec(&read).expect("what was read can be written");
    let again: T = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(serde_json::to_vec(&again).expect("and written again"), written);
}

fn index(content: &[u8]) {
    if let Ok(index) = Index::parse(content) {
        assert_eq!(index.to_bytes(), content, "an index is read that nobody would write");
    }
}

fn name(content: &[u8]) {
    let Some(name) = std::str::from_utf8(content).ok().and_then(|text| ObjectName::parse(text).ok()) else {
        return;
    };
    let fleet = "pavroto".parse().expect("a name");
    let Some(object) = layout::classify(&fleet, &name) else { return };
    let written = match &object {
        Object::Manifest(backup, id) => layout::manifest(&fleet, backup, id),
        Object::ManifestSignature(backup, id) => layout::manifest_signature(&fleet, backup, id),
        Object::Pack(backup, pack) => layout::pack(&fleet, backup, pack),
        Object::Index(backup, id) => layout::index(&fleet, backup, id),
        Object::Lease(backup, holder, turn) => layout::lease(&fleet, backup, holder, *turn),
        Object::Record(sequence) => layout::record(&fleet, *sequence),
        Object::RecordSignature(sequence) => layout::record_signature(&fleet, *sequence),
        Object::RestorePage => layout::restore_page(&fleet),
    };
    assert_eq!(written, name, "two names mean {object:?}");
}
