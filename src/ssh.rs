//! The `ssh` program: started with everything that matters said to it, and nothing read from anybody's configuration.
//!
//! ```text
//! Login (checked settings) ──▶ Files (pinned key, identity) ──▶ arguments     one connection
//!                                                         └───▶ config        for programs that start ssh themselves
//! explain: what ssh meant by what it said before it ended
//! ```

mod explain;
mod files;
mod login;

use std::ffi::OsString;

pub use explain::{Explained, Mending, OTHER_KEY, explain};
pub use files::Files;
pub use login::{Identity, Login, SshOptions, host_key_of};

/// The name under which the pinned key is known to `ssh`, whatever the host is called.
const KEY_ALIAS: &str = "backstay";

/// What is said to `ssh` in every connection.
const OPTIONS: [(&str, &str); 18] = [
    ("BatchMode", "yes"),
    ("StrictHostKeyChecking", "yes"),
    ("GlobalKnownHostsFile", "/dev/null"),
    ("CheckHostIP", "no"),
    ("UpdateHostKeys", "no"),
    ("IdentitiesOnly", "yes"),
    ("IdentityAgent", "none"),
    ("PreferredAuthentications", "publickey"),
    ("PasswordAuthentication", "no"),
    ("KbdInteractiveAuthentication", "no"),
    ("ClearAllForwardings", "yes"),
    ("PermitLocalCommand", "no"),
    ("ControlMaster", "no"),
    ("ControlPath", "none"),
    ("ConnectTimeout", "20"),
    ("ServerAliveInterval", "15"),
    ("ServerAliveCountMax", "3"),
    // Fastest where processors have AES; the others stay on offer.
    ("Ciphers", "^aes128-gcm@openssh.com"),
];

/// The variables of this process that `ssh` gets; it gets no others but `LC_ALL=C`.
pub const INHERITED: [&str; 3] = ["PATH", "HOME", "TMPDIR"];

/// The arguments of `ssh` up to the host; `--`, the host and the command follow.
pub fn arguments(login: &Login, files: &Files) -> Vec<OsString> {
    let plain = ["-F", "none", "-T", "-a", "-x", "-p", &login.port().to_string(), "-l", login.user()];
    let mut arguments: Vec<OsString> = plain.into_iter().map(Into::into).collect();
    arguments.extend(["-i".into(), files.identity_word().into()]);
    arguments.extend(["-o".into(), format!("UserKnownHostsFile=\"{}\"", files.known_hosts_word()).into()]);
    arguments.extend(["-o".into(), format!("HostKeyAlias={KEY_ALIAS}").into()]);
    for (option, value) in OPTIONS {
        arguments.extend(["-o".into(), format!("{option}={value}").into()]);
    }
    arguments
}

/// The section of an ssh_config(5) by which `name` is reached, for `ssh -F`.
pub fn config(name: &str, login: &Login, files: &Files) -> String {
    let mut lines = vec![
        format!("Host {name}"),
        format!("HostName {}", login.host()),
        format!("Port {}", login.port()),
        format!("User {}", login.user()),
        format!("IdentityFile \"{}\"", files.identity_word()),
        format!("UserKnownHostsFile \"{}\"", files.known_hosts_word()),
        format!("HostKeyAlias {KEY_ALIAS}"),
        "ForwardAgent no".to_owned(),
        "ForwardX11 no".to_owned(),
    ];
    lines.extend(OPTIONS.iter().map(|(option, value)| format!("{option} {value}")));
    lines.join("\n  ") + "\n"
}
