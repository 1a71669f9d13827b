//! SSH signatures, and who may make them: the file `allowed_signers` of ssh-keygen(1), section ALLOWED SIGNERS.
//!
//! As `git verify-commit` does, a key counts whatever principal its line names, since a commit proves no principal; and
//! whether a line is valid is judged at the committer's or tagger's time.

mod line;

use ssh_key::{HashAlg, PublicKey, SshSig};

use super::{Signer, Unverified, signed::Signed};
use line::{Line, Moment};

/// The namespace of Git's signatures: one that was made for another purpose is none.
const NAMESPACE: &str = "git";

/// Who may sign with SSH keys.
#[derive(Debug, Default)]
pub(super) struct AllowedSigners(Vec<Line>);

impl AllowedSigners {
    /// Reads the content of a file; every line must be sound.
    pub(super) fn parse(content: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(content).map_err(|_| "it is no text in UTF-8".to_owned())?;
        let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim()));
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let parsed = lines.map(|(number, line)| Line::parse(line).map_err(|e| format!("line {number}: {e}")));
        parsed.collect::<Result<_, _>>().map(Self)
    }

    /// Who made the signature, if that counts.
    pub(super) fn check(&self, signed: &Signed) -> Result<Signer, Unverified> {
        let signature =
            SshSig::from_pem(&signed.signature).map_err(|e| Unverified::Malformed(e.to_string()))?;
        if signature.namespace() != NAMESPACE {
            let namespace = signature.namespace().escape_debug();
            return Err(Unverified::Malformed(format!(
                "it is made for `{namespace}`, not for `{NAMESPACE}`"
            )));
        }
        let fingerprint = signature.public_key().fingerprint(HashAlg::Sha256).to_string();
        let mut refused = None;
        for line in self.0.iter().filter(|line| line.key == *signature.public_key()) {
            let signer = Signer { principal: line.principals.clone(), fingerprint: fingerprint.clone() };
            match line.permits(NAMESPACE, Moment(signed.at)) {
                Ok(()) => {
                    let key = PublicKey::from(line.key.clone());
                    let verified = key.verify(NAMESPACE, &signed.payload, &signature);
                    return verified.map(|()| signer.clone()).map_err(|_| Unverified::Mismatch(signer));
                }
                Err(why) => refused = Some(Unverified::NotAllowed { signer, why }),
            }
        }
        Err(refused.unwrap_or(Unverified::UnknownKey { fingerprint }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIVnMCy81S084WqJgJrgh9RznS2CdSbyRhQYOmfjroqp";

    fn fault(line: &str) -> String {
        AllowedSigners::parse(line.as_bytes()).unwrap_err()
    }

    #[test]
    fn comments_and_options_are_read_as_ssh_keygen_does() {
        let file = format!(
            "# who\n\nkai@example.org {KEY} kai's key\n  ops@example.org,*@ops.example.org \
             namespaces=\"git,file\",valid-after=\"20260101Z\",VALID-BEFORE=\"202701011200Z\" {KEY}\n"
        );
        let signers = AllowedSigners::parse(file.as_bytes()).unwrap();
        assert_eq!(signers.0.len(), 2);
        let line = &signers.0[1];
        assert_eq!(line.principals, "ops@example.org,*@ops.example.org");
        let at = |text: &str| Moment(text.parse::<jiff::Timestamp>().unwrap().as_second());
        assert!(line.permits("git", at("2026-01-01T00:00:00Z")).is_ok());
        assert!(line.permits("file", at("2027-01-01T12:00:00Z")).is_ok());
        assert!(line.permits("git", at("2025-12-31T23:59:59Z")).unwrap_err().contains("2026-01-01"));
        assert!(line.permits("git", at("2027-01-01T12:00:01Z")).unwrap_err().contains("2027-01-01"));
        assert!(line.permits("email", at("2026-06-01T00:00:00Z")).unwrap_err().contains("git,file"));
    }

    #[test]
    fn a_faulty_line_is_named_and_nothing_of_the_file_counts() {
        for (line, why) in [
            ("kai@example.org", "key"),
            (&format!("kai@example.org cert-authority {KEY}"), "cert-authority"),
            (&format!("kai@example.org colour=\"red\" {KEY}"), "colour"),
            (&format!("kai@example.org namespaces=git {KEY}"), "quotes"),
            (&format!("kai@example.org valid-after=\"2026\" {KEY}"), "2026"),
            (&format!("kai@example.org valid-after=\"20260230Z\" {KEY}"), "20260230Z"),
            (&format!("k valid-after=\"20270101Z\",valid-before=\"20260101Z\" {KEY}"), "before"),
            (&format!("!kai@example.org {KEY}"), "principal"),
            (&format!("kai@example.org {}", &KEY[..40]), "key"),
        ] {
            let fault = fault(&format!("# first\n{line}\n"));
            assert!(fault.starts_with("line 2: ") && fault.contains(why), "{line}: {fault}");
        }
    }
}
