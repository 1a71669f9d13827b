//! Any file of signers or keys is refused or read without a panic, and so are signatures by what it names.
#![no_main]

use std::path::PathBuf;

use backstay::git::verify::{Files, Mode, Policy};
use libfuzzer_sys::fuzz_target;
use signers::SIGNED;

#[path = "../signers.rs"]
mod signers;

fuzz_target!(|input: &[u8]| {
    let none = Policy { mode: Mode::Head, signers: None, keyring: None, web_flow: None };
    let file = || Some(PathBuf::from("file"));
    let of = [
        Policy { signers: file(), ..none.clone() },
        Policy { keyring: file(), ..none.clone() },
        Policy { web_flow: file(), ..none },
    ];
    for policy in of {
        let content = |named: &Option<PathBuf>| named.as_ref().map(|_| input.to_vec());
        let files = Files {
            signers: content(&policy.signers),
            keyring: content(&policy.keyring),
            web_flow: content(&policy.web_flow),
            policy: &policy,
        };
        let Ok(trust) = files.trust() else { continue };
        for object in SIGNED {
            let _ = (trust.commit(object), trust.tag(object));
        }
    }
});
