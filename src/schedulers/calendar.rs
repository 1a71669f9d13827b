//! A cadence as others' calendars can express it: sets of minutes, hours, days, months and weekdays. Pure.

use std::{collections::BTreeMap, time::Duration};

use crate::spec::cron::Cron;

const MINUTES_A_DAY: u64 = 24 * 60;
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A cron expression, field by field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Minutes of the hour.
    pub minutes: Field,
    /// Hours of the day.
    pub hours: Field,
    /// Days of the month.
    pub days: Field,
    /// Months, from 1.
    pub months: Field,
    /// Days of the week, Sunday is 0.
    pub weekdays: Field,
}

/// One field of a cron expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// As it was written.
    pub text: String,
    /// What it names, ascending, never empty.
    pub values: Vec<u8>,
    /// Whether it names everything that there is.
    pub every: bool,
}

impl Field {
    /// Whether it begins with `*`: only when neither the day of the month nor the weekday does, either suffices.
    pub fn has_star(&self) -> bool {
        self.text.starts_with('*')
    }

    /// Its values as numbers and ranges, each range joined by `to`.
    pub fn ranges(&self, to: &str) -> String {
        ranges(&self.values, to)
    }
}

impl Fields {
    /// The fields of an expression; `None` for one with an extension that is not of crontab(5).
    pub fn of(cron: &Cron) -> Option<Self> {
        let texts: Vec<&str> = cron.as_str().split_ascii_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = texts.as_slice() else { return None };
        let mut weekdays = field(weekdays, (0, 7), 0, &WEEKDAYS)?;
        for day in &mut weekdays.values {
            *day %= 7;
        }
        weekdays.values.sort_unstable();
        weekdays.values.dedup();
        weekdays.every = weekdays.values.len() == 7;
        Some(Self {
            minutes: field(minutes, (0, 59), 0, &[])?,
            hours: field(hours, (0, 23), 0, &[])?,
            days: field(days, (1, 31), 0, &[])?,
            months: field(months, (1, 12), 1, &MONTHS)?,
            weekdays,
        })
    }

    /// Whether a day of the month suffices as well as a weekday does.
    pub fn either_day(&self) -> bool {
        !self.days.has_star() && !self.weekdays.has_star()
    }
}

fn field(text: &str, (first, last): (u8, u8), first_name: u8, names: &[&str]) -> Option<Field> {
    let number = |word: &str| {
        let name = names.iter().position(|name| name.eq_ignore_ascii_case(word));
        let number = match name {
            Some(at) => first_name + u8::try_from(at).ok()?,
            None => word.parse().ok()?,
        };
        (first..=last).contains(&number).then_some(number)
    };
    let mut values = Vec::new();
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<u8>().ok().filter(|step| *step > 0)?)),
            None => (part, None),
        };
        let (from, to) = match (range, range.split_once('-')) {
            ("*", _) => (first, last),
            (_, Some((from, to))) => (number(from)?, number(to)?),
            (one, None) => (number(one)?, if step.is_some() { last } else { number(one)? }),
        };
        values.extend((from..=to).step_by(usize::from(step.unwrap_or(1))));
    }
    values.sort_unstable();
    values.dedup();
    let every = values.len() == usize::from(last - first) + 1;
    (!values.is_empty()).then(|| Field { text: text.to_owned(), values, every })
}

/// `0,2..5,9`
fn ranges(values: &[u8], to: &str) -> String {
    let mut runs: Vec<(u8, u8)> = Vec::new();
    for value in values {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == *value => *end = *value,
            _ => runs.push((*value, *value)),
        }
    }
    let texts = runs.into_iter().map(|(from, end)| match end - from {
        0 => from.to_string(),
        1 => format!("{from},{end}"),
        _ => format!("{from}{to}{end}"),
    });
    texts.collect::<Vec<_>>().join(",")
}

/// Times of day: each of some minutes in each of some hours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times {
    /// Minutes of the hour, ascending.
    pub minutes: Vec<u8>,
    /// Hours of the day, ascending.
    pub hours: Vec<u8>,
}

impl Times {
    /// The minutes as numbers and ranges.
    pub fn minutes(&self, to: &str) -> String {
        ranges(&self.minutes, to)
    }

    /// The hours, or `*` for all of them.
    pub fn hours(&self, to: &str) -> String {
        if self.hours.len() == 24 { "*".to_owned() } else { ranges(&self.hours, to) }
    }
}

/// The slots of `every = period` in UTC, as times of each day; all of them together. They count from the Unix epoch, so that
/// only what divides a day falls on the same times of each.
///
/// # Errors
/// Why they are not the same on each day.
pub fn every(period: Duration) -> Result<Vec<Times>, String> {
    let minutes = period.as_secs() / 60;
    if minutes == 0 || !period.as_secs().is_multiple_of(60) || period.subsec_nanos() > 0 {
        return Err("it is not a number of whole minutes".to_owned());
    }
    if !MINUTES_A_DAY.is_multiple_of(minutes) {
        return Err("it does not divide a day, so that it falls on other times each day".to_owned());
    }
    let mut hours_by_minute: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    for slot in (0..MINUTES_A_DAY).step_by(usize::try_from(minutes).unwrap_or(usize::MAX)) {
        hours_by_minute.entry((slot % 60) as u8).or_default().push((slot / 60) as u8);
    }
    let mut minutes_by_hours: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for (minute, hours) in hours_by_minute {
        minutes_by_hours.entry(hours).or_default().push(minute);
    }
    let mut times: Vec<Times> =
        minutes_by_hours.into_iter().map(|(hours, minutes)| Times { minutes, hours }).collect();
    times.sort_unstable_by(|a, b| a.minutes.cmp(&b.minutes));
    Ok(times)
}

#[cfg(test)]
mod tests {
    use jiff::civil::{Date, date};

    use super::*;

    fn matches_day(fields: &Fields, date: Date) -> bool {
        let day = fields.days.values.contains(&(date.day() as u8));
        let weekday = fields.weekdays.values.contains(&(date.weekday().to_sunday_zero_offset() as u8));
        let days = if fields.either_day() { day || weekday } else { day && weekday };
        days && fields.months.values.contains(&(date.month() as u8))
    }

    #[test]
    fn the_fields_name_the_days_and_times_that_the_expression_names() {
        for text in [
            "* * * * *",
            "*/7 2 * * *",
            "5/10 1-20/3 * * *",
            "0 0 1,15 * mon",
            "0 0 */2 * 1",
            "30 4 31 * *",
            "0 12 29 2 *",
            "0 1 1-7 jan-MAR,12 *",
            "0 3 * * 5-7",
            "0 3 * * 0,7",
            "0 3 * * 4/2",
            "15 23 */10,5 * fri",
        ] {
            let cron: Cron = text.parse().unwrap();
            let fields = Fields::of(&cron).unwrap();
            let minutes =
                |hour: u8| fields.minutes.values.iter().map(move |m| u16::from(hour) * 60 + u16::from(*m));
            let times: Vec<u16> = fields.hours.values.iter().flat_map(|hour| minutes(*hour)).collect();
            assert_eq!(times, cron.times(), "{text}");
            let mut day = date(2024, 1, 1);
            while day < date(2029, 1, 1) {
                assert_eq!(matches_day(&fields, day), cron.matches_day(day), "{text} on {day}");
                day = day.tomorrow().unwrap();
            }
        }
    }

    #[test]
    fn what_divides_a_day_is_times_of_each_day_and_the_rest_is_refused() {
        let text = |minutes: u64| {
            let times = every(Duration::from_secs(minutes * 60)).unwrap();
            times.iter().map(|t| format!("{} {}", t.minutes("-"), t.hours("-"))).collect::<Vec<_>>()
        };
        assert_eq!(text(20), ["0,20,40 *"]);
        assert_eq!(text(60), ["0 *"]);
        assert_eq!(text(360), ["0 0,6,12,18"]);
        assert_eq!(text(1440), ["0 0"]);
        assert_eq!(
            text(45),
            ["0,45 0,3,6,9,12,15,18,21", "15 2,5,8,11,14,17,20,23", "30 1,4,7,10,13,16,19,22"]
        );
        for minutes in [7, 50, 7 * 60, 2 * 1440] {
            assert!(every(Duration::from_secs(minutes * 60)).is_err(), "{minutes}");
        }
        assert!(every(Duration::from_secs(90)).is_err());
    }
}
