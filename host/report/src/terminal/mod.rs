//! Views for a terminal: tables that fit its width, and plain words. Nothing here prints; every view is a string that ends
//! with a line break.

mod front;
mod list;
mod timings;
mod trial;

pub use front::front_table;
pub use list::list_table;
pub use timings::timings_table;
pub(crate) use trial::outcome_message;
pub use trial::trial_view;

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, LineStyle, Table, TableStyle};

/// Where a view is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    /// Columns of characters.
    pub width: u16,
    /// Whether it shows colours.
    pub color: bool,
}

/// A rule under the headings and one at the end.
const RULES: TableStyle = TableStyle::new()
    .header_separator(LineStyle::none().fill('─').junction('─'))
    .bottom_border(LineStyle::none().fill('─').junction('─'));

/// How a word is set off from the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Plain,
    Bold,
    Dim,
    Good,
    Bad,
}

impl Terminal {
    fn table(self, headings: &[&str]) -> Table {
        let mut table = Table::new();
        table.load_style(RULES).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(self.width);
        if self.color {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(headings.iter().map(|heading| tone(Cell::new(heading), Tone::Bold)));
        table
    }

    fn paint(self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Bold => "1",
            Tone::Dim => "2",
            Tone::Good => "32",
            Tone::Bad => "33",
            Tone::Plain => return text.to_owned(),
        };
        if self.color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Breaks text into lines of the terminal's width, each after `indent` spaces.
    fn wrap(self, text: &str, indent: usize) -> String {
        let room = usize::from(self.width).saturating_sub(indent).max(20);
        let mut lines = vec![String::new()];
        for word in text.split_whitespace() {
            let line = lines.last_mut().expect("there is always a line");
            if line.is_empty() {
                line.push_str(word);
            } else if line.chars().count() + 1 + word.chars().count() <= room {
                line.push(' ');
                line.push_str(word);
            } else {
                lines.push(word.to_owned());
            }
        }
        lines.iter().map(|line| format!("{:indent$}{line}\n", "")).collect()
    }
}

fn tone(cell: Cell, tone: Tone) -> Cell {
    match tone {
        Tone::Plain => cell,
        Tone::Bold => cell.add_attribute(Attribute::Bold),
        Tone::Dim => cell.add_attribute(Attribute::Dim),
        Tone::Good => cell.fg(Color::Green),
        Tone::Bad => cell.fg(Color::Yellow),
    }
}

/// Aligns columns of figures to the right.
fn align_right(table: &mut Table, columns: impl IntoIterator<Item = usize>) {
    for index in columns {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// The table without spaces at the ends of its lines.
fn finish(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}
