//! Medians, percentiles and the table of results.

use std::collections::BTreeMap;

/// A figure that is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figure {
    /// Its place in the table.
    place: usize,
    /// What it is.
    name: &'static str,
    unit: &'static str,
    goal: Goal,
}

/// What a figure is meant to be.
#[derive(Clone, Copy, Debug)]
enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Figure {
    /// A figure that is the better the smaller.
    pub(super) const fn at_most(place: usize, name: &'static str, unit: &'static str, goal: f64) -> Self {
        Self { place, name, unit, goal: Goal::AtMost(goal) }
    }

    /// A figure that is the better the larger.
    pub(super) const fn at_least(place: usize, name: &'static str, unit: &'static str, goal: f64) -> Self {
        Self { place, name, unit, goal: Goal::AtLeast(goal) }
    }
}

/// Measured values by figure.
#[derive(Default)]
pub(super) struct Figures(BTreeMap<usize, (Figure, Vec<f64>)>);

impl Figures {
    pub(super) fn add(&mut self, figure: Figure, value: f64) {
        self.0.entry(figure.place).or_insert_with(|| (figure, Vec::new())).1.push(value);
    }

    /// A Markdown table of medians.
    pub(super) fn table(&self) -> String {
        let mut text = "| figure | goal | median | all runs |\n|---|---|---|---|\n".to_owned();
        for (Figure { name, unit, goal, .. }, values) in self.0.values() {
            let all: Vec<String> = values.iter().map(|value| format!("{value:.1}")).collect();
            let median = percentile(values, 50);
            let (sign, goal, missed) = match *goal {
                Goal::AtMost(goal) => ('≤', goal, median > goal),
                Goal::AtLeast(goal) => ('≥', goal, median < goal),
            };
            let missed = if missed { " (missed)" } else { "" };
            text += &format!("| {name} | {sign} {goal} {unit} | {median:.1} {unit}{missed} | {} |\n", all.join(", "));
        }
        text
    }
}

/// The value that so many percent of all do not exceed; 0 of none.
pub(super) fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!([50, 99, 1].map(|percent| percentile(&values, percent)), [3.0, 5.0, 1.0]);
        assert_eq!(percentile(&[], 50), 0.0);
    }

    #[test]
    fn a_missed_goal_is_said() {
        let mut figures = Figures::default();
        figures.add(Figure::at_most(0, "start", "ms", 10.0), 12.0);
        figures.add(Figure::at_least(1, "writes", "/s", 10.0), 12.0);
        let table = figures.table();
        assert!(table.contains("| start | ≤ 10 ms | 12.0 ms (missed) | 12.0 |\n"), "{table}");
        assert!(table.contains("| writes | ≥ 10 /s | 12.0 /s | 12.0 |\n"), "{table}");
    }
}
