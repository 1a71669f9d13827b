//! Any bytes that claim to be a bundle are refused or read, bounded and without a panic; what was read names only
//! references that Git allows.
#![no_main]

use backstay::git::unbundle::read_header;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime without any driver");
    let mut stream = input;
    let Ok(header) = runtime.block_on(read_header(&mut stream)) else { return };
    for (name, id) in header.tips.references() {
        assert!(git2::Reference::is_valid_name(name), "{name:?} is no reference");
        assert!(git2::Oid::from_str(id).is_ok(), "{id:?} is no object");
    }
    assert!(header.prerequisites.iter().all(|id| git2::Oid::from_str(id).is_ok()));
});
