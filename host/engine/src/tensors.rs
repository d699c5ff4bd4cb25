//! Runs a program on candle's tensors, on any device; the reference for the CPU's own executor. Caches and attention live
//! in the CPU's memory.

use crate::EngineError;
use crate::attention::attention;
use crate::batch::{Batch, Sequence};
use crate::model::Observer;
use crate::program::{Gate, IDS, Op, POSITIONS, Program, Step};
use crate::rope::Angles;
use crate::routing::{Grouped, Grouping, Routing};
use candle_core::{Device, Storage, Tensor};

/// The numbers of a tensor in the CPU's memory.
pub(crate) fn floats<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R, EngineError> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => {
            let values = cpu.as_slice::<f32>()?;
            Ok(f(&values[layout.start_offset()..layout.start_offset() + tensor.elem_count()]))
        }
        _ => Err(EngineError::Unsupported("this value is not in the CPU's memory".into())),
    }
}

/// A program and its device.
pub(crate) struct TensorModel {
    program: Program,
    device: Device,
}

impl TensorModel {
    pub fn new(program: Program, device: Device) -> Self {
        Self { program, device }
    }

    /// One pass: its output, where the program makes one.
    pub fn run(
        &self,
        batch: &Batch,
        sequences: &mut [Sequence<'_>],
        mut observer: Option<&mut Observer<'_>>,
    ) -> Result<Option<Tensor>, EngineError> {
        let program = &self.program;
        let angles: Vec<Angles> = program.ropes.iter().map(|r| r.angles(&batch.positions)).collect();
        let mut values: Vec<Option<Tensor>> = vec![None; program.slots.len()];
        values[IDS] = Some(Tensor::from_slice(&batch.tokens, batch.tokens.len(), &self.device)?);
        values[POSITIONS] = Some(Tensor::from_slice(&batch.positions, batch.positions.len(), &self.device)?);
        let mut routings: Vec<Routing> = (0..program.routings).map(|_| Routing::default()).collect();
        for step in &program.steps {
            self.execute(step, batch, &angles, sequences, &mut routings, &mut values).map_err(|e| match e {
                EngineError::Tensor(why) => EngineError::Tensor(format!("node `{}`: {why}", step.name)),
                other => other,
            })?;
            if let Some(see) = observer.as_mut() {
                for (value, slot) in program.wanted.iter().filter(|(_, slot)| step.outputs.contains(slot)) {
                    see(*value, values[*slot].as_ref().expect("the step just made it"))?;
                }
            }
            for slot in &step.release {
                values[*slot] = None;
            }
        }
        Ok(program.output.and_then(|slot| values[slot].take()))
    }

    fn execute(
        &self,
        step: &Step,
        batch: &Batch,
        angles: &[Angles],
        sequences: &mut [Sequence<'_>],
        routings: &mut [Routing],
        values: &mut [Option<Tensor>],
    ) -> Result<(), EngineError> {
        let input = |i: usize| {
            values[step.inputs[i]]
                .as_ref()
                .ok_or_else(|| EngineError::Invalid(format!("node `{}` reads a value that is gone", step.name)))
        };
        let tokens = batch.tokens.len();
        let output = match &step.op {
            Op::Embedding { weight, scale } => {
                let x = weight.rows(input(0)?, &batch.tokens)?;
                match scale {
                    Some(s) => (x * *s)?,
                    None => x,
                }
            }
            Op::Linear { weight, bias } => {
                let y = weight.product(input(0)?)?;
                match bias {
                    Some(bias) => y.broadcast_add(bias)?,
                    None => y,
                }
            }
            Op::Route { spec, routing } => {
                let logits = input(0)?.to_device(&Device::Cpu)?;
                floats(&logits, |logits| routings[*routing].route(spec, logits))?;
                return Ok(());
            }
            Op::Take(by) => {
                let grouped = grouped(*by, routings, tokens);
                self.by_rows(step, batch, input(0)?, |row, x, width, to| grouped.take(row, x, width, to))?
            }
            Op::Give(by) => {
                let grouped = grouped(*by, routings, tokens);
                self.by_rows(step, batch, input(0)?, |token, y, width, to| grouped.give(token, y, width, to))?
            }
            Op::GroupedLinear { weights, by } => {
                let (x, grouped) = (input(0)?, grouped(*by, routings, tokens));
                let mut parts = Vec::new();
                for (group, weight) in weights.iter().enumerate() {
                    let rows = grouped.rows(group);
                    if !rows.is_empty() {
                        parts.push(weight.product(&x.narrow(0, rows.start, rows.len())?)?);
                    }
                }
                Tensor::cat(&parts, 0)?
            }
            Op::Concat(groups) => {
                let parts =
                    [input(0)?, input(1)?].map(|x| x.reshape((tokens, *groups, x.elem_count() / tokens / groups)));
                let [a, b] = parts;
                Tensor::cat(&[a?, b?], 2)?.reshape((tokens, ()))?
            }
            Op::RmsNorm { weight, epsilon } => {
                let x = input(0)?;
                let n = weight.elem_count();
                let grouped = x.reshape((x.elem_count() / n, n))?;
                candle_nn::ops::rms_norm(&grouped.contiguous()?, weight, *epsilon as f32)?.reshape(x.shape())?
            }
            Op::LayerNorm { weight, bias, epsilon } => {
                let x = input(0)?.contiguous()?;
                let n = weight.elem_count();
                let grouped = x.reshape((x.elem_count() / n, n))?;
                let zero;
                let bias = match bias {
                    Some(b) => b,
                    None => {
                        zero = weight.zeros_like()?;
                        &zero
                    }
                };
                candle_nn::ops::layer_norm(&grouped, weight, bias, *epsilon as f32)?.reshape(x.shape())?
            }
            Op::Rope(index) => {
                let x = input(0)?;
                let (_, width) = x.dims2()?;
                let mut rotated = floats(&x.to_device(&Device::Cpu)?, <[f32]>::to_vec)?;
                self.program.ropes[*index].rotate(&mut rotated, width, &angles[*index], 0);
                Tensor::from_vec(rotated, x.shape(), &Device::Cpu)?.to_device(&self.device)?
            }
            Op::Cache(index) => {
                let (k, v) = (input(0)?.to_device(&Device::Cpu)?, input(1)?.to_device(&Device::Cpu)?);
                let spec = &self.program.caches[*index];
                floats(&k, |k| {
                    floats(&v, |v| {
                        for (sequence, part) in sequences.iter_mut().zip(&batch.parts) {
                            let rows = |x: &[f32], width: usize| -> std::ops::Range<usize> {
                                debug_assert!(part.end * width <= x.len());
                                part.start * width..part.end * width
                            };
                            sequence.cache.layers[*index].append(
                                &k[rows(k, spec.key_width)],
                                &v[rows(v, spec.value_width)],
                                &batch.positions[part.clone()],
                                &batch.branches[part.clone()],
                            );
                        }
                    })
                })??;
                // Attention reads the cache itself; its inputs only carry the order of execution.
                for (slot, from) in step.outputs.iter().zip(&step.inputs) {
                    values[*slot] = values[*from].clone();
                }
                return Ok(());
            }
            Op::Attention { spec, cache } => {
                let q = input(0)?.to_device(&Device::Cpu)?;
                let caches: Vec<_> = sequences.iter().map(|sequence| &sequence.cache.layers[*cache]).collect();
                let width = spec.heads * spec.value_dim;
                let mut out = vec![0f32; tokens * width];
                floats(&q, |q| attention(spec, q, batch, &caches, &mut out))?;
                floats(&q, |q| {
                    for (sequence, part) in sequences.iter_mut().zip(&batch.parts) {
                        let queries = part.start * spec.query_width()..part.end * spec.query_width();
                        sequence.cache.layers[*cache].observe(&q[queries]);
                    }
                })?;
                Tensor::from_vec(out, (tokens, width), &Device::Cpu)?.to_device(&self.device)?
            }
            Op::Add => input(0)?.broadcast_add(input(1)?)?,
            Op::Mul => input(0)?.broadcast_mul(input(1)?)?,
            Op::Silu => input(0)?.silu()?,
            Op::Gated(Gate::Silu) => (input(0)?.silu()? * input(1)?)?,
            Op::Gated(Gate::GeluTanh) => (input(0)?.gelu()? * input(1)?)?,
            Op::GeluTanh => input(0)?.gelu()?,
            Op::Gelu => input(0)?.gelu_erf()?,
            Op::Tanh => input(0)?.tanh()?,
            Op::Sigmoid => candle_nn::ops::sigmoid(input(0)?)?,
            Op::Relu => input(0)?.relu()?,
            Op::Scale(factor) => (input(0)? * *factor)?,
            Op::Softmax => candle_nn::ops::softmax_last_dim(&input(0)?.contiguous()?)?,
            Op::Dropout(_) => input(0)?.clone(),
            Op::Parameter(tensor) => tensor.clone(),
            Op::Given => Tensor::from_slice(&batch.given, (tokens, ()), &self.device)?,
            Op::Overlay if batch.images.is_empty() => input(0)?.clone(),
            Op::Overlay => {
                let x = input(0)?;
                let mut values = floats(&x.to_device(&Device::Cpu)?, <[f32]>::to_vec)?;
                batch.overlay(0..tokens, x.dims2()?.1, &mut values);
                Tensor::from_vec(values, x.shape(), &Device::Cpu)?.to_device(&self.device)?
            }
            Op::SelectRows => {
                let x = input(0)?;
                if batch.rows.len() == batch.tokens.len() {
                    x.clone()
                } else {
                    let rows = Tensor::from_slice(&batch.rows, batch.rows.len(), &self.device)?;
                    x.index_select(&rows, 0)?
                }
            }
        };
        values[step.outputs[0]] = Some(output);
        Ok(())
    }

    /// A value whose rows are made one by one, in the CPU's memory, from all of another.
    fn by_rows(
        &self,
        step: &Step,
        batch: &Batch,
        from: &Tensor,
        make: impl Fn(usize, &[f32], usize, &mut [f32]),
    ) -> Result<Tensor, EngineError> {
        let slot = &self.program.slots[step.outputs[0]];
        let rows = batch.count(slot.rows);
        let mut out = vec![0f32; rows * slot.width];
        let width = from.dims2()?.1;
        floats(&from.to_device(&Device::Cpu)?, |x| {
            out.chunks_exact_mut(slot.width).enumerate().for_each(|(row, to)| make(row, x, width, to));
        })?;
        Ok(Tensor::from_vec(out, (rows, slot.width), &Device::Cpu)?.to_device(&self.device)?)
    }
}

/// Rows by matrix, in this pass.
fn grouped(by: Grouping, routings: &[Routing], tokens: usize) -> Grouped<'_> {
    match by {
        Grouping::Routed(routing) => Grouped::Routed(&routings[routing]),
        Grouping::Stretches(_) => Grouped::Stretches { tokens },
    }
}
