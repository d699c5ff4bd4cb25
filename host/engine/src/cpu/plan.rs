//! From a program to a plan: values share buffers where their lives do not overlap, silu and the product that reads it
//! become one step, activations are rounded once for all matrices that multiply them, and a step waits for others only
//! where it reads what they write or writes what they read.

use crate::EngineError;
use crate::matrix::Matrix;
use crate::program::{Gate, Op, Program, RowSpace, Slot, Step};
use crate::rope::Rope;
use crate::routing::Grouping;
use aehost_graph::ValueId;
use std::collections::{HashMap, HashSet};

/// What a step of the plan does.
pub(super) enum Work {
    /// Rounds activations for the packed matrices that follow.
    Round,
    /// Shows queries to the cache that their attention read.
    Observe(usize),
    /// As in the program. A product with packed matrices is one of what was rounded last; a cache takes keys and values,
    /// from where attention reads them.
    Op(Op<Vec<f32>>),
}

/// Where a value stands, and how wide it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub buffer: usize,
    pub width: usize,
}

pub(super) struct PlanStep {
    pub work: Work,
    pub inputs: Vec<Place>,
    pub outputs: Vec<Place>,
    /// Whether all must be done with the steps before.
    pub wait: bool,
    /// Values to show when it is done.
    pub shows: Vec<(ValueId, Place)>,
}

/// Where values stand: `[rows, width]`, for the widest that stands there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Buffer {
    pub rows: RowSpace,
    pub width: usize,
}

pub(super) struct Plan {
    pub steps: Vec<PlanStep>,
    pub buffers: Vec<Buffer>,
    /// What buffers hold from the beginning; empty for all but weights used as values.
    pub constants: Vec<Vec<f32>>,
    /// Room that roundings need.
    pub rounded: Vec<(RowSpace, usize)>,
    /// Steps before which a pass pauses to show values.
    pub stops: Vec<usize>,
    pub output: Option<Place>,
}

/// What a step reads or writes, for finding where to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Resource {
    Buffer(usize),
    Rounded,
    Cache(usize),
    Routing(usize),
}

impl Plan {
    /// Plans a program, whose tensors are on the CPU; also gives back its ropes.
    pub fn new(program: Program) -> Result<(Self, Vec<Rope>), EngineError> {
        let Program { mut steps, slots, wanted, output, ropes, caches, .. } = program;
        let shown: HashSet<usize> = wanted.iter().map(|(_, slot)| *slot).collect();
        fuse_gates(&mut steps, &slots, &shown);
        let mut plan = Self {
            steps: Vec::new(),
            buffers: Vec::new(),
            constants: Vec::new(),
            rounded: Vec::new(),
            stops: Vec::new(),
            output: None,
        };
        let mut places: Vec<Option<Place>> = vec![None; slots.len()];
        let mut free: Vec<usize> = Vec::new();
        // Which slot's values were rounded last.
        let mut held: Option<usize> = None;
        for step in steps {
            let Step { op, inputs, outputs, release, .. } = step;
            let read: Vec<Place> = inputs.iter().filter_map(|slot| places[*slot]).collect();
            let multiplied = match &op {
                Op::Linear { weight, .. } => Some(&**weight),
                Op::GroupedLinear { weights, .. } => weights.first(),
                _ => None,
            };
            if multiplied.is_some_and(rounds) && held != Some(inputs[0]) {
                held = Some(inputs[0]);
                plan.rounded.push((slots[inputs[0]].rows, slots[inputs[0]].width));
                plan.push(Work::Round, read.clone(), vec![]);
            }
            let op = op.on_cpu()?;
            // A weight as a value stands in its buffer from the beginning.
            let constant = if let Op::Parameter(numbers) = &op { Some(numbers.clone()) } else { None };
            // Attention reads the cache itself: what a cache puts out is never stored.
            let stored = if matches!(op, Op::Cache(_)) { &[][..] } else { &outputs[..] };
            for slot in stored {
                let wanted = slots[*slot];
                // The one that is least too wide, or else that needs the least widening.
                let fits = |at: &usize| plan.buffers[free[*at]].rows == wanted.rows && constant.is_none();
                let reusable = (0..free.len()).filter(fits).min_by_key(|at| {
                    let width = plan.buffers[free[*at]].width;
                    (width < wanted.width, width.abs_diff(wanted.width))
                });
                let buffer = match reusable {
                    Some(at) => free.swap_remove(at),
                    None => {
                        plan.buffers.push(Buffer { rows: wanted.rows, width: 0 });
                        plan.constants.push(constant.clone().unwrap_or_default());
                        plan.buffers.len() - 1
                    }
                };
                plan.buffers[buffer].width = plan.buffers[buffer].width.max(wanted.width);
                places[*slot] = Some(Place { buffer, width: wanted.width });
            }
            let observed = match &op {
                Op::Attention { cache, .. } if caches[*cache].eviction.is_some() => Some((*cache, read[0])),
                _ => None,
            };
            if constant.is_none() {
                plan.push(Work::Op(op), read, stored.iter().filter_map(|slot| places[*slot]).collect());
                let shows: Vec<(ValueId, Place)> = wanted
                    .iter()
                    .filter(|(_, slot)| stored.contains(slot))
                    .filter_map(|(value, slot)| Some((*value, places[*slot]?)))
                    .collect();
                if !shows.is_empty() {
                    plan.stops.push(plan.steps.len());
                }
                if let Some(last) = plan.steps.last_mut() {
                    last.shows = shows;
                }
            }
            if let Some((cache, queries)) = observed {
                plan.push(Work::Observe(cache), vec![queries], vec![]);
            }
            for slot in release {
                // A weight used as a value keeps its buffer for the next pass.
                if let Some(place) = places[slot].take().filter(|place| plan.constants[place.buffer].is_empty()) {
                    free.push(place.buffer);
                }
            }
        }
        plan.output = output.and_then(|slot| places[slot]);
        plan.find_waits();
        Ok((plan, ropes))
    }

    fn push(&mut self, work: Work, inputs: Vec<Place>, outputs: Vec<Place>) {
        self.steps.push(PlanStep { work, inputs, outputs, wait: false, shows: vec![] });
    }

    fn find_waits(&mut self) {
        let (mut read, mut written) = (HashSet::new(), HashSet::new());
        for (index, step) in self.steps.iter_mut().enumerate() {
            let (mut reads, mut writes): (Vec<Resource>, Vec<Resource>) = (
                step.inputs.iter().map(|place| Resource::Buffer(place.buffer)).collect(),
                step.outputs.iter().map(|place| Resource::Buffer(place.buffer)).collect(),
            );
            match &step.work {
                Work::Round => writes.push(Resource::Rounded),
                Work::Op(Op::Linear { weight, .. }) => reads.extend(rounds(weight).then_some(Resource::Rounded)),
                Work::Op(Op::GroupedLinear { weights, by }) => {
                    reads.extend(weights.first().is_some_and(rounds).then_some(Resource::Rounded));
                    reads.extend(routing(*by));
                }
                Work::Op(Op::Route { routing, .. }) => writes.push(Resource::Routing(*routing)),
                Work::Op(Op::Take(by) | Op::Give(by)) => reads.extend(routing(*by)),
                Work::Op(Op::Cache(cache)) | Work::Observe(cache) => writes.push(Resource::Cache(*cache)),
                Work::Op(Op::Attention { cache, .. }) => reads.push(Resource::Cache(*cache)),
                Work::Op(_) => {}
            }
            let conflict = reads.iter().any(|r| written.contains(r))
                || writes.iter().any(|r| written.contains(r) || read.contains(r));
            // Where a pass pauses, all are done anyway.
            let paused = self.stops.contains(&index);
            step.wait = conflict && !paused;
            if conflict || paused {
                read.clear();
                written.clear();
            }
            read.extend(reads);
            written.extend(writes);
        }
    }
}

/// Whether what a matrix multiplies is rounded.
fn rounds(matrix: &Matrix) -> bool {
    matches!(matrix, Matrix::Packed(_))
}

fn routing(by: Grouping) -> Option<Resource> {
    if let Grouping::Routed(routing) = by { Some(Resource::Routing(routing)) } else { None }
}

/// Makes one step of an activation followed by the only product that reads it.
pub(crate) fn fuse_gates(steps: &mut Vec<Step>, slots: &[Slot], shown: &HashSet<usize>) {
    let mut readers: HashMap<usize, usize> = HashMap::new();
    steps.iter().flat_map(|step| &step.inputs).for_each(|slot| *readers.entry(*slot).or_default() += 1);
    let mut at = 0;
    while at < steps.len() {
        let slot = steps[at].outputs.first().copied().filter(|slot| !shown.contains(slot));
        let gate = match steps[at].op {
            Op::Silu => Some(Gate::Silu),
            Op::GeluTanh => Some(Gate::GeluTanh),
            _ => None,
        };
        let product = match (gate, slot) {
            (Some(gate), Some(slot)) if readers.get(&slot) == Some(&1) => {
                // One row or column that goes with all is no gate's.
                let alike = |step: &Step| step.inputs.iter().all(|input| slots[*input] == slots[slot]);
                let multiplies = |step: &Step| matches!(step.op, Op::Mul) && step.inputs.contains(&slot) && alike(step);
                steps[at..].iter().position(multiplies).map(|product| (gate, product))
            }
            _ => None,
        };
        match product {
            Some((gate, product)) => {
                let activation = steps.remove(at);
                // The activation came first, so its removal moved the product up by one.
                let product = &mut steps[at + product - 1];
                let other =
                    *product.inputs.iter().find(|i| Some(**i) != slot).expect("a product has two different inputs");
                product.op = Op::Gated(gate);
                product.inputs = vec![activation.inputs[0], other];
                // What the activation was the last to read, the product now is.
                product.release.extend(activation.release);
            }
            None => at += 1,
        }
    }
}
