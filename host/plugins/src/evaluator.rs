//! Evaluators, adapted. What they measure is checked before anybody believes it: every number is finite, every sample
//! belongs to an item, and the value follows from the samples as the plugin says it does.

use crate::bindings::evaluator::exports::aehost::plugin::evaluator as wit;
use crate::bindings::evaluator::{EvaluatorPlugin, EvaluatorPluginPre};
use crate::convert;
use crate::host::dataset::Dataset;
use crate::host::session::Session;
use crate::plugin::{Name, Plugin};
use crate::state::{Services, State};
use aehost_common::{EvaluatorDescription, Fault, Metric, Settings};
use aehost_engine::LanguageModel;
use std::sync::Arc;
use wasmtime::Store;

/// Makes the study's baseline when an evaluator compares with it.
pub type Baseline = Arc<dyn Fn() -> Result<Arc<LanguageModel>, Fault> + Send + Sync>;

/// One metric as an evaluator measured it.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluatorMeasurement {
    /// One of the evaluator's metrics.
    pub metric: String,
    /// transform(sum(samples * weights) / sum(weights)).
    pub value: f64,
    /// `identity` or `exp`.
    pub transform: String,
    /// One for each item of the subset, in its order.
    pub samples: Vec<f64>,
    /// As many as samples, at least 0; empty when all are equal.
    pub weights: Vec<f64>,
}

/// A loaded evaluator; cheap to clone.
#[derive(Clone)]
pub struct Evaluator(Arc<Inner>);

struct Inner {
    plugin: Plugin,
    description: EvaluatorDescription,
}

fn start(plugin: &Plugin, function: &str) -> Result<(Store<State>, EvaluatorPlugin), Fault> {
    plugin.start(Services::default(), function, |code, store| EvaluatorPluginPre::new(code)?.instantiate(store))
}

fn metric_in(metric: crate::bindings::evaluator::exports::aehost::plugin::evaluator::Metric) -> Metric {
    Metric {
        name: convert::text(metric.name),
        unit: convert::text(metric.unit),
        direction: convert::direction_in(metric.direction),
    }
}

/// Its own words.
fn told(plugin: &Plugin) -> Result<crate::bindings::evaluator::exports::aehost::plugin::evaluator::Description, Fault> {
    let (mut store, guest) = start(plugin, "describe")?;
    plugin.call(&mut store, "describe", |store| guest.aehost_plugin_evaluator().call_describe(store))
}

impl Evaluator {
    pub(crate) fn new(plugin: Plugin, description: EvaluatorDescription) -> Self {
        Self(Arc::new(Inner { plugin, description }))
    }

    /// Who it is.
    pub fn name(&self) -> &Name {
        &self.0.plugin.name
    }

    /// What it says of itself.
    pub fn description(&self) -> &EvaluatorDescription {
        &self.0.description
    }

    /// Asks a plugin what it says of itself.
    pub(crate) fn ask(plugin: &Plugin) -> Result<EvaluatorDescription, Fault> {
        let told = told(plugin)?;
        let broken = |fault: Fault| plugin.broken("describe", fault.full());
        let identity = convert::identity_in(told.identity).map_err(broken)?;
        let metrics: Vec<Metric> = told.metrics.into_iter().map(metric_in).collect();
        if metrics.is_empty() {
            return Err(plugin.named(&identity).broken("describe", "it declares no metric"));
        }
        let parameters = convert::parameters_in(told.parameters).map_err(broken)?;
        Ok(EvaluatorDescription { identity, metrics, parameters })
    }

    /// Its very words, asked anew for the conformance check.
    pub(crate) fn describe_again(&self) -> Result<String, Fault> {
        Ok(format!("{:?}", told(&self.0.plugin)?))
    }

    /// Measures on the items of `subset`, with all of its settings.
    ///
    /// # Errors
    /// What the plugin met (a data set without answers, numbers that diverged, ...); internal where the plugin fails or
    /// its measurements do not hold.
    pub fn evaluate(
        &self,
        model: &Arc<LanguageModel>,
        baseline: &Baseline,
        data: &Arc<aehost_formats::Dataset>,
        subset: &[u32],
        settings: &Settings,
    ) -> Result<Vec<EvaluatorMeasurement>, Fault> {
        let plugin = &self.0.plugin;
        let (mut store, guest) = start(&self.0.plugin, "evaluate")?;
        let settings = convert::settings_out(settings);
        let measured = plugin.call(&mut store, "evaluate", |store| {
            let session = Session { model: model.clone(), baseline: baseline.clone(), data: data.clone() };
            let session = store.data_mut().hand_out(session)?;
            let data = store.data_mut().hand_out(Dataset(data.clone()))?;
            guest.aehost_plugin_evaluator().call_evaluate(store, session, data, subset, &settings)
        })?;
        let measured = measured.map_err(|e| plugin.own(e))?;
        let metrics = &self.0.description.metrics;
        check(measured, metrics, subset.len()).map_err(|why| plugin.broken("evaluate", why))
    }
}

/// Relative distance that rounding may put between a value and its samples.
const TOLERANCE: f64 = 1e-6;

fn check(
    measured: Vec<wit::Measurement>,
    metrics: &[Metric],
    items: usize,
) -> Result<Vec<EvaluatorMeasurement>, String> {
    let mut checked: Vec<EvaluatorMeasurement> = Vec::with_capacity(measured.len());
    for m in measured {
        let metric = convert::text(m.metric);
        if !metrics.iter().any(|declared| declared.name == metric) {
            return Err(format!("it measured `{metric}`, which it does not declare"));
        }
        if checked.iter().any(|c| c.metric == metric) {
            return Err(format!("it measured `{metric}` twice"));
        }
        if m.samples.len() != items {
            return Err(format!("`{metric}` has {} samples for {items} items", m.samples.len()));
        }
        if !m.weights.is_empty() && m.weights.len() != items {
            return Err(format!("`{metric}` has {} weights for {items} items", m.weights.len()));
        }
        if !m.value.is_finite() {
            return Err(format!("`{metric}` = {} is not finite", m.value));
        }
        if let Some(at) = m.samples.iter().position(|v| !v.is_finite()) {
            return Err(format!("sample {at} of `{metric}` = {} is not finite", m.samples[at]));
        }
        if let Some(at) = m.weights.iter().position(|w| !w.is_finite() || *w < 0.0) {
            return Err(format!("weight {at} of `{metric}` = {} is not a finite number from 0", m.weights[at]));
        }
        let weight = |i: usize| m.weights.get(i).copied().unwrap_or(1.0);
        let (mut sum, mut total) = (0.0, 0.0);
        for (i, sample) in m.samples.iter().enumerate() {
            sum += sample * weight(i);
            total += weight(i);
        }
        if total <= 0.0 {
            return Err(format!("the weights of `{metric}` sum to 0"));
        }
        let expected = match m.transform.as_str() {
            "identity" => sum / total,
            "exp" => (sum / total).exp(),
            other => {
                return Err(format!(
                    "transform `{}` of `{metric}` is not identity or exp",
                    convert::text(other.into())
                ));
            }
        };
        if (m.value - expected).abs() > TOLERANCE * expected.abs().max(1.0) {
            return Err(format!("`{metric}` = {}, but its samples give {expected}", m.value));
        }
        checked.push(EvaluatorMeasurement {
            metric,
            value: m.value,
            transform: m.transform,
            samples: m.samples,
            weights: m.weights,
        });
    }
    match metrics.iter().find(|declared| !checked.iter().any(|c| c.metric == declared.name)) {
        Some(missing) => Err(format!("it declares `{}`, but did not measure it", missing.name)),
        None => Ok(checked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aehost_common::Direction;

    fn measured(change: impl FnOnce(&mut wit::Measurement)) -> Result<Vec<EvaluatorMeasurement>, String> {
        let mut m = wit::Measurement {
            metric: "word-perplexity".into(),
            value: 2f64.exp(),
            transform: "exp".into(),
            samples: vec![1.0, 3.0],
            weights: vec![5.0, 5.0],
        };
        change(&mut m);
        let metric = Metric { name: "word-perplexity".into(), unit: "1".into(), direction: Direction::Minimize };
        check(vec![m], &[metric], 2)
    }

    #[test]
    fn measurements_that_hold_pass() {
        assert_eq!(measured(|_| {}).unwrap()[0].samples, [1.0, 3.0]);
        assert!(measured(|m| m.weights.clear()).is_ok());
    }

    #[test]
    fn measurements_that_do_not_hold_are_told_apart() {
        let told = |change: fn(&mut wit::Measurement)| measured(change).unwrap_err();
        assert_eq!(told(|m| m.value = f64::NAN), "`word-perplexity` = NaN is not finite");
        assert_eq!(told(|m| m.samples[1] = f64::INFINITY), "sample 1 of `word-perplexity` = inf is not finite");
        assert_eq!(told(|m| m.samples.push(0.0)), "`word-perplexity` has 3 samples for 2 items");
        assert_eq!(told(|m| m.weights.push(0.0)), "`word-perplexity` has 3 weights for 2 items");
        assert_eq!(told(|m| m.weights[0] = -1.0), "weight 0 of `word-perplexity` = -1 is not a finite number from 0");
        assert_eq!(told(|m| m.weights = vec![0.0; 2]), "the weights of `word-perplexity` sum to 0");
        assert_eq!(told(|m| m.metric = "acc".into()), "it measured `acc`, which it does not declare");
        assert_eq!(told(|m| m.transform = "log".into()), "transform `log` of `word-perplexity` is not identity or exp");
        assert_eq!(told(|m| m.value = 7.0), "`word-perplexity` = 7, but its samples give 7.38905609893065");
    }

    #[test]
    fn a_declared_metric_must_be_measured() {
        let metric = Metric { name: "acc".into(), unit: "share".into(), direction: Direction::Maximize };
        assert_eq!(check(vec![], &[metric], 0).unwrap_err(), "it declares `acc`, but did not measure it");
    }
}
