//! The text of the units.

use std::path::Path;

use super::Options;
use crate::{inventory::ArmedSchedule, spec::names::FleetName};

/// What a run can do without: see systemd.exec(5). It reads what is to be backed up, writes its state directory and local
/// stores, talks to servers, and starts the programs of databases.
const HARDENED: &str = "\
ProtectSystem=strict
ProtectHome=read-only
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
NoNewPrivileges=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
UMask=0077
";

/// The timer. A run that was missed while the machine was off is made up for at its start; the delay that spreads backups is
/// the same for each run, and kept by Backstay itself.
pub(super) fn timer(fleet: &FleetName, schedule: &ArmedSchedule, events: &[String]) -> String {
    let events: String = events.iter().map(|event| format!("OnCalendar={event}\n")).collect();
    format!(
        "[Unit]\nDescription=When the {} of {} (fleet {fleet}) is due\n\n[Timer]\n{events}Persistent=true\nAccuracySec=1s\n\
         RandomizedDelaySec=0\n\n[Install]\nWantedBy=timers.target\n",
        schedule.kind, schedule.backup
    )
}

/// The service that the timer starts.
///
/// # Errors
/// Why it can't be written down.
pub(super) fn service(
    options: &Options,
    fleet: &FleetName,
    schedule: &ArmedSchedule,
) -> Result<String, String> {
    let command = options.command.words(&schedule.backup)?;
    let command: Vec<String> = command.iter().map(|word| in_command(word)).collect();
    let on_failure = match &options.on_failure {
        Some(unit) => format!("OnFailure={}\n", unit_name(unit)?),
        None => String::new(),
    };
    Ok(format!(
        "[Unit]\nDescription=What is due of {} (fleet {fleet})\nWants=network-online.target\nAfter=network-online.target\n\
         {on_failure}\n[Service]\nType=oneshot\nUser={}\nExecStart={}\n{HARDENED}{}{}",
        schedule.backup,
        options.command.user,
        command.join(" "),
        capabilities(&options.command.user),
        places(options)?,
    ))
}

/// root reads what belongs to others by a capability, the only one that is left; others have none.
fn capabilities(user: &str) -> &'static str {
    match user {
        "root" => "CapabilityBoundingSet=CAP_DAC_READ_SEARCH\n",
        _ => "CapabilityBoundingSet=\n",
    }
}

/// What may be written, and a `/tmp` of its own unless something is kept there.
fn places(options: &Options) -> Result<String, String> {
    let mut text = String::new();
    let shared = ["/tmp", "/var/tmp"].map(Path::new);
    let command = [&options.command.program, &options.command.config];
    let mut all = options.write.iter().chain(&options.read).chain(command);
    let private = !all.any(|path| shared.iter().any(|shared| path.starts_with(shared)));
    text.push_str(if private { "PrivateTmp=yes\n" } else { "PrivateTmp=no\n" });
    for path in &options.write {
        // A folder that is missing must not keep the service from starting.
        text.push_str(&format!("ReadWritePaths={}\n", quoted(&format!("-{}", plain(path)?))));
    }
    Ok(text)
}

fn plain(path: &Path) -> Result<String, String> {
    match path.to_str() {
        Some(text) if path.is_absolute() && !text.contains(char::is_control) => Ok(text.to_owned()),
        _ => Err(format!("{} must be absolute, and text without control characters", path.display())),
    }
}

/// A word of a list: quoted, without specifiers.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./@:+=".contains(c);
    if word.chars().all(plain) {
        return word.to_owned();
    }
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%"))
}

/// The same where variables are replaced as well.
fn in_command(word: &str) -> String {
    quoted(word).replace('$', "$$")
}

fn unit_name(unit: &str) -> Result<&str, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@:\\%".contains(c);
    match !unit.is_empty() && unit.chars().all(plain) {
        true => Ok(unit),
        false => Err(format!("on_failure: `{}` is not the name of a unit", unit.escape_debug())),
    }
}
