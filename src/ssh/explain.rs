//! What `ssh` meant by what it said before it ended.

/// A failed connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// Who or what mends it.
    pub mending: Mending,
    /// Why it failed.
    pub reason: String,
    /// What to do next.
    pub hint: &'static str,
}

/// What mends a failed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mending {
    /// A person.
    Person,
    /// Perhaps the next try.
    Time,
}

/// The reason where a host has another key than the pinned one.
pub const OTHER_KEY: &str = "the host's key is not the pinned one";

/// What `ssh` meant; `None` where it said nothing.
pub fn explain(said: &str) -> Option<Explained> {
    let says = |words: &[&str]| words.iter().any(|words| said.contains(words));
    let person = |hint| Some(Explained { mending: Mending::Person, reason: quoted(said), hint });
    if says(&["Host key verification failed", "REMOTE HOST IDENTIFICATION HAS CHANGED", "host key is known"])
    {
        return Some(Explained {
            mending: Mending::Person,
            reason: OTHER_KEY.into(),
            hint: "ask whoever runs the host for /etc/ssh/ssh_host_ed25519_key.pub; if the host was set up anew, commit \
                   that as its host_key, otherwise somebody else answers for it",
        });
    }
    if says(&["no matching host key type"]) {
        return person("pin a host_key of a kind that the host offers");
    }
    if says(&["UNPROTECTED PRIVATE KEY", "bad permissions"]) {
        return person("chmod 600 the identity, and let its owner run Backstay");
    }
    if says(&["Load key", "invalid format", "not accessible", "incorrect passphrase"]) {
        return person("the identity must be a private key without a passphrase");
    }
    if says(&["Permission denied"]) {
        return person("add the identity's public key to the user's authorized_keys");
    }
    if says(&["subsystem request failed"]) {
        return person("enable `Subsystem sftp internal-sftp` in the host's sshd_config");
    }
    let time = Explained {
        mending: Mending::Time,
        reason: quoted(said),
        hint: "check the host, its port and the network",
    };
    (!said.trim().is_empty()).then_some(time)
}

/// The last lines that `ssh` said, as one that no terminal can trip over.
fn quoted(said: &str) -> String {
    let lines = said.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("@@"));
    let last: Vec<&str> = lines.collect();
    let from = last.len().saturating_sub(4);
    format!("ssh says: {}", last[from..].join(" / ").escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_must_mend_is_told_from_what_may_pass() {
        for said in [
            "Host key verification failed.\r\n",
            "No ED25519 host key is known for backstay and you have requested strict checking.",
            "backstay@h: Permission denied (publickey).",
            "@@@\n@ WARNING: UNPROTECTED PRIVATE KEY FILE! @\nThis private key will be ignored.",
            "Load key \"/k\": invalid format",
            "subsystem request failed on channel 0",
        ] {
            assert_eq!(explain(said).map(|it| it.mending), Some(Mending::Person), "{said}");
        }
        for said in [
            "ssh: connect to host h port 22: Connection refused",
            "ssh: Could not resolve hostname h: Name or service not known",
            "Connection closed by 10.0.0.1 port 22",
        ] {
            assert_eq!(explain(said).map(|it| it.mending), Some(Mending::Time), "{said}");
        }
        assert_eq!(explain(" \n"), None);
    }

    #[test]
    fn nothing_that_ssh_says_reaches_a_terminal_as_it_is() {
        assert_eq!(quoted("a\x1b[31m\r\n\nb\n"), "ssh says: a\\u{1b}[31m / b");
    }
}
