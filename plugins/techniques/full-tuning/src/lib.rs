//! Trains all weights of the last layers, which need no more than before when they run. Of few layers it costs less than of all,
//! and forgets less (Howard and Ruder, arXiv:1801.06146, section 3.3).

use aehost_sdk::technique::*;
use std::collections::BTreeSet;

struct FullTuning;

impl Technique for FullTuning {
    fn describe() -> Description {
        let summary = "Trains all weights of the last layers on the study's training data.";
        Description::new(identity!("full-tuning", summary, "arXiv:1801.06146"), Stage::FineTuning).order(-10)
    }

    fn parameters(model: &Model, facts: &Facts) -> Result<Vec<Parameter>, Error> {
        let schedule = FineTuning::parameters(model, facts, 2e-5)?;
        let count = layers(model)?.len() as i64;
        let mut parameters: Vec<Parameter> = vec![
            integer("layers", "Layers that are trained, from the last one on.", 1..=count).default(count.min(4)).into(),
        ];
        parameters.extend(schedule);
        Ok(parameters)
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let count = settings.integer("layers")? as usize;
        let all: BTreeSet<u32> =
            model.model().language_nodes(&Filter::all()).iter().filter_map(|node| node.spec.layer).collect();
        let chosen: BTreeSet<u32> = all.into_iter().rev().take(count).collect();
        let nodes = model.model().language_nodes(&Filter::all());
        let trained = nodes.iter().filter(|node| node.spec.layer.is_some_and(|layer| chosen.contains(&layer)));
        let names: BTreeSet<&str> = trained.flat_map(|node| slots(node).filter_map(|slot| node.weight(slot))).collect();
        if names.is_empty() {
            return Err(Error::not_applicable("the model has no layers"));
        }
        // Training leaves float32; matrices are kept as they were.
        let forms = names.iter().map(|name| Ok((*name, model.dtype_of(name)?))).collect::<Result<Vec<_>, Error>>()?;
        let trainable: Vec<Trainable> =
            names.iter().map(|name| Trainable { weight: (*name).to_owned(), rate: 1.0 }).collect();
        FineTuning::train(model, &trainable, &FineTuning::settings(settings, &[])?)?;
        for (name, dtype) in forms {
            let numbers = weights::get(&model.model(), name, None)?;
            weights::put(model, name, &numbers, &dtype)?;
        }
        model.check()
    }
}

/// The slots of a node whose weights can be trained.
fn slots(node: &Node) -> impl Iterator<Item = &'static str> {
    let slots: &[&str] = match node.spec.op.as_str() {
        "linear" | "layer-norm" => &["weight", "bias"],
        "rms-norm" | "grouped-linear" | "parameter" => &["weight"],
        "experts" => &["gate", "up", "down"],
        _ => &[],
    };
    slots.iter().copied()
}

aehost_sdk::technique!(FullTuning);
