//! The order of a recovery as a drawing (SVG 1.1): what waits stands to the right of what it waits for.

use std::{collections::BTreeMap, fmt::Write};

use crate::plan::{Action, Plan, Step, StepId};

const WIDTH: usize = 230;
const HEIGHT: usize = 34;
const GAP: (usize, usize) = (40, 16);
const MARGIN: usize = 10;
/// The longest text that fits into a box, characters.
const LONGEST: usize = 34;

/// The drawing; empty where nothing is planned.
pub(super) fn svg(plan: &Plan) -> String {
    let places = places(plan);
    let (Some(columns), Some(rows)) =
        (places.values().map(|place| place.0).max(), places.values().map(|place| place.1).max())
    else {
        return String::new();
    };
    let (width, height) = (corner(columns + 1, rows + 1).0, corner(columns + 1, rows + 1).1);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n"
    );
    for step in &plan.steps {
        for before in &step.after {
            out.push_str(&arrow(places.get(before), places.get(&step.id)));
        }
    }
    for step in &plan.steps {
        if let (Action::Recover(recover), Some(place)) = (&step.action, places.get(&step.id)) {
            out.push_str(&node(step, &recover.work.to_string(), *place));
        }
    }
    out + "</svg>\n"
}

/// The column and the row of each step: a step stands one column behind the last of those that it waits for.
fn places(plan: &Plan) -> BTreeMap<StepId, (usize, usize)> {
    let mut places: BTreeMap<StepId, (usize, usize)> = BTreeMap::new();
    let mut rows: BTreeMap<usize, usize> = BTreeMap::new();
    for step in &plan.steps {
        let column =
            step.after.iter().filter_map(|id| places.get(id)).map(|place| place.0 + 1).max().unwrap_or(0);
        let row = rows.entry(column).or_insert(0);
        places.insert(step.id, (column, *row));
        *row += 1;
    }
    places
}

fn corner(column: usize, row: usize) -> (usize, usize) {
    (MARGIN + column * (WIDTH + GAP.0), MARGIN + row * (HEIGHT + GAP.1))
}

fn node(step: &Step, text: &str, (column, row): (usize, usize)) -> String {
    let (x, y) = corner(column, row);
    let shown: String = match text.chars().count() > LONGEST {
        true => text.chars().take(LONGEST - 1).chain(['…']).collect(),
        false => text.to_owned(),
    };
    let (left, middle) = (x + 8, y + HEIGHT / 2 + 4);
    format!(
        "<g><title>{}</title><rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"4\" fill=\"#eef3fb\" \
         stroke=\"#456\"/><text x=\"{left}\" y=\"{middle}\">{} {}</text></g>\n",
        escaped(text),
        step.id.0 + 1,
        escaped(&shown)
    )
}

fn arrow(from: Option<&(usize, usize)>, to: Option<&(usize, usize)>) -> String {
    let (Some(from), Some(to)) = (from, to) else { return String::new() };
    let ((x1, y1), (x2, y2)) = (corner(from.0, from.1), corner(to.0, to.1));
    let (x1, y1, y2) = (x1 + WIDTH, y1 + HEIGHT / 2, y2 + HEIGHT / 2);
    let bend = x1 + GAP.0 / 2;
    let mut path = String::new();
    let _ = writeln!(
        path,
        "<path d=\"M{x1} {y1} C{bend} {y1} {bend} {y2} {x2} {y2}\" fill=\"none\" stroke=\"#789\"/>"
    );
    path
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
