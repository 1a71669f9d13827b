//! Calendar events of systemd.time(7) as cron expressions, where they can be.

use super::values;
use crate::spec::Cron;

/// A calendar event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub cron: Cron,
    /// The zone that it names.
    pub zone: Option<String>,
}

const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

/// The cron expression that names the same moments.
pub(super) fn cron(event: &str) -> Result<Event, String> {
    let no_cron = || "its OnCalendar names moments that no cron expression does".to_owned();
    let mut words: Vec<&str> = event.split_ascii_whitespace().collect();
    let zone = words.last().filter(|_| words.len() > 1).and_then(|last| values::zone(last));
    if zone.is_some() {
        words.pop();
    }
    let fields = match words.as_slice() {
        [name] if named(name).is_some() => named(name).map(str::to_owned),
        [] => None,
        words => fields(words),
    };
    let cron = fields.and_then(|fields| fields.parse().ok()).ok_or_else(no_cron)?;
    Ok(Event { cron, zone })
}

fn named(name: &str) -> Option<&'static str> {
    Some(match name {
        "minutely" => "* * * * *",
        "hourly" => "0 * * * *",
        "daily" => "0 0 * * *",
        "weekly" => "0 0 * * 1",
        "monthly" => "0 0 1 * *",
        "quarterly" => "0 0 1 1,4,7,10 *",
        "semiannually" => "0 0 1 1,7 *",
        "yearly" | "annually" => "0 0 1 1 *",
        _ => return None,
    })
}

/// `[WEEKDAYS] [DATE] [TIME]`, of which one at least is there.
fn fields(words: &[&str]) -> Option<String> {
    let mut rest = words;
    let weekdays = match rest {
        [first, after @ ..] if first.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            rest = after;
            weekdays(first)?
        }
        _ => "*".to_owned(),
    };
    let (date, time) = match rest {
        [] => (None, None),
        [time] if time.contains(':') => (None, Some(*time)),
        [date] => (Some(*date), None),
        [date, time] => (Some(*date), Some(*time)),
        _ => return None,
    };
    let (month, day) = date.map_or(Some(("*".to_owned(), "*".to_owned())), month_and_day)?;
    let (hour, minute) = time.map_or(Some(("0".to_owned(), "0".to_owned())), hour_and_minute)?;
    // Both must match here; cron takes either.
    if day != "*" && weekdays != "*" {
        return None;
    }
    Some(format!("{minute} {hour} {day} {month} {weekdays}"))
}

/// `Mon..Fri` and `Sat,Sun` by their numbers.
fn weekdays(text: &str) -> Option<String> {
    let number = |name: &str| {
        let name = name.to_ascii_lowercase();
        WEEKDAYS.iter().position(|day| *day == name || day.get(..3) == Some(&name))
    };
    let parts = text.trim_end_matches(',').split(',').map(|part| match part.split_once("..") {
        None => number(part).map(|day| day.to_string()),
        // A week that ends on Sunday counts it as the seventh day.
        Some((from, until)) => {
            let until = number(until).map(|day| if day == 0 { 7 } else { day });
            Some(format!("{}-{}", number(from)?, until?))
        }
    });
    parts.collect::<Option<Vec<_>>>().map(|parts| parts.join(","))
}

/// `*-MONTH-DAY` or `MONTH-DAY`.
fn month_and_day(date: &str) -> Option<(String, String)> {
    match date.split('-').collect::<Vec<_>>().as_slice() {
        ["*", month, day] | [month, day] => Some((numbers(month)?, numbers(day)?)),
        _ => None,
    }
}

/// `HOUR:MINUTE` or `HOUR:MINUTE:00`.
fn hour_and_minute(time: &str) -> Option<(String, String)> {
    match time.split(':').collect::<Vec<_>>().as_slice() {
        [hour, minute] | [hour, minute, "0" | "00"] => Some((numbers(hour)?, numbers(minute)?)),
        _ => None,
    }
}

/// `00/15` as `0-59/15` would be in cron, `*/15`; `01..05` as `1-5`.
fn numbers(text: &str) -> Option<String> {
    let number = |text: &str| text.parse::<u8>().ok().map(|number| number.to_string());
    let part = |part: &str| {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, format!("/{}", number(step)?)),
            None => (part, String::new()),
        };
        let range = match range.split_once("..") {
            Some((from, until)) => format!("{}-{}", number(from)?, number(until)?),
            None if range == "*" => "*".to_owned(),
            // Cron counts from a number on only in a range, whose end is not the same for every field.
            None if !step.is_empty() && number(range)? == "0" => "*".to_owned(),
            None if !step.is_empty() => return None,
            None => number(range)?,
        };
        Some(format!("{range}{step}"))
    };
    text.split(',').map(part).collect::<Option<Vec<_>>>().map(|parts| parts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_cron_where_cron_names_the_same_moments() {
        for (event, expected) in [
            ("daily", "0 0 * * *"),
            ("quarterly", "0 0 1 1,4,7,10 *"),
            ("*-*-* 02:30:00", "30 2 * * *"),
            ("02:30", "30 2 * * *"),
            ("*-*-* 02:30:00 Europe/Stockholm", "30 2 * * * Europe/Stockholm"),
            ("daily UTC", "0 0 * * * UTC"),
            ("Mon..Fri 03:00", "0 3 * * 1-5"),
            ("Fri..Sun 03:00", "0 3 * * 5-7"),
            ("Sat,Sunday", "0 0 * * 6,0"),
            ("Mon,Wed..Fri *-*-* 22:05", "5 22 * * 1,3-5"),
            ("*-*-01 04:05:00", "5 4 1 * *"),
            ("01,07-15 00:00", "0 0 15 1,7 *"),
            ("*:00/15", "*/15 * * * *"),
            ("*-*-* 00/6:00:00", "0 */6 * * *"),
            ("*-*-* 8..18/2:30:00", "30 8-18/2 * * *"),
        ] {
            let Event { cron, zone } = super::cron(event).unwrap_or_else(|why| panic!("{event}: {why}"));
            assert_eq!(zone.map_or(cron.to_string(), |zone| format!("{cron} {zone}")), expected, "{event}");
        }
    }

    #[test]
    fn events_that_cron_can_not_name_are_told() {
        for event in [
            "Mon *-*-1..7 02:00:00",
            "*-*-* 02:30:15",
            "*-*-* *:*:0/30",
            "2027-*-* 02:00",
            "*-*~01 02:00",
            "*:5/15",
            "Mon..Someday 02:00",
            "nightly",
            "",
            "a b c d",
            "99:99",
        ] {
            assert!(super::cron(event).is_err(), "{event}");
        }
    }
}
