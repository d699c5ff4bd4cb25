//! A program as training sees it: which steps a gradient passes, and which values must be kept until it comes.

use crate::adapted_rows::AdaptedRows;
use crate::cache::CacheSpec;
use crate::cpu::fuse_gates;
use crate::program::{IDS, Op, POSITIONS, Program, RowSpace, Slot, Step};
use crate::rope::Rope;
use crate::routing::Grouping;
use crate::{EngineError, Variant};
use aehost_graph::NodeId;
use candle_core::Device;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// A weight that is trained.
pub(super) struct Parameter {
    pub name: String,
    /// Row-major.
    pub shape: Vec<usize>,
    pub value: Vec<f32>,
    /// Of the loss, shaped alike; sums up until the optimiser takes it.
    pub gradient: Vec<f32>,
}

impl Parameter {
    /// The weight as it stands.
    pub fn of(variant: &Variant, name: &str) -> Result<Self, EngineError> {
        let weight = variant.weight(name)?;
        let value = weight.floats()?;
        Ok(Self { name: name.to_owned(), shape: weight.shape.clone(), gradient: vec![0f32; value.len()], value })
    }

    /// Adds to its gradient.
    pub fn add(&mut self, gradient: &[f32]) {
        self.gradient.iter_mut().zip(gradient).for_each(|(to, d)| *to += d);
    }
}

/// One step.
pub(super) struct Stage {
    pub op: Op<Vec<f32>>,
    pub inputs: Vec<usize>,
    pub outputs: Vec<usize>,
    /// Slots that no later step reads.
    pub release: Vec<usize>,
    /// The parameters that its weight and bias are, where they are trained.
    pub weight: Option<usize>,
    pub bias: Option<usize>,
    /// What is added to a norm's weight.
    pub offset: f32,
    /// Whether a gradient passes.
    pub active: bool,
    pub layer: Option<u32>,
}

/// A step whose value follows from an adapter that is trained; no gradient goes that way (arXiv 2402.09353, section 4.3).
struct Norms {
    stage: usize,
    rows: AdaptedRows,
    down: Option<usize>,
    up: Option<usize>,
}

/// The steps of the function `decode`.
pub(super) struct Network {
    pub stages: Vec<Stage>,
    pub slots: Vec<Slot>,
    pub ropes: Vec<Rope>,
    pub caches: Vec<Arc<CacheSpec>>,
    pub routings: usize,
    /// Routers that a gradient passes.
    pub trained_routers: Vec<bool>,
    /// Slots that a gradient passes.
    pub active: Vec<bool>,
    /// Slots whose values gradients are computed from.
    pub kept: Vec<bool>,
    /// Slots that are made in one segment and read in another.
    pub borders: Vec<bool>,
    /// Stretches of steps, each a layer, up to and with the one that selects rows.
    pub segments: Vec<Range<usize>>,
    /// Where the selected rows stand.
    pub selected: usize,
    pub logits: usize,
    norms: Vec<Norms>,
}

/// The ops that have weights which may be trained, and their slots.
fn trained_slots(op: &str) -> &'static [&'static str] {
    match op {
        "linear" | "layer-norm" => &["weight", "bias"],
        "embedding" | "rms-norm" | "grouped-linear" | "parameter" => &["weight"],
        "experts" => &["gate", "up", "down"],
        // They are where else they are used.
        "inverse-norms" => &["down", "up"],
        _ => &[],
    }
}

impl Network {
    /// Makes the function ready, on the threads of the current pool; `parameters` are those weights that are trained.
    pub fn new(variant: &Variant, parameters: &[Parameter]) -> Result<Self, EngineError> {
        let by_name: HashMap<&str, usize> = parameters.iter().enumerate().map(|(i, p)| (&*p.name, i)).collect();
        for node in variant.graph().all_nodes() {
            let known = trained_slots(&node.spec.op);
            for slot in node.spec.weights.iter().filter(|slot| by_name.contains_key(&*slot.weight)) {
                if !known.contains(&&*slot.name) {
                    return Err(EngineError::Unsupported(format!(
                        "weight `{}` cannot be trained: it is the `{}` of node `{}`, whose op is {}",
                        slot.weight, slot.name, node.spec.name, node.spec.op
                    )));
                }
            }
        }
        let mut program = Program::new(variant, "decode", &Device::Cpu, &[])?;
        fuse_gates(&mut program.steps, &program.slots, &HashSet::new());
        let logits = program.output.expect("a program that shows no values makes logits");
        let select = program.steps.iter().position(|step| matches!(step.op, Op::SelectRows));
        let select = select.expect("a program that makes logits selects rows");
        let selected = program.steps[select].outputs[0];
        let norms = norms(variant, &program.steps, &by_name)?;
        let stages: Vec<Stage> =
            program.steps.into_iter().map(|step| Stage::of(step, variant, &by_name)).collect::<Result<_, _>>()?;
        for (number, parameter) in parameters.iter().enumerate() {
            if !stages.iter().any(|stage| [stage.weight, stage.bias].contains(&Some(number))) {
                let name = &parameter.name;
                return Err(EngineError::Unsupported(format!(
                    "weight `{name}` cannot be trained: `decode` does not use it"
                )));
            }
        }
        let segments = segments(&stages[..=select]);
        let mut network = Self {
            borders: vec![false; program.slots.len()],
            active: vec![false; program.slots.len()],
            kept: vec![false; program.slots.len()],
            trained_routers: vec![false; program.routings],
            stages,
            slots: program.slots,
            ropes: program.ropes,
            caches: program.caches,
            routings: program.routings,
            segments,
            selected,
            logits,
            norms,
        };
        network.mark_active();
        network.mark_kept();
        network.mark_borders();
        Ok(network)
    }

    /// Computes anew what steps have made of the parameters once for all passes, after these have changed.
    pub fn renew(&mut self, parameters: &[Parameter]) {
        for norms in &mut self.norms {
            let value = |of: Option<usize>| of.map(|p| &parameters[p].value[..]);
            norms.rows.set(value(norms.down), value(norms.up));
            self.stages[norms.stage].op = Op::Parameter(norms.rows.inverse_norms());
        }
    }

    /// The steps up to and with the one that selects rows.
    pub fn body(&self) -> Range<usize> {
        0..self.segments.last().map_or(0, |last| last.end)
    }

    /// The steps after it, each of which works row by row.
    pub fn tail(&self) -> Range<usize> {
        self.body().end..self.stages.len()
    }

    /// Token ids are smaller.
    pub fn ids(&self) -> usize {
        let rows = self.stages.iter().filter_map(|stage| match &stage.op {
            Op::Embedding { weight, .. } => Some(weight.shape().0),
            _ => None,
        });
        rows.min().unwrap_or(usize::MAX)
    }

    /// Number of logits a row.
    pub fn vocabulary(&self) -> usize {
        self.slots[self.logits].width
    }

    /// Bytes of the values that stand at borders, for each token.
    pub fn border_bytes(&self) -> usize {
        self.bytes_of(&mut (0..self.slots.len()).filter(|slot| self.borders[*slot]))
    }

    /// Bytes of some values for each token.
    fn bytes_of(&self, slots: &mut dyn Iterator<Item = usize>) -> usize {
        let rows = |slot: &Slot| match slot.rows {
            RowSpace::Tokens | RowSpace::Selected => 1,
            RowSpace::Multiple(n) => n,
            RowSpace::Fixed(_) => 0,
        };
        slots.map(|slot| rows(&self.slots[slot]) * self.slots[slot].width * size_of::<f32>()).sum()
    }

    /// Bytes of the values that are kept for each token between going forwards and backwards; in all, or at the borders of
    /// segments and of the largest segment.
    pub fn bytes_per_token(&self, checkpointing: bool) -> usize {
        let kept_of = |range: &Range<usize>| -> usize {
            let made = self.stages[range.clone()].iter().flat_map(|stage| &stage.outputs).copied();
            self.bytes_of(&mut made.filter(|slot| self.kept[*slot]))
        };
        if !checkpointing {
            return kept_of(&self.body());
        }
        self.border_bytes() + self.segments.iter().map(kept_of).max().unwrap_or(0)
    }

    fn mark_active(&mut self) {
        for stage in &mut self.stages {
            let inputs = stage.inputs.iter().any(|slot| self.active[*slot]);
            let active = inputs || stage.weight.is_some() || stage.bias.is_some();
            match stage.op {
                Op::Route { routing, .. } => {
                    self.trained_routers[routing] = active;
                    stage.active = active;
                }
                Op::Give(Grouping::Routed(routing)) => stage.active = active || self.trained_routers[routing],
                _ => stage.active = active,
            }
            if stage.active {
                stage.outputs.iter().for_each(|slot| self.active[*slot] = true);
            }
        }
    }

    fn mark_kept(&mut self) {
        for stage in self.stages.iter().filter(|stage| stage.active) {
            let (input, output) = (|i: usize| stage.inputs[i], stage.outputs.first().copied());
            let needed: Vec<usize> = match &stage.op {
                Op::Linear { .. } | Op::GroupedLinear { .. } if stage.weight.is_some() => vec![input(0)],
                Op::RmsNorm { .. } | Op::LayerNorm { .. } | Op::Silu | Op::Gelu | Op::GeluTanh | Op::Route { .. } => {
                    vec![input(0)]
                }
                Op::Gated(_) => vec![input(0), input(1)],
                Op::Mul => {
                    let other = |i: usize| Some(input(1 - i)).filter(|_| self.active[input(i)]);
                    (0..2).filter_map(other).collect()
                }
                Op::Attention { .. } => stage.inputs[..3].iter().copied().chain(output).collect(),
                Op::Tanh | Op::Sigmoid | Op::Relu | Op::Softmax => output.into_iter().collect(),
                Op::Give(Grouping::Routed(routing)) if self.trained_routers[*routing] => vec![input(0)],
                _ => vec![],
            };
            needed.into_iter().for_each(|slot| self.kept[slot] = true);
        }
    }

    fn mark_borders(&mut self) {
        let mut made_in: HashMap<usize, usize> = HashMap::from([(IDS, usize::MAX), (POSITIONS, usize::MAX)]);
        for (number, range) in self.segments.iter().enumerate() {
            for stage in &self.stages[range.clone()] {
                stage.outputs.iter().for_each(|slot| _ = made_in.insert(*slot, number));
            }
        }
        for (number, range) in self.segments.iter().enumerate() {
            for slot in self.stages[range.clone()].iter().flat_map(|stage| &stage.inputs) {
                self.borders[*slot] |= made_in.get(slot).is_some_and(|made| *made != number);
            }
        }
        self.borders[self.selected] = true;
    }
}

/// The steps of ops `inverse-norms` whose adapters are trained.
fn norms(variant: &Variant, steps: &[Step], trained: &HashMap<&str, usize>) -> Result<Vec<Norms>, EngineError> {
    let node = |step: &Step| step.node.and_then(|id| variant.graph().node(id)).filter(|n| n.spec.op == "inverse-norms");
    let found = steps.iter().enumerate().filter_map(|(stage, step)| {
        let node = node(step)?;
        let parameter = |slot: &str| node.spec.weight(slot).and_then(|weight| trained.get(weight)).copied();
        let (down, up) = (parameter("down"), parameter("up"));
        (down.or(up).is_some()).then(|| Ok(Norms { stage, rows: AdaptedRows::of(variant, node)?, down, up }))
    });
    found.collect()
}

/// Neighbours of the same layer; steps of no layer go with the layer before them.
fn segments(stages: &[Stage]) -> Vec<Range<usize>> {
    let mut segments: Vec<Range<usize>> = vec![];
    let mut layer = None;
    for (at, stage) in stages.iter().enumerate() {
        match segments.last_mut() {
            Some(last) if stage.layer.is_none() || stage.layer == layer => last.end = at + 1,
            _ => segments.push(at..at + 1),
        }
        layer = stage.layer.or(layer);
    }
    segments
}

impl Stage {
    fn of(step: Step, variant: &Variant, trained: &HashMap<&str, usize>) -> Result<Self, EngineError> {
        let node = step.node.and_then(|id: NodeId| variant.graph().node(id));
        let parameter = |slot: &str| {
            let weight = node.filter(|_| has_weight(&step.op)).and_then(|node| node.spec.weight(slot))?;
            trained.get(weight).copied()
        };
        // The parts of a mixture of experts are named after its slots.
        let part = step.name.rsplit('.').next().filter(|part| ["gate", "up", "down"].contains(part));
        let is_experts = node.is_some_and(|node| node.spec.op == "experts");
        let slot = part.filter(|_| is_experts).unwrap_or("weight");
        Ok(Self {
            weight: parameter(slot),
            bias: parameter("bias"),
            offset: node.and_then(|node| node.spec.real("weight-offset")).unwrap_or(0.0) as f32,
            layer: node.and_then(|node| node.spec.layer),
            active: false,
            op: step.op.on_cpu()?,
            inputs: step.inputs,
            outputs: step.outputs,
            release: step.release,
        })
    }
}

/// Whether a step itself multiplies by the weights of its node.
fn has_weight(op: &Op<candle_core::Tensor>) -> bool {
    matches!(
        op,
        Op::Embedding { .. }
            | Op::Linear { .. }
            | Op::GroupedLinear { .. }
            | Op::RmsNorm { .. }
            | Op::LayerNorm { .. }
            | Op::Parameter(_)
    )
}
