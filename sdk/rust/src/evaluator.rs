//! Evaluators: they measure quality on a task.

use crate::bindings::evaluator::exports::aehost::plugin::evaluator as exports;
pub use crate::bindings::imports::aehost::plugin::{
    dataset::Dataset,
    session::{Distance, Generated, Generation, Message, Prompt, Request, Rolling, Score, Session},
};
pub use crate::{
    Direction, Error, Identity, Parameter, Setting, Settings, Value, choice, flag, identity, integer, log, real,
    setting,
};
pub use exports::{Description, Measurement, Metric};

/// Measures quality on a task.
pub trait Evaluator: 'static {
    /// Who it is, what it measures (its main metric first) and what its user may set.
    fn describe() -> Description;

    /// Measures every metric on the rows of `subset`, which the host chose for the trial's fidelity. Errors: invalid-input,
    /// naming the row and field of the data that are wrong.
    fn evaluate(
        session: &Session,
        data: &Dataset,
        subset: &[u32],
        settings: &Settings,
    ) -> Result<Vec<Measurement>, Error>;
}

impl Description {
    /// An evaluator without metrics or parameters yet.
    pub fn new(identity: Identity) -> Self {
        Self { identity, metrics: Vec::new(), parameters: Vec::new() }
    }

    /// Adds a metric of which more is better; the first metric added is the main one.
    #[must_use]
    pub fn maximize(self, name: &str, unit: &str) -> Self {
        self.metric(name, unit, Direction::Maximize)
    }

    /// Adds a metric of which less is better; the first metric added is the main one.
    #[must_use]
    pub fn minimize(self, name: &str, unit: &str) -> Self {
        self.metric(name, unit, Direction::Minimize)
    }

    /// Adds a parameter that the user of the evaluator may set.
    #[must_use]
    pub fn parameter(mut self, parameter: impl Into<Parameter>) -> Self {
        self.parameters.push(parameter.into());
        self
    }

    fn metric(mut self, name: &str, unit: &str, direction: Direction) -> Self {
        self.metrics.push(Metric { name: name.into(), unit: unit.into(), direction });
        self
    }
}

impl Measurement {
    /// The mean of one sample a row.
    pub fn mean(metric: &str, samples: Vec<f64>) -> Self {
        let weights = vec![1.0; samples.len()];
        Self::ratio(metric, samples, weights)
    }

    /// sum(samples * weights) / sum(weights), one sample and weight a row, in the order of the subset.
    pub fn ratio(metric: &str, samples: Vec<f64>, weights: Vec<f64>) -> Self {
        let value = weighted_mean(&samples, &weights);
        Self { metric: metric.into(), value, transform: "identity".into(), samples, weights }
    }

    /// exp of [`Measurement::ratio`], as perplexities are.
    pub fn exp(metric: &str, samples: Vec<f64>, weights: Vec<f64>) -> Self {
        let value = weighted_mean(&samples, &weights).exp();
        Self { metric: metric.into(), value, transform: "exp".into(), samples, weights }
    }
}

fn weighted_mean(samples: &[f64], weights: &[f64]) -> f64 {
    let sum: f64 = samples.iter().zip(weights).map(|(sample, weight)| sample * weight).sum();
    sum / weights.iter().sum::<f64>()
}

impl Prompt {
    /// Plain text, as it is.
    pub fn text(content: impl Into<String>) -> Self {
        let messages = vec![Message { role: "user".into(), content: content.into() }];
        Self { messages, chat: false, images: Vec::new() }
    }

    /// One message of the user, through the checkpoint's chat template.
    pub fn chat(content: impl Into<String>) -> Self {
        Self { chat: true, ..Self::text(content) }
    }

    /// The same with pictures: where the first message says `<image>`, or before it where it does not.
    #[must_use]
    pub fn with_images(mut self, images: &[String]) -> Self {
        const MARK: &str = "<image>";
        if let Some(first) = self.messages.first_mut().filter(|first| !first.content.contains(MARK)) {
            first.content.insert_str(0, &MARK.repeat(images.len()));
        }
        self.images = images.to_vec();
        self
    }
}

/// One row of a data set, with errors that name it.
#[derive(Debug, Clone)]
pub struct Row {
    place: String,
    fields: serde_json::Value,
}

/// The rows of a subset, in its order.
pub fn rows(data: &Dataset, subset: &[u32]) -> Result<Vec<Row>, Error> {
    let name = data.name();
    let lines = data.rows(subset)?;
    lines.iter().zip(subset).map(|(json, index)| Row::parse(&name, *index, json)).collect()
}

impl Row {
    /// Row `index`, counted from 0, of the data set `name`, from its JSON.
    pub fn parse(name: &str, index: u32, json: &str) -> Result<Self, Error> {
        let place = format!("row {} of `{name}`", u64::from(index) + 1);
        match serde_json::from_str(json) {
            Ok(fields) => Ok(Self { place, fields }),
            Err(error) => Err(Error::invalid(format!("{place} is not JSON: {error}"))),
        }
    }

    /// A text field.
    pub fn text(&self, field: &str) -> Result<&str, Error> {
        self.get(field)?.as_str().ok_or_else(|| self.wrong(format!("`{field}` must be a text")))
    }

    /// A field that is a list of texts.
    pub fn texts(&self, field: &str) -> Result<Vec<&str>, Error> {
        let list = self.get(field)?.as_array();
        let texts: Option<Vec<&str>> = list.and_then(|list| list.iter().map(|item| item.as_str()).collect());
        texts.ok_or_else(|| self.wrong(format!("`{field}` must be a list of texts")))
    }

    /// The row's pictures, as paths from the data set's folder: its field `image`, a text, or `images`, a list of texts; none
    /// where it has neither.
    pub fn images(&self) -> Result<Vec<String>, Error> {
        let has = |field: &str| self.fields.get(field).is_some_and(|value| !value.is_null());
        match (has("image"), has("images")) {
            (true, true) => Err(self.wrong("it has both `image` and `images`")),
            (true, false) => Ok(vec![self.text("image")?.to_owned()]),
            (false, true) => Ok(self.texts("images")?.into_iter().map(str::to_owned).collect()),
            (false, false) => Ok(Vec::new()),
        }
    }

    /// A field that is an index, counted from 0, into a list of `length` items.
    pub fn index(&self, field: &str, length: usize) -> Result<usize, Error> {
        let index = self.get(field)?.as_u64().and_then(|i| usize::try_from(i).ok()).filter(|i| *i < length);
        index.ok_or_else(|| {
            self.wrong(format!("`{field}` must be a whole number from 0 to {}", length.saturating_sub(1)))
        })
    }

    /// An error about this row: `row 3 of `piqa`: ...`. Rows are counted from 1, as editors count lines.
    pub fn wrong(&self, what: impl std::fmt::Display) -> Error {
        Error::invalid(format!("{}: {what}", self.place))
    }

    fn get(&self, field: &str) -> Result<&serde_json::Value, Error> {
        let value = self.fields.get(field).filter(|v| !v.is_null());
        value.ok_or_else(|| self.wrong(format!("`{field}` is missing")))
    }
}

impl<T: Evaluator> exports::Guest for crate::Component<T> {
    fn describe() -> Description {
        log::forward_panics();
        T::describe()
    }

    fn evaluate(
        session: &Session,
        data: &Dataset,
        subset: Vec<u32>,
        settings: Vec<Setting>,
    ) -> Result<Vec<Measurement>, Error> {
        log::forward_panics();
        T::evaluate(session, data, &subset, &Settings(settings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_row_is_named_with_its_field() {
        let row = Row::parse("piqa", 6, r#"{"context": "a", "choices": ["b", 1], "answer": 2, "gold": null}"#).unwrap();
        let message = |error: Error| error.message;
        assert_eq!(
            row.texts("choices").map_err(message),
            Err("row 7 of `piqa`: `choices` must be a list of texts".into())
        );
        assert_eq!(row.text("gold").map_err(message), Err("row 7 of `piqa`: `gold` is missing".into()));
        assert_eq!(
            row.index("answer", 2).map_err(message),
            Err("row 7 of `piqa`: `answer` must be a whole number from 0 to 1".into())
        );
        let broken = Row::parse("piqa", 0, "{").unwrap_err();
        assert!(broken.message.starts_with("row 1 of `piqa` is not JSON: "), "{}", broken.message);
    }

    #[test]
    fn a_measurement_is_the_transformed_weighted_mean_of_its_samples() {
        assert_eq!(Measurement::mean("acc", vec![1.0, 0.0, 1.0, 1.0]).value, 0.75);
        let perplexity = Measurement::exp("ppl", vec![1.0, 3.0], vec![3.0, 1.0]);
        assert!((perplexity.value - 1.5f64.exp()).abs() < 1e-12);
    }
}
