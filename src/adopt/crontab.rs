//! Crontabs as crontab(5) describes them.

use super::{Entry, Form, LONGEST_LINE, When, values};
use crate::spec::{Cadence, Cron};

pub(super) fn entries(name: &str, text: &str, form: Form) -> Vec<Entry> {
    let mut zone: Option<String> = None;
    let mut entries = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // A setting counts for the lines below it.
        match setting(line) {
            Some(("CRON_TZ", value)) => zone = values::zone(value),
            Some(_) => {}
            None => entries.push(entry(format!("{name}:{}", number + 1), line, form, zone.as_ref())),
        }
    }
    entries
}

fn entry(place: String, line: &str, form: Form, zone: Option<&String>) -> Entry {
    let unreadable = |place, why: &str| Entry { place, when: Err(why.to_owned()), command: String::new() };
    if line.len() > LONGEST_LINE {
        return unreadable(place, "the line is too long to be a command");
    }
    if line.chars().any(|c| c.is_control() && c != '\t') {
        return unreadable(place, "the line holds control characters");
    }
    let Some((when, rest)) = when(line) else {
        return unreadable(place, "the line is no entry of a crontab: it ends before its command");
    };
    let rest = match form {
        Form::User => rest,
        Form::System => rest.split_once(char::is_whitespace).map_or("", |(_, command)| command.trim_start()),
    };
    let when = when.map(|cadence| When { cadence, zone: zone.cloned(), jitter: None });
    Entry { place, when, command: unescaped(rest) }
}

/// `MAILTO=…`: a name, and `=` before any space of a field.
fn setting(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    let name = name.trim_end().trim_matches(['"', '\'']);
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then(|| (name, value.trim().trim_matches(['"', '\''])))
}

/// When a line's command runs, and what stands behind that.
fn when(line: &str) -> Option<(Result<Cadence, String>, &str)> {
    if let Some(named) = line.strip_prefix('@') {
        let (name, rest) = named.split_once(char::is_whitespace)?;
        return Some((nickname(name), rest.trim_start()));
    }
    let mut rest = line;
    let mut fields = Vec::new();
    for _ in 0..5 {
        let (field, after) = rest.split_once(char::is_whitespace)?;
        fields.push(field);
        rest = after.trim_start();
    }
    let fields = fields.join(" ");
    let no_fields = || "its times are no cron expression in five fields".to_owned();
    Some((fields.parse().map(Cadence::Cron).map_err(|_| no_fields()), rest))
}

/// The cadence of `@daily` and such.
fn nickname(name: &str) -> Result<Cadence, String> {
    let fields = match name {
        "hourly" => "0 * * * *",
        "daily" | "midnight" => "0 0 * * *",
        "weekly" => "0 0 * * 0",
        "monthly" => "0 0 1 * *",
        "yearly" | "annually" => "0 0 1 1 *",
        "reboot" => return Err("it runs when the machine starts, which is no schedule".to_owned()),
        _ => return Err("its times are no name that crontab(5) knows".to_owned()),
    };
    fields.parse::<Cron>().map(Cadence::Cron).map_err(|error| error.to_string())
}

/// A `%` ends the command, unless it is escaped.
fn unescaped(command: &str) -> String {
    let mut text = String::new();
    let mut chars = command.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.next_if_eq(&'%').is_some() => text.push('%'),
            '%' => break,
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, form: Form) -> Vec<(String, Result<String, String>, String)> {
        let told = |entry: &Entry| {
            let when = entry.when.clone().map(|when| match when.zone {
                Some(zone) => format!("{} {zone}", when.cadence),
                None => when.cadence.to_string(),
            });
            (entry.place.clone(), when, entry.command.clone())
        };
        entries("dumps", text, form).iter().map(told).collect()
    }

    #[test]
    fn a_crontab_with_users_is_read_line_by_line_with_the_zone_that_counts_there() {
        let text = "MAILTO=ops@example.org\n# dumps\n0 1 * * * root /usr/bin/mysqldump -A\nCRON_TZ=Europe/Stockholm\n\
                    15 2 * * 0\tpostgres  pg_dumpall > /b/$(date +\\%F)%input\n@daily backup tar czf /b/x.tgz /etc\n";
        let at = |line: u8, when: &str, command: &str| {
            (format!("dumps:{line}"), Ok(when.to_owned()), command.to_owned())
        };
        assert_eq!(
            read(text, Form::System),
            [
                at(3, "0 1 * * *", "/usr/bin/mysqldump -A"),
                at(5, "15 2 * * 0 Europe/Stockholm", "pg_dumpall > /b/$(date +%F)"),
                at(6, "0 0 * * * Europe/Stockholm", "tar czf /b/x.tgz /etc"),
            ]
        );
        assert_eq!(read("0 1 * * * pg_dumpall -U x\n", Form::User)[0].2, "pg_dumpall -U x");
    }

    #[test]
    fn a_line_that_can_not_be_read_says_why() {
        for (line, why) in [
            ("0 1 * *", "ends before its command"),
            ("0 1 * * *", "ends before its command"),
            ("@daily", "ends before its command"),
            ("61 1 * * * tar", "no cron expression"),
            ("@reboot tar", "when the machine starts"),
            ("@sometimes tar", "crontab(5)"),
            ("0 1 * * * tar\0x", "control characters"),
            (&format!("0 1 * * * {}", "x".repeat(LONGEST_LINE)), "too long"),
        ] {
            let read = read(line, Form::User);
            assert!(read[0].1.as_ref().unwrap_err().contains(why), "{read:?}");
        }
    }
}
