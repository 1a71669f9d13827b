//! Any bytes of a commit or tag are verified without a panic. Trusted is only what the keys of the corpus have signed:
//! whatever else is altered in such an object, what was signed must be in it unchanged.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use signers::{SIGNED, trust};

#[path = "../signers.rs"]
mod signers;

static GENUINE: LazyLock<Vec<Vec<u8>>> =
    LazyLock::new(|| SIGNED.iter().map(|object| without_signature(object)).collect());

fuzz_target!(|input: &[u8]| {
    let trust = trust();
    let signer = trust.commit(input).ok().or_else(|| trust.tag(input)?.ok());
    if let Some(signer) = signer {
        assert!(GENUINE.contains(&without_signature(input)), "{signer:?} never signed that");
    }
});

/// A commit without its `gpgsig` header, or a tag without the signature at its end.
fn without_signature(object: &[u8]) -> Vec<u8> {
    let (mut kept, mut of_signature, mut in_message) = (Vec::new(), false, false);
    for line in object.split_inclusive(|byte| *byte == b'\n') {
        in_message |= line == b"\n";
        of_signature = !in_message
            && (line.starts_with(b"gpgsig ") || of_signature && line.starts_with(b" "))
            || in_message && (of_signature || line.starts_with(b"-----BEGIN "));
        if !of_signature {
            kept.extend_from_slice(line);
        }
    }
    kept
}
