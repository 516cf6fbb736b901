//! The table: a row for each figure, a column for each contender, and each beside the bare loop of the same
//! round.

use anyhow::Result;

use crate::contender::Contender;

pub struct Table {
    contenders: Vec<Contender>,
}

impl Table {
    /// Prints the head.
    pub fn begin(contenders: Vec<Contender>, rounds: usize) -> Self {
        println!("Medians of {rounds}, and in brackets the medians of the ratios to the first column.\n");
        let names: Vec<_> = contenders.iter().map(|contender| contender.name.to_owned()).collect();
        row("", &["body".to_owned(), "at once".to_owned()], &names);
        row("-", &["-".to_owned(), "-:".to_owned()], &vec!["-:".to_owned(); names.len()]);
        Self { contenders }
    }

    pub fn contenders(&self) -> &[Contender] {
        &self.contenders
    }

    /// Measures and prints some rows. Each round measures all contenders one after another, so that all have
    /// the machine's good and bad moments.
    pub async fn fill<const N: usize>(
        &self,
        of: &[String; 2],
        names: [String; N],
        rounds: usize,
        mut figures: impl AsyncFnMut(&Contender) -> Result<[f64; N]>,
    ) -> Result<()> {
        let mut measured = vec![Vec::new(); self.contenders.len()];
        for _ in 0..rounds {
            for (contender, measured) in self.contenders.iter().zip(&mut measured) {
                measured.push(figures(contender).await?);
            }
        }
        for (place, name) in names.into_iter().enumerate() {
            let of_this_row = |rounds: &Vec<[f64; N]>| -> Vec<f64> {
                rounds.iter().filter_map(|figures| figures.get(place).copied()).collect()
            };
            let columns: Vec<_> = measured.iter().map(of_this_row).collect();
            row(&name, of, &cells(&columns));
        }
        Ok(())
    }
}

/// The first column is the bare loop's.
fn cells(columns: &[Vec<f64>]) -> Vec<String> {
    let Some((bare, others)) = columns.split_first() else { return Vec::new() };
    let ratio = |column: &Vec<f64>| median(column.iter().zip(bare).map(|(figure, bare)| figure / bare));
    let middle = |column: &Vec<f64>| number(median(column.iter().copied()));
    let beside = others.iter().map(|column| format!("{} ({:.2})", middle(column), ratio(column)));
    std::iter::once(middle(bare)).chain(beside).collect()
}

fn row(name: &str, of: &[String; 2], cells: &[String]) {
    let [body, at_once] = of;
    let cells: String = cells.iter().map(|cell| format!(" {cell:>16} |")).collect();
    println!("| {name:<24} | {body:>7} | {at_once:>7} |{cells}");
}

pub fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// As many digits as mean something.
pub fn number(figure: f64) -> String {
    if figure < 100.0 { format!("{figure:.1}") } else { format!("{figure:.0}") }
}

pub fn bytes(size: usize) -> String {
    if size >= 1024 && size.is_multiple_of(1024) { format!("{} KiB", size / 1024) } else { size.to_string() }
}
