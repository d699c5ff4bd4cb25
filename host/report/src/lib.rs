//! Views of a study: tables for a terminal, one self-contained HTML page, and a picture of the front for papers. A view is
//! a pure function of the study's record, its trials and what the analysis found; nothing here measures or stores.

mod hardware;
mod html;
mod svg;
mod terminal;
mod time;
mod units;
mod view;

pub use html::html;
pub use svg::{Fidelity, SvgError, front_svg};
pub use terminal::{Terminal, front_table, list_table, timings_table, trial_view};
