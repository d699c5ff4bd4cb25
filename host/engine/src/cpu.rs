//! Runs a program on the CPU. A [`Plan`] made once says which buffer each value stands in and where the threads of the
//! [`Team`] must wait for one another; a pass allocates nothing but its output.

mod plan;
mod run;
mod team;

use crate::EngineError;
use crate::batch::{Batch, Sequence};
use crate::model::Observer;
use crate::packed::Activations;
use crate::program::{Program, RowSpace};
use crate::rope::Rope;
use crate::routing::Routing;
use candle_core::{Device, Tensor};
pub(crate) use plan::fuse_gates;
use plan::{Place, Plan};
use std::sync::{Arc, Mutex, PoisonError};
pub(crate) use team::Team;

/// A program ready to run on the CPU.
pub(crate) struct CpuModel {
    plan: Plan,
    ropes: Vec<Rope>,
    team: Arc<Team>,
    arena: Mutex<Arena>,
}

/// What the values of a pass stand in; kept from one pass to the next.
#[derive(Default)]
struct Arena {
    buffers: Vec<Vec<f32>>,
    rounded: Activations,
    routings: Vec<Routing>,
}

impl Arena {
    /// Makes room for a pass.
    fn prepare(&mut self, plan: &Plan, rows: impl Fn(RowSpace) -> usize) {
        self.buffers.resize_with(plan.buffers.len(), Vec::new);
        for (i, (room, buffer)) in self.buffers.iter_mut().zip(&plan.buffers).enumerate() {
            let len = rows(buffer.rows) * buffer.width;
            // The caller gets the buffer of the output itself, so that it is a new one each time.
            let taken = plan.output.is_some_and(|output| output.buffer == i);
            if room.len() < len || taken {
                // Growing in place would copy what nobody needs.
                *room = vec![0.0; len];
            }
        }
        for (space, width) in &plan.rounded {
            self.rounded.reserve(rows(*space) * width);
        }
    }
}

impl CpuModel {
    pub fn new(program: Program, team: Arc<Team>) -> Result<Self, EngineError> {
        let routings = (0..program.routings).map(|_| Routing::default()).collect();
        let (plan, ropes) = Plan::new(program)?;
        let arena = Arena { buffers: plan.constants.clone(), routings, ..Arena::default() };
        Ok(Self { plan, ropes, team, arena: Mutex::new(arena) })
    }

    /// One pass: its output, where the program makes one.
    pub fn run(
        &self,
        batch: &Batch,
        sequences: &mut [Sequence<'_>],
        mut observer: Option<&mut Observer<'_>>,
    ) -> Result<Option<Tensor>, EngineError> {
        let plan = &self.plan;
        let rows = |space: RowSpace| batch.count(space);
        let mut arena = self.arena.lock().unwrap_or_else(PoisonError::into_inner);
        arena.prepare(plan, rows);
        let shape = |place: &Place| (rows(plan.buffers[place.buffer].rows), place.width);
        let pass = run::Pass::new(plan, batch, &self.ropes, sequences, &mut arena);
        let mut start = 0;
        for end in plan.stops.iter().copied().chain([plan.steps.len()]) {
            if start == end {
                continue;
            }
            self.team.run(&|member| {
                for index in start..end {
                    pass.step(index, member);
                }
            });
            if let Some(see) = observer.as_mut() {
                let step = &plan.steps[end - 1];
                for (value, place) in &step.shows {
                    see(*value, &Tensor::from_slice(pass.values(place), shape(place), &Device::Cpu)?)?;
                }
            }
            start = end;
        }
        let Some(place) = &plan.output else { return Ok(None) };
        let mut output = std::mem::take(&mut arena.buffers[place.buffer]);
        let (rows, width) = shape(place);
        // A wider value may have stood there before.
        output.truncate(rows * width);
        Ok(Some(Tensor::from_vec(output, shape(place), &Device::Cpu)?))
    }
}
