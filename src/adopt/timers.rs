//! Timers and the services that they start, as systemd.timer(5) and systemd.service(5) describe them.

use std::{collections::BTreeMap, time::Duration};

use super::{Entry, LONGEST_LINE, When, calendar};
use crate::spec::Cadence;

pub(super) fn entries(folder: &str, units: &BTreeMap<String, String>) -> Vec<Entry> {
    let timers = units.iter().filter_map(|(name, text)| Some((name, name.strip_suffix(".timer")?, text)));
    timers.map(|(name, stem, text)| entry(format!("{folder}/{name}"), stem, text, units)).collect()
}

fn entry(place: String, stem: &str, timer: &str, units: &BTreeMap<String, String>) -> Entry {
    let service = last(timer, "Unit").unwrap_or_else(|| format!("{stem}.service"));
    let Some(text) = units.get(&service).or_else(|| units.get(&template(&service)?)) else {
        let why = "the service that it starts is not among the units".to_owned();
        return Entry { place, when: Err(why), command: String::new() };
    };
    let commands: Vec<String> = ["ExecStartPre", "ExecStart", "ExecStartPost"]
        .iter()
        .flat_map(|key| values(text, key))
        // What changes how systemd starts a program, but not what it does.
        .map(|command| command.trim_start_matches(['-', '@', ':', '+', '!']).to_owned())
        .collect();
    // Units write `%` and `$` twice where they mean one.
    let command = commands.join(" ; ").replace("%%", "%").replace("$$", "$");
    if command.len() > LONGEST_LINE {
        return Entry { place, when: Err("its command is too long".to_owned()), command: String::new() };
    }
    Entry { place, when: when(timer), command }
}

/// `dump@.service` for `dump@shop.service`.
fn template(service: &str) -> Option<String> {
    let (name, instance) = service.split_once('@')?;
    Some(format!("{name}@.{}", instance.rsplit_once('.')?.1))
}

fn when(timer: &str) -> Result<When, String> {
    let jitter = last(timer, "RandomizedDelaySec").and_then(|text| seconds(&text)).filter(|d| !d.is_zero());
    let of = |cadence, zone| Ok(When { cadence, zone, jitter });
    match values(timer, "OnCalendar").as_slice() {
        [event] => {
            let calendar::Event { cron, zone } = calendar::cron(event)?;
            of(Cadence::Cron(cron), zone)
        }
        [] => {
            let period = last(timer, "OnUnitActiveSec").or_else(|| last(timer, "OnUnitInactiveSec"));
            let period = period.ok_or("the timer has neither OnCalendar nor OnUnitActiveSec")?;
            let period = seconds(&period).filter(|period| period.as_secs() >= 1);
            of(Cadence::Every(period.ok_or("its OnUnitActiveSec is no time span")?), None)
        }
        events => Err(format!("the timer has {} OnCalendar, and a policy has one schedule", events.len())),
    }
}

/// A time span: a number of seconds, or what systemd.time(7) and humantime both write, `1h 30min`.
fn seconds(text: &str) -> Option<Duration> {
    const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
    let span = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => humantime::parse_duration(text).ok()?,
    };
    (span <= LONGEST && span.subsec_nanos() == 0).then_some(span)
}

fn last(unit: &str, key: &str) -> Option<String> {
    values(unit, key).pop()
}

/// The values of a key, lines that go on joined. An empty one takes back what came before.
fn values(unit: &str, key: &str) -> Vec<String> {
    let mut values = Vec::new();
    let comment = |line: &&str| !line.trim_start().starts_with(['#', ';']);
    let text: Vec<&str> = unit.lines().filter(comment).collect();
    for line in text.join("\n").replace("\\\n", " ").lines() {
        let Some((found, value)) = line.split_once('=') else { continue };
        match (found.trim() == key, value.trim()) {
            (true, "") => values.clear(),
            (true, value) => values.push(value.to_owned()),
            (false, _) => {}
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(units: &[(&str, &str)]) -> Vec<Entry> {
        let units = units.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
        entries("/etc/systemd/system", &units)
    }

    #[test]
    fn a_timer_is_read_with_the_service_that_it_starts() {
        let timer = "[Timer]\n# every night\nOnCalendar=weekly\nOnCalendar=\nOnCalendar=*-*-* 01:00:00 Europe/Stockholm\nRandomizedDelaySec=5min\n";
        let service = "[Service]\nExecStart=-/usr/bin/pg_dumpall \\\n# not this\n -U postgres\nExecStart=/bin/find /b -name %%x\n";
        let entries = read(&[("dump.timer", timer), ("dump.service", service)]);
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].place, "/etc/systemd/system/dump.timer");
        let when = entries[0].when.clone().unwrap();
        assert_eq!(when.cadence.to_string(), "0 1 * * *");
        assert_eq!(when.zone.as_deref(), Some("Europe/Stockholm"));
        assert_eq!(when.jitter, Some(Duration::from_secs(300)));
        let words: Vec<&str> = entries[0].command.split_ascii_whitespace().collect();
        assert_eq!(words, ["/usr/bin/pg_dumpall", "-U", "postgres", ";", "/bin/find", "/b", "-name", "%x"]);
    }

    #[test]
    fn instances_and_other_units_are_found_and_periods_read() {
        let timer = "[Timer]\nOnBootSec=5min\nOnUnitActiveSec=1h 30min\nUnit=dump@shop.service\n";
        let entries = read(&[("x.timer", timer), ("dump@.service", "[Service]\nExecStart=tar -c /etc\n")]);
        assert_eq!(entries[0].when.as_ref().unwrap().cadence.to_string(), "every 1h 30m");
        assert_eq!(entries[0].command, "tar -c /etc");
    }

    #[test]
    fn a_timer_that_is_no_schedule_says_why() {
        let service = ("x.service", "[Service]\nExecStart=tar -c /etc\n");
        for (timer, why) in [
            ("[Timer]\nOnBootSec=5min\n", "neither OnCalendar"),
            ("[Timer]\nOnUnitActiveSec=often\n", "no time span"),
            ("[Timer]\nOnUnitActiveSec=18446744073709551615\n", "no time span"),
            ("[Timer]\nOnCalendar=daily\nOnCalendar=weekly\n", "2 OnCalendar"),
            ("[Timer]\nOnCalendar=Mon *-*-1..7 02:00:00\n", "cron"),
            ("[Timer]\nOnCalendar=daily\nUnit=nothing.service\n", "not among the units"),
        ] {
            let read = read(&[("x.timer", timer), service]);
            assert!(read[0].when.as_ref().unwrap_err().contains(why), "{:?}", read[0].when);
        }
    }
}
