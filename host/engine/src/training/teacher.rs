//! The base model, from which others are distilled.

use super::Training;
use super::examples::Pass;
use super::hidden_states::{self, Exit};
use super::loss::{Goal, loss};
use super::network::Network;
use super::options::Objective;
use super::room::Room;
use super::run::{angles, rows_of};
use super::tape::{Keep, Tape};
use crate::EngineError;
use crate::rope::Angles;
use std::ops::Range;

/// A network that nothing of is trained.
pub(super) struct Teacher {
    network: Network,
    temperature: f32,
    /// Where hidden states are compared; the logits are, where there are none.
    exits: Option<Vec<Exit>>,
}

/// What it says of a pass.
pub(super) struct Lesson<'a> {
    teacher: &'a Teacher,
    tape: Tape<'a>,
}

impl Teacher {
    /// None where nothing is distilled.
    pub fn of(training: &Training<'_>, student: &Network) -> Result<Option<Self>, EngineError> {
        let network = match training.options.objective {
            Objective::CrossEntropy => return Ok(None),
            Objective::Distillation | Objective::HiddenStates => Network::new(training.teacher, &[])?,
        };
        let exits = match training.options.objective {
            Objective::HiddenStates => Some(hidden_states::exits(student, &network)?),
            _ => None,
        };
        Ok(Some(Self { network, temperature: training.options.temperature as f32, exits }))
    }

    /// Bytes that its hidden states take for each token.
    pub fn bytes_per_token(&self) -> usize {
        if self.exits.is_some() { self.network.border_bytes() } else { 0 }
    }

    /// Positions as angles, as it needs them.
    pub fn angles(&self, pass: &Pass) -> Vec<Angles> {
        angles(&self.network, pass)
    }

    /// Goes through a pass.
    pub fn teach<'a>(&'a self, pass: &'a Pass, angles: &'a [Angles], room: &'a Room) -> Lesson<'a> {
        let keep = if self.exits.is_some() { Keep::Borders } else { Keep::Nothing };
        let mut tape = Tape::new(&self.network, &pass.batch, angles, room);
        tape.forward(self.network.body(), &[], keep);
        Lesson { teacher: self, tape }
    }
}

impl Lesson<'_> {
    /// Whether it is of hidden states.
    pub fn is_of_hidden_states(&self) -> bool {
        self.teacher.exits.is_some()
    }

    /// The sum over rows of how far a student's hidden states are from these; gradients become those of `scale` times this.
    pub fn hidden_states(&self, student: &mut Tape<'_>, scale: Option<f32>) -> f64 {
        let exits = self.teacher.exits.as_deref().unwrap_or_default();
        hidden_states::loss(exits, student, &self.tape, scale)
    }

    /// The sum of the losses of some rows, whose logits become their gradients, times `scale`.
    pub fn logits(&self, pass: &Pass, part: &Range<usize>, room: &Room, logits: &mut [f32], scale: f32) -> f64 {
        let network = &self.teacher.network;
        let chunk = rows_of(network, self.tape.value(network.selected), part);
        let mut tape = Tape::of_rows(network, &pass.batch, &[], room, chunk);
        tape.forward(network.tail(), &[], Keep::Nothing);
        let expected = tape.take_value(network.logits);
        let goal = Goal::Teacher { logits: &expected, temperature: self.teacher.temperature };
        loss(logits, &vec![1f32; part.len()], &goal, scale)
    }
}
