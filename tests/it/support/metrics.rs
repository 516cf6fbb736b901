//! What `/metrics` said at one moment.

use std::collections::BTreeSet;

/// A scrape.
#[derive(Clone, Debug)]
pub struct Metrics(String);

impl Metrics {
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The sum of the series of this name that carry all these labels; panics when there is none.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.get(name, labels).unwrap_or_else(|| panic!("no {name} with {labels:?} in\n{}", self.0))
    }

    /// The sum of the series of this name that carry all these labels, if there are any.
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let wanted: Vec<_> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
        let values = self.series().filter_map(|(series, value)| {
            let (found, labels) = series.split_once('{').unwrap_or((series, ""));
            let labels: Vec<_> = labels.trim_end_matches('}').split(',').collect();
            (found == name && wanted.iter().all(|label| labels.contains(&label.as_str()))).then_some(value)
        });
        values.reduce(|sum, value| sum + value)
    }

    /// The names of all metrics, as their `# TYPE` lines give them.
    pub fn names(&self) -> BTreeSet<&str> {
        self.0.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
    }

    /// The names of all labels in use.
    pub fn labels(&self) -> BTreeSet<&str> {
        let labels = self.series().filter_map(|(series, _)| series.split_once('{'));
        labels.flat_map(|(_, labels)| labels.split(',')).filter_map(|label| label.split('=').next()).collect()
    }

    fn series(&self) -> impl Iterator<Item = (&str, f64)> {
        let lines = self.0.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series, value.parse().ok()?))
        })
    }
}
