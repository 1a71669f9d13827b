//! Objects that were signed for the corpus, and whose keys they were signed with (`fuzz/seeds` made all of them).
#![allow(dead_code, reason = "no target needs all of it")]

use std::{path::PathBuf, sync::OnceLock};

use backstay::git::verify::{Files, Mode, Policy, Trust};

/// A commit signed with SSH, one signed with OpenPGP, and a tag of each.
pub const SIGNED: [&[u8]; 4] = [
    include_bytes!("corpus/signed_object/ssh-commit"),
    include_bytes!("corpus/signed_object/openpgp-commit"),
    include_bytes!("corpus/signed_object/ssh-tag"),
    include_bytes!("corpus/signed_object/openpgp-tag"),
];

/// Trusts those who signed them.
pub fn trust() -> &'static Trust {
    static TRUST: OnceLock<Trust> = OnceLock::new();
    TRUST.get_or_init(|| {
        let file = |name: &str| Some(PathBuf::from(name));
        let policy = Policy {
            mode: Mode::Head,
            signers: file("allowed_signers"),
            keyring: file("keyring"),
            web_flow: None,
        };
        let files = Files {
            policy: &policy,
            signers: Some(include_bytes!("corpus/signers/allowed_signers").to_vec()),
            keyring: Some(include_bytes!("corpus/signers/keyring.asc").to_vec()),
            web_flow: None,
        };
        let trust = files.trust().expect("files that were made for this");
        for object in SIGNED {
            let signed =
                trust.commit(object).is_ok() || trust.tag(object).is_some_and(|verdict| verdict.is_ok());
            assert!(signed, "what is trusted must be so to begin with: run fuzz/seeds again");
        }
        trust
    })
}
