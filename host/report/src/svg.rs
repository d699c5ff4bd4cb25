//! The front as an SVG picture for papers: black on white, readable in print and without colours, any metric against any
//! other. Points differ in shape as well as in colour, and carry their standard errors.

use crate::units::{SCORE, clean};
use crate::view::{Figure, Place, Row, Shown, View};
use aehost_common::Direction;
use aehost_study::{ACCURACY, Analysis, StudyRecord, Trial, metrics};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use std::ops::Range;

const SIZE: (u32, u32) = (840, 560);
const LEGEND_HEIGHT: u32 = 46;
const FONT: &str = "sans-serif";
// Sizes are of the line; letters come out a fifth smaller.
const KEY_TEXT: u32 = 18;
const AXIS_TEXT: u32 = 20;
const LABEL_TEXT: u32 = 18;
const INK: RGBColor = RGBColor(29, 34, 39);
const GREY: RGBColor = RGBColor(120, 128, 136);
const LIGHT: RGBColor = RGBColor(226, 226, 226);
const BLUE: RGBColor = RGBColor(31, 102, 173);
const BROWN: RGBColor = RGBColor(150, 105, 50);
const RED: RGBColor = RGBColor(194, 65, 12);

/// Which figures a picture shows. The two are not mixed: they come from different amounts of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fidelity {
    /// Those of the search, which all trials have.
    Screening,
    /// Those of the confirmation, which the baseline and a few trials have.
    Confirmed,
}

/// Why there is no picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SvgError {
    /// The metric was not measured, or does not exist.
    #[error("`{metric}` was not measured in this study; it has figures for: {known}")]
    Metric {
        /// As it was written.
        metric: String,
        /// All metrics with figures.
        known: String,
    },
    /// No trial has both figures.
    #[error("no trial has {fidelity} figures for both {x} and {y}")]
    Empty {
        /// screening or confirmed.
        fidelity: &'static str,
        /// The horizontal metric.
        x: String,
        /// The vertical metric.
        y: String,
    },
    /// The drawing library failed.
    #[error("the picture could not be drawn: {0}")]
    Draw(String),
}

/// The front of a study with metric `x` to the right and `y` upwards. Metrics are named as in constraints (`latency.e2e`,
/// `memory.peak`, `accuracy drop`), with `accuracy` for the study's accuracy metric and `efficiency score` for the score.
pub fn front_svg(
    record: &StudyRecord,
    trials: &[Trial],
    analysis: &Analysis,
    x: &str,
    y: &str,
    fidelity: Fidelity,
) -> Result<String, SvgError> {
    let view = View::of(record, trials, analysis);
    let (x, y) = (find(&view, x)?, find(&view, y)?);
    let points: Vec<Point> = view.rows.iter().filter_map(|row| Point::of(row, x, y, fidelity)).collect();
    if points.is_empty() {
        let fidelity = if fidelity == Fidelity::Screening { "screening" } else { "confirmed" };
        return Err(SvgError::Empty { fidelity, x: x.name.clone(), y: y.name.clone() });
    }
    let mut svg = String::new();
    draw(&mut svg, &points, x, y).map_err(|error| SvgError::Draw(error.to_string()))?;
    Ok(svg)
}

fn find<'v>(view: &'v View, words: &str) -> Result<&'v Shown, SvgError> {
    let name = match words.trim() {
        ACCURACY => view.record.accuracy_metric.clone(),
        "efficiency score" | "efficiency_score" => SCORE.into(),
        other => metrics::canonical(other),
    };
    view.metric(&name).ok_or_else(|| SvgError::Metric {
        metric: words.trim().to_owned(),
        known: view.metrics.iter().map(|m| m.name.as_str()).collect::<Vec<_>>().join(", "),
    })
}

/// A trial in the picture, in shown units.
struct Point {
    trial: String,
    place: Place,
    feasible: bool,
    x: Figure,
    y: Figure,
}

impl Point {
    fn of(row: &Row, x: &Shown, y: &Shown, fidelity: Fidelity) -> Option<Self> {
        let measured = match fidelity {
            Fidelity::Screening => row.screening,
            Fidelity::Confirmed => row.confirmed,
        }?;
        let figure = |metric: &Shown| {
            let figure = measured.figure(&metric.name)?;
            let factor = metric.scale.factor;
            Some(Figure { value: figure.value * factor, standard_error: figure.standard_error * factor })
        };
        let (x, y) = (figure(x)?, figure(y)?);
        Some(Self { trial: row.trial.id.to_string(), place: row.place, feasible: row.feasible, x, y })
    }

    fn position(&self) -> (f64, f64) {
        (self.x.value, self.y.value)
    }

    /// Whether it stands out: with its number and its standard errors.
    fn prominent(&self) -> bool {
        matches!(self.place, Place::Baseline | Place::Recommended | Place::Front)
    }
}

/// From the lowest to the highest value, prominent points with their errors, and some room around.
fn range(points: &[Point], figure: impl Fn(&Point) -> Figure) -> Range<f64> {
    let reach = |p: &Point| if p.prominent() { figure(p).standard_error } else { 0.0 };
    let low = points.iter().map(|p| figure(p).value - reach(p)).fold(f64::INFINITY, f64::min);
    let high = points.iter().map(|p| figure(p).value + reach(p)).fold(f64::NEG_INFINITY, f64::max);
    let room = if high > low { 0.06 * (high - low) } else { high.abs().max(1.0) * 0.1 };
    low - room..high + room
}

/// Corners of the line below which nothing feasible lies, for this pair of metrics alone.
fn steps(points: &[Point], x: &Shown, y: &Shown) -> Vec<(f64, f64)> {
    let sign = |metric: &Shown| if metric.direction == Direction::Maximize { -1.0 } else { 1.0 };
    let (sx, sy) = (sign(x), sign(y));
    let mut feasible: Vec<(f64, f64)> = points.iter().filter(|p| p.feasible).map(Point::position).collect();
    feasible.sort_by(|a, b| (sx * a.0).total_cmp(&(sx * b.0)).then((sy * a.1).total_cmp(&(sy * b.1))));
    let mut corners: Vec<(f64, f64)> = Vec::new();
    for point in feasible {
        match corners.last() {
            Some(last) if sy * point.1 >= sy * last.1 => continue,
            Some(last) => corners.push((point.0, last.1)),
            None => {}
        }
        corners.push(point);
    }
    corners
}

type Plot<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

fn draw(svg: &mut String, points: &[Point], x: &Shown, y: &Shown) -> Drawn {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (legend, body) = root.split_vertically(LEGEND_HEIGHT);
    let (horizontal, vertical) = (range(points, |p| p.x), range(points, |p| p.y));
    let digits = |range: &Range<f64>| (-((range.end - range.start) / 8.0).log10().floor()).clamp(0.0, 9.0) as usize;
    let (x_digits, y_digits) = (digits(&horizontal), digits(&vertical));
    let mut plot = ChartBuilder::on(&body)
        .margin_right(24)
        .margin_top(4)
        .margin_bottom(8)
        .margin_left(8)
        .x_label_area_size(56)
        .y_label_area_size(76)
        .build_cartesian_2d(horizontal, vertical)?;
    plot.configure_mesh()
        .x_desc(axis_name(x))
        .y_desc(axis_name(y))
        .axis_desc_style((FONT, AXIS_TEXT).into_font().color(&INK))
        .label_style((FONT, LABEL_TEXT).into_font().color(&INK))
        .bold_line_style(LIGHT)
        .light_line_style(TRANSPARENT)
        .axis_style(GREY)
        .x_labels(8)
        .y_labels(8)
        .x_label_formatter(&|v| format!("{v:.x_digits$}"))
        .y_label_formatter(&|v| format!("{v:.y_digits$}"))
        .draw()?;
    plot.draw_series(LineSeries::new(steps(points, x, y), BLUE.stroke_width(2)))?;
    // What matters most is drawn last.
    for place in [Place::Infeasible, Place::Dominated, Place::Front, Place::Baseline, Place::Recommended] {
        for point in points.iter().filter(|p| p.place == place) {
            mark(&mut plot, point)?;
        }
    }
    key(&legend, points)?;
    drop((plot, legend, body));
    root.present()
}

fn axis_name(metric: &Shown) -> String {
    let better = if metric.direction == Direction::Maximize { "more is better" } else { "less is better" };
    let unit = if metric.scale.unit.is_empty() { String::new() } else { format!(" ({})", metric.scale.unit) };
    clean(&format!("{}{unit}, {better}", metric.label))
}

fn mark(plot: &mut Plot, point: &Point) -> Drawn {
    let (x, y) = point.position();
    if point.prominent() {
        let (dx, dy) = (point.x.standard_error, point.y.standard_error);
        let bars = [((x - dx, y), (x + dx, y), dx), ((x, y - dy), (x, y + dy), dy)];
        let bars = bars.into_iter().filter(|(.., error)| *error > 0.0);
        plot.draw_series(bars.map(|(from, to, _)| PathElement::new(vec![from, to], colour(point.place).mix(0.45))))?;
        if point.place != Place::Baseline {
            let style = (FONT, LABEL_TEXT).into_font().color(&colour(point.place));
            let number = EmptyElement::at((x, y)) + Text::new(point.trial.clone(), (9, -20), style);
            plot.draw_series([number])?;
        }
    }
    let (inside, line) = shape(point.place);
    plot.draw_series([EmptyElement::at((x, y)) + inside + line])?;
    Ok(())
}

fn colour(place: Place) -> RGBColor {
    match place {
        Place::Baseline => INK,
        Place::Recommended => RED,
        Place::Front => BLUE,
        Place::Dominated | Place::Failed => GREY,
        Place::Infeasible => BROWN,
    }
}

type Pixel = (i32, i32);
/// A mark's inside and its line.
type Mark = (Polygon<Pixel>, PathElement<Pixel>);

/// The mark of a place; hollow where a constraint is broken.
fn shape(place: Place) -> Mark {
    let corners = outline(place);
    let line = corners.iter().chain(corners.first()).copied().collect::<Vec<_>>();
    let inside = if place == Place::Infeasible { WHITE } else { colour(place) };
    (Polygon::new(corners, inside), PathElement::new(line, colour(place).stroke_width(2)))
}

/// The shape of a mark around its centre, in pixels.
fn outline(place: Place) -> Vec<Pixel> {
    let round = |radius: f64, corners: usize, inner: f64| -> Vec<Pixel> {
        let corner = |i: usize| {
            let angle = std::f64::consts::TAU * i as f64 / corners as f64;
            let radius = if i.is_multiple_of(2) { radius } else { radius * inner };
            ((radius * angle.sin()).round() as i32, (-radius * angle.cos()).round() as i32)
        };
        (0..corners).map(corner).collect()
    };
    match place {
        Place::Baseline => round(9.0, 4, 1.0),
        Place::Recommended => round(12.0, 10, 0.42),
        Place::Front => round(7.0, 24, 1.0),
        Place::Dominated | Place::Failed => round(4.0, 16, 1.0),
        Place::Infeasible => vec![(0, -6), (5, 4), (-5, 4)],
    }
}

/// The meaning of the marks that the picture has.
fn key(area: &DrawingArea<SVGBackend, plotters::coord::Shift>, points: &[Point]) -> Drawn {
    let mut left = 92;
    for place in [Place::Recommended, Place::Front, Place::Baseline, Place::Dominated, Place::Infeasible] {
        if !points.iter().any(|p| p.place == place) {
            continue;
        }
        let (inside, line) = shape(place);
        area.draw(&(EmptyElement::at((left, 24)) + inside + line))?;
        area.draw(&Text::new(place.word(), (left + 16, 16), (FONT, KEY_TEXT).into_font().color(&INK)))?;
        left += 52 + 7 * place.word().len() as i32;
    }
    if points.iter().any(|p| p.prominent() && p.x.standard_error + p.y.standard_error > 0.0) {
        area.draw(&Text::new("bars: standard error", (left, 16), (FONT, KEY_TEXT).into_font().color(&GREY)))?;
    }
    Ok(())
}
