//! The interface `training`: gradient training of some weights of the variant as edited so far.

use super::graph::Editor;
use crate::bindings::shared::training as wit;
use crate::convert;
use crate::state::{Answer, HostCall};
use aehost_common::{Fault, Point};
use aehost_engine::{Trainable, TrainingOptions};
use wasmtime::component::Resource;

impl wit::Host for HostCall<'_> {
    fn train(
        &mut self,
        model: Resource<Editor>,
        trainable: Vec<wit::Trainable>,
        settings: Vec<crate::bindings::shared::common::Setting>,
    ) -> Answer<wit::Curve> {
        let none = || {
            Fault::unsupported(
                "the study has no training data: name some by --training, or under `training` in the study file",
            )
        };
        let trainer = self.services.trainer.clone().ok_or_else(none)?;
        let trainable = trainable.into_iter().map(trainable_in).collect::<Result<Vec<_>, _>>()?;
        let options = TrainingOptions::of(&convert::settings_in(settings)?.0)?;
        let options = options.shortened(self.services.fidelity.0);
        let mut variant = self.editor(&model)?.clone();
        variant.check()?;
        let log = &mut self.log;
        let curve = trainer.train(&mut variant, &trainable, &options, &mut |point, steps| {
            log.train(point, steps);
            Ok(())
        })?;
        *self.editor(&model)? = variant;
        let point = |p: Point| wit::Point { step: p.step as u32, loss: p.loss, held_out: p.held_out };
        Ok(wit::Curve { points: curve.points.into_iter().map(point).collect(), tokens: curve.tokens })
    }
}

fn trainable_in(told: wit::Trainable) -> Result<Trainable, Fault> {
    match told.rate.is_finite() && told.rate >= 0.0 {
        true => Ok(Trainable { weight: told.weight, rate: told.rate }),
        false => Err(Fault::invalid(format!("weight `{}`: the rate {} must be at least 0", told.weight, told.rate))),
    }
}
