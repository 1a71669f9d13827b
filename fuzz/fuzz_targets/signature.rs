//! Any bytes in the armor of an SSH or OpenPGP signature, on a commit that somebody known has signed, are judged without
//! a panic. Plain bytes in, so that the fuzzer need not learn base64 first.
#![no_main]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use libfuzzer_sys::fuzz_target;
use signers::{SIGNED, trust};

#[path = "../signers.rs"]
mod signers;

fuzz_target!(|input: &[u8]| {
    for (object, label) in SIGNED.iter().zip(["SSH SIGNATURE", "PGP SIGNATURE"]) {
        // A verdict is all that is asked for: a signature may be written in more than one way.
        let _ = trust().commit(&with_signature(object, label, input));
    }
});

/// The commit with another signature in the place of its own.
fn with_signature(commit: &[u8], label: &str, signature: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(commit).expect("commits of the corpus are text");
    let (before, rest) = text.split_once("gpgsig ").expect("commits of the corpus are signed");
    let (_, after) =
        rest.split_once("-----END ").and_then(|(_, rest)| rest.split_once('\n')).expect("and whole");
    let mut armored = format!("{before}gpgsig -----BEGIN {label}-----\n");
    if label.starts_with("PGP") {
        armored.push_str(" \n");
    }
    for line in STANDARD.encode(signature).as_bytes().chunks(70) {
        armored.push_str(&format!(" {}\n", String::from_utf8_lossy(line)));
    }
    format!("{armored} -----END {label}-----\n{after}").into_bytes()
}
