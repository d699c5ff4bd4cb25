//! Gradients of single ops against PyTorch's (`tests/fixtures/gradients`).

use super::examples::{Example, Pass};
use super::loss::{Goal, loss};
use super::network::{Network, Parameter};
use super::room::Room;
use super::run::angles;
use super::tape::{Keep, Tape};
use crate::Variant;
use crate::representation::FloatType;
use aehost_common::{Setting, Settings};
use aehost_formats::{Checkpoint, Encoding, gguf};
use aehost_graph::{Slot, Spec, ValueId, ValueType};
use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;
use std::sync::Arc;

const TOLERANCE: f32 = 1e-4;

/// What PyTorch computed.
struct Reference(HashMap<String, Tensor>);

impl Reference {
    fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/gradients/ops.safetensors");
        Self(candle_core::safetensors::load(path, &Device::Cpu).unwrap())
    }

    fn tensor(&self, case: &str, name: &str) -> Tensor {
        self.0.get(&format!("{case}.{name}")).unwrap_or_else(|| panic!("no {case}.{name}")).clone()
    }

    fn numbers(&self, case: &str, name: &str) -> Vec<f32> {
        self.tensor(case, name).to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }
}

/// A graph under construction: inputs are embeddings of token 0, 1, 2, ..., so that the gradient of an embedding's weight is that
/// of the value.
struct Bench<'r> {
    reference: &'r Reference,
    case: &'r str,
    variant: Variant,
    trained: Vec<String>,
    tokens: usize,
}

impl<'r> Bench<'r> {
    fn new(reference: &'r Reference, case: &'r str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty.gguf");
        let mut writer = gguf::Writer::new();
        writer.set("general.architecture", "none");
        writer.tensor("none", &[1, 1], Encoding::F32, vec![0; 4]).unwrap();
        writer.save(&path).unwrap();
        let mut variant = Variant::new(Arc::new(Checkpoint::open(&path).unwrap()), Some(FloatType::F32));
        let graph = variant.graph_mut();
        graph.add_function("decode").unwrap();
        graph.add_input("decode", "ids", ValueType::indices()).unwrap();
        graph.add_input("decode", "positions", ValueType::indices()).unwrap();
        Self { reference, case, variant, trained: vec![], tokens: 0 }
    }

    /// A weight of the case.
    fn weight(&mut self, name: &str) {
        let value = self.reference.tensor(self.case, name);
        self.variant.put_weight(name, &value, FloatType::F32).unwrap();
        self.trained.push(name.to_owned());
    }

    fn node(&mut self, op: &str, attributes: Settings, inputs: &[ValueId], weights: &[(&str, &str)]) -> Vec<ValueId> {
        let weights = weights.iter().map(|(slot, weight)| Slot { name: (*slot).into(), weight: (*weight).into() });
        let spec = Spec {
            function: "decode".into(),
            name: format!("{op}-{}", self.variant.graph().all_nodes().count()),
            role: "other".into(),
            layer: None,
            op: op.into(),
            attributes,
            inputs: inputs.to_vec(),
            weights: weights.collect(),
        };
        self.variant.graph_mut().insert(spec).unwrap().outputs.clone()
    }

    /// An input of the case as a value.
    fn input(&mut self, name: &str) -> ValueId {
        self.tokens = self.reference.tensor(self.case, name).dim(0).unwrap();
        self.weight(name);
        let ids = self.port("ids");
        self.node("embedding", Settings::default(), &[ids], &[("weight", name)])[0]
    }

    fn port(&self, name: &str) -> ValueId {
        let function = self.variant.graph().function("decode").unwrap();
        function.inputs.iter().find(|port| port.name == name).unwrap().value
    }

    /// Compares what came out, and the gradients of all weights, with the reference.
    fn check(mut self, y: ValueId, lengths: &[usize]) {
        self.variant.graph_mut().set_output("decode", "logits", y).unwrap();
        let mut parameters: Vec<Parameter> =
            self.trained.iter().map(|name| Parameter::of(&self.variant, name).unwrap()).collect();
        let network = Network::new(&self.variant, &parameters).unwrap();
        let mut first = 0;
        // One token more, which nothing follows.
        let examples = lengths.iter().map(|length| {
            let example = Example { tokens: (first..=first + *length as u32).collect(), answer: 1 };
            first += *length as u32;
            example
        });
        let examples: Vec<Example> = examples.collect();
        let pass = Pass::of(&examples, usize::MAX - 1, false);
        let angles = angles(&network, &pass);
        let room = Room::default();
        for keep in [Keep::All, Keep::Borders] {
            parameters.iter_mut().for_each(|parameter| parameter.gradient.fill(0.0));
            let mut tape = Tape::new(&network, &pass.batch, &angles, &room);
            tape.forward(network.body(), &parameters, keep);
            let mut end = Tape::of_rows(&network, &pass.batch, &angles, &room, tape.take_value(network.selected));
            end.forward(network.tail(), &parameters, Keep::All);
            let found = end.take_value(network.logits);
            same(self.case, "y", &found, &self.reference.numbers(self.case, "y"));
            end.set_gradient(network.logits, self.reference.numbers(self.case, "dy"));
            end.backward(network.tail(), &mut parameters);
            if let Some(gradient) = end.take_gradient(network.selected) {
                tape.set_gradient(network.selected, gradient);
            }
            for segment in network.segments.iter().rev() {
                if keep == Keep::Borders {
                    tape.forward(segment.clone(), &parameters, Keep::All);
                }
                tape.backward(segment.clone(), &mut parameters);
            }
            for parameter in &parameters {
                let expected = self.reference.numbers(self.case, &format!("d{}", parameter.name));
                same(self.case, &format!("d{}", parameter.name), &parameter.gradient, &expected);
            }
        }
    }
}

fn same(case: &str, name: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{case}.{name}");
    let largest = expected.iter().fold(1e-3f32, |most, x| most.max(x.abs()));
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= TOLERANCE * largest, "{case}.{name}[{i}]: {a} is not {b} (largest {largest})");
    }
}

fn none() -> Settings {
    Settings::default()
}

#[test]
fn functions_of_numbers() {
    let reference = Reference::read();
    let cases = [
        ("silu", "silu", none()),
        ("gelu", "gelu", none().with("approximate", "none")),
        ("gelu-tanh", "gelu", none().with("approximate", "tanh")),
        ("tanh", "tanh", none()),
        ("sigmoid", "sigmoid", none()),
        ("relu", "relu", none()),
        ("softmax", "softmax", none()),
        ("scale", "scale", none().with("factor", 1.7)),
    ];
    for (case, op, attributes) in cases {
        let mut bench = Bench::new(&reference, case);
        let x = bench.input("x");
        let y = bench.node(op, attributes, &[x], &[])[0];
        bench.check(y, &[7]);
    }
}

#[test]
fn sums_and_products_of_two_values() {
    let reference = Reference::read();
    for op in ["add", "mul"] {
        for (suffix, row) in [("", false), ("-column", false), ("-row", true)] {
            let case = format!("{op}{suffix}");
            let mut bench = Bench::new(&reference, &case);
            let a = bench.input("a");
            let b = if row {
                bench.weight("b");
                bench.node("parameter", none(), &[], &[("weight", "b")])[0]
            } else {
                bench.input("b")
            };
            let y = bench.node(op, none(), &[a, b], &[])[0];
            bench.check(y, &[7]);
        }
    }
    for (case, groups) in [("concat", 1), ("concat-groups", 2)] {
        let mut bench = Bench::new(&reference, case);
        let (a, b) = (bench.input("a"), bench.input("b"));
        let y = bench.node("concat", none().with("groups", groups), &[a, b], &[])[0];
        bench.check(y, &[7]);
    }
}

#[test]
fn products_with_weights_and_norms() {
    let reference = Reference::read();
    let epsilon = || none().with("epsilon", 1e-3);
    let cases: [(&str, &str, Settings, &[&str]); 7] = [
        ("linear", "linear", none(), &["weight", "bias"]),
        ("grouped-linear", "grouped-linear", none(), &["weight"]),
        ("rms-norm", "rms-norm", epsilon(), &["weight"]),
        ("rms-norm-groups", "rms-norm", epsilon(), &["weight"]),
        ("rms-norm-offset", "rms-norm", epsilon().with("weight-offset", 1.0), &["weight"]),
        ("layer-norm", "layer-norm", epsilon(), &["weight", "bias"]),
        ("layer-norm-groups", "layer-norm", epsilon(), &["weight"]),
    ];
    for (case, op, attributes, weights) in cases {
        let mut bench = Bench::new(&reference, case);
        let x = bench.input("x");
        weights.iter().for_each(|weight| bench.weight(weight));
        let slots: Vec<(&str, &str)> = weights.iter().map(|weight| (*weight, *weight)).collect();
        let y = bench.node(op, attributes, &[x], &slots)[0];
        bench.check(y, &[7]);
    }
}

#[test]
fn rotations() {
    let reference = Reference::read();
    let rope = |pairing: &str| none().with("head-dim", 8).with("base", 10_000.0).with("pairing", pairing);
    for (case, attributes) in [
        ("rope-half", rope("half")),
        ("rope-interleaved", rope("interleaved")),
        ("rope-partial", rope("half").with("dims", 4)),
    ] {
        let mut bench = Bench::new(&reference, case);
        let (x, positions) = (bench.input("x"), bench.port("positions"));
        let y = bench.node("rope", attributes, &[x, positions], &[])[0];
        bench.check(y, &[7]);
    }
}

#[test]
fn attention() {
    let reference = Reference::read();
    let spec = || none().with("heads", 4).with("kv-heads", 2).with("head-dim", 8).with("scale", 0.3);
    for (case, attributes, lengths) in [
        ("attention", spec(), &[11][..]),
        ("attention-window", spec().with("window", 4), &[11]),
        ("attention-softcap", spec().with("softcap", 2.0), &[11]),
        ("attention-values", spec().with("value-dim", 5), &[11]),
        ("attention-two", spec(), &[5, 6]),
    ] {
        let mut bench = Bench::new(&reference, case);
        let [q, k, v] = ["q", "k", "v"].map(|name| bench.input(name));
        let positions = bench.port("positions");
        let cache = none().with("dtype", "float32").with("head-dim", 1);
        let kept = bench.node("cache", cache, &[k, v, positions], &[]);
        let y = bench.node("attention", attributes, &[q, kept[0], kept[1], positions, kept[2]], &[])[0];
        bench.check(y, lengths);
    }
}

#[test]
fn experts() {
    let reference = Reference::read();
    let spec = |score: &str, normalise: &str, activation: &str| {
        let choice = none().with("top-k", 2).with("score", score).with("normalise", normalise);
        choice.with("activation", activation)
    };
    for (case, attributes) in [
        ("experts-softmax", spec("softmax", "none", "silu")),
        ("experts-sum", spec("softmax", "sum", "silu")),
        ("experts-sigmoid", spec("sigmoid", "sum", "silu").with("scale", 2.5)),
        ("experts-one", spec("one", "none", "silu")),
        ("experts-gelu", spec("softmax", "sum", "gelu")),
    ] {
        let mut bench = Bench::new(&reference, case);
        let (x, logits) = (bench.input("x"), bench.input("logits"));
        let slots = ["gate", "up", "down"];
        slots.iter().for_each(|slot| bench.weight(slot));
        let y = bench.node("experts", attributes, &[x, logits], &slots.map(|slot| (slot, slot)))[0];
        bench.check(y, &[7]);
    }
}

#[test]
fn losses() {
    let reference = Reference::read();
    let targets: Vec<u32> =
        reference.tensor("cross-entropy", "targets").to_dtype(DType::U32).unwrap().to_vec1().unwrap();
    let weights = reference.numbers("cross-entropy", "weights");
    let sum: f32 = weights.iter().sum();
    let mut x = reference.numbers("cross-entropy", "x");
    let found = loss(&mut x, &weights, &Goal::Tokens(&targets), 1.0 / sum) / f64::from(sum);
    same("cross-entropy", "y", &[found as f32], &reference.numbers("cross-entropy", "y"));
    same("cross-entropy", "dx", &x, &reference.numbers("cross-entropy", "dx"));

    let mut x = reference.numbers("kl", "x");
    let teacher = reference.numbers("kl", "teacher");
    let goal = Goal::Teacher { logits: &teacher, temperature: 2.0 };
    let found = loss(&mut x, &[1.0; 7], &goal, 1.0 / 7.0) / 7.0;
    same("kl", "y", &[found as f32], &reference.numbers("kl", "y"));
    same("kl", "dx", &x, &reference.numbers("kl", "dx"));
}

#[test]
fn settings_are_checked() {
    use super::TrainingOptions;
    let of = |name: &str, value: aehost_common::Value| TrainingOptions::of(&[Setting { name: name.into(), value }]);
    assert_eq!(of("steps", 7i64.into()).unwrap().steps, 7);
    for (name, value) in
        [("steps", (-1i64).into()), ("schedule", "steep".into()), ("beta1", 1.0.into()), ("clip", "no".into())]
    {
        let message = of(name, value).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains("must be"), "{message}");
    }
    assert!(of("depth", 1i64.into()).unwrap_err().to_string().contains("unknown"));
}
