//! A row: a figure with little work and the same with much, and the bar for what lies between them.

use crate::{
    run::Figures,
    table::{median, number},
};

/// What must hold of the second figure.
#[derive(Clone, Copy)]
pub enum Bar {
    None,
    /// At least this share of the first.
    Share(f64),
    /// At most so many times the first.
    Times(f64),
    /// At most so much more than the first.
    More(f64),
    /// At most so much.
    Most(f64),
}

pub fn head(rounds: usize) {
    println!(
        "\nMedians of {rounds}, and in brackets the medians of the ratios to the figure with less work.\n"
    );
    println!("| {:<58} | {:>8} | {:>15} | {:>17} | {:<6} |", "", "less", "more", "bar", "");
    println!("| - | -: | -: | -: | - |");
}

/// All rounds with little work, and with much.
#[derive(Default)]
pub struct Rounds {
    pub less: Vec<Figures>,
    pub more: Vec<Figures>,
}

impl Rounds {
    pub fn row(&self, what: &str, figure: impl Fn(&Figures) -> f64, bar: Bar) {
        let [less, more] = [&self.less, &self.more].map(|all| all.iter().map(&figure).collect::<Vec<_>>());
        row(what, &less, &more, bar);
    }
}

/// One figure of each round.
pub fn row(what: &str, less: &[f64], more: &[f64], bar: Bar) {
    let ratio = median(less.iter().zip(more).map(|(less, more)| more / less));
    let [less, more] = [less, more].map(|figures| median(figures.iter().copied()));
    let (must, met) = match bar {
        Bar::None => (String::new(), None),
        Bar::Share(share) => (format!("{share} times or more"), Some(ratio >= share)),
        Bar::Times(times) => (format!("{times} times"), Some(ratio <= times)),
        Bar::More(most) => (format!("{most} more"), Some(more - less <= most)),
        Bar::Most(most) => (format!("{most}"), Some(more <= most)),
    };
    let verdict = met.map_or("", |met| if met { "met" } else { "missed" });
    let more = if ratio.is_finite() { format!("{} ({ratio:.2})", number(more)) } else { number(more) };
    let less = if less.is_nan() { "–".to_owned() } else { number(less) };
    println!("| {what:<58} | {less:>8} | {more:>15} | {must:>17} | {verdict:<6} |");
}

/// With a comma before each three digits.
pub fn count(number: usize) -> String {
    if number < 1_000 {
        return number.to_string();
    }
    format!("{},{:03}", count(number / 1_000), number % 1_000)
}
