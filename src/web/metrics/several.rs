//! Metrics of several fleets as one text of OpenMetrics 1.0, in which a family is declared once and stands together: each
//! sample is labelled with its fleet.

use std::fmt::Write as _;

/// Whether a fleet is ready, also of those that have no other metrics.
const READY: &str = "backstay_fleet_ready";

/// The metrics of several fleets.
#[derive(Debug, Default)]
pub struct Several {
    families: Vec<Family>,
    ready: String,
}

#[derive(Debug)]
struct Family {
    name: String,
    head: String,
    samples: String,
}

impl Several {
    /// Adds what a fleet would show alone.
    pub fn add(&mut self, fleet: &str, text: &str) {
        let mut family = None;
        for line in text.lines().filter(|line| *line != "# EOF") {
            match (line.strip_prefix("# "), family) {
                (Some(comment), _) => family = self.declare(comment, line),
                (None, Some(at)) => label(&mut self.families[at].samples, line, fleet),
                (None, None) => {}
            }
        }
    }

    /// Adds whether a fleet is ready.
    pub fn tell_ready(&mut self, fleet: &str, ready: bool) {
        label(&mut self.ready, &format!("{READY} {}", u8::from(ready)), fleet);
    }

    /// All of it.
    pub fn text(&self) -> String {
        let mut text = format!(
            "# HELP {READY} 1 for a fleet whose loop makes passes that come about.\n# TYPE {READY} gauge\n{}",
            self.ready
        );
        for Family { head, samples, .. } in &self.families {
            text.push_str(head);
            text.push_str(samples);
        }
        text.push_str("# EOF\n");
        text
    }

    /// The family that a comment, such as `TYPE name gauge`, is about.
    fn declare(&mut self, comment: &str, line: &str) -> Option<usize> {
        let name = comment.split(' ').nth(1)?;
        let at = self.families.iter().position(|family| family.name == name).unwrap_or_else(|| {
            self.families.push(Family { name: name.to_owned(), head: String::new(), samples: String::new() });
            self.families.len() - 1
        });
        let head = &mut self.families[at].head;
        if !head.lines().any(|known| known == line) {
            let _ = writeln!(head, "{line}");
        }
        Some(at)
    }
}

/// Writes a sample with one label more. No name of a metric holds a brace or a space.
fn label(samples: &mut String, sample: &str, fleet: &str) {
    let fleet = fleet.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let (name, rest) = sample.split_at(sample.find(['{', ' ']).unwrap_or(sample.len()));
    let _ = match rest.strip_prefix('{') {
        Some(labels) if !labels.starts_with('}') => writeln!(samples, "{name}{{fleet=\"{fleet}\",{labels}"),
        Some(empty) => writeln!(samples, "{name}{{fleet=\"{fleet}\"{empty}"),
        None => writeln!(samples, "{name}{{fleet=\"{fleet}\"}}{rest}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_of_several_fleets_stand_together_and_each_sample_names_its_fleet() {
        let text = |value: u8| {
            format!(
                "# HELP x_bytes Bytes.\n# TYPE x_bytes gauge\nx_bytes{{a=\"{{ }}\",b=\"\"}} {value}\n# HELP y Y.\n# TYPE y \
                 counter\ny_total {value}\n# EOF\n"
            )
        };
        let mut several = Several::default();
        for (fleet, value) in [("shop", 1), ("site", 2)] {
            several.add(fleet, &text(value));
        }
        several.tell_ready("sh\"p", false);
        assert_eq!(
            several.text(),
            "# HELP backstay_fleet_ready 1 for a fleet whose loop makes passes that come about.\n\
             # TYPE backstay_fleet_ready gauge\nbackstay_fleet_ready{fleet=\"sh\\\"p\"} 0\n\
             # HELP x_bytes Bytes.\n# TYPE x_bytes gauge\n\
             x_bytes{fleet=\"shop\",a=\"{ }\",b=\"\"} 1\nx_bytes{fleet=\"site\",a=\"{ }\",b=\"\"} 2\n\
             # HELP y Y.\n# TYPE y counter\ny_total{fleet=\"shop\"} 1\ny_total{fleet=\"site\"} 2\n# EOF\n"
        );
    }
}
