//! Strategies, adapted to the study's traits. Each start has an instance of its own; once a call fails, the instance is
//! never entered again, and every further call answers with the same fault.

use crate::bindings::strategy::exports::aehost::plugin::strategy as wit;
use crate::bindings::strategy::{StrategyPlugin, StrategyPluginPre};
use crate::convert;
use crate::host::feasibility::{Feasibility, configuration_in, configuration_out};
use crate::plugin::{Name, Plugin};
use crate::state::{Services, State};
use aehost_common::{Fault, StrategyDescription};
use aehost_study::{
    EarlierStudy, Observation, Observed, Outlook, Problem, Proposal, Strategy, StrategyFactory, TechniqueSpace, TrialId,
};
use std::sync::Arc;
use wasmtime::Store;
use wasmtime::component::ResourceAny;

/// A loaded strategy; cheap to clone. It starts strategies of the study.
#[derive(Clone)]
pub struct LoadedStrategy {
    inner: Arc<Inner>,
    feasibility: Option<Arc<Feasibility>>,
}

struct Inner {
    plugin: Plugin,
    description: StrategyDescription,
}

fn open(plugin: &Plugin, function: &str, services: Services) -> Result<(Store<State>, StrategyPlugin), Fault> {
    plugin.start(services, function, |code, store| StrategyPluginPre::new(code)?.instantiate(store))
}

/// Its own words.
fn told(plugin: &Plugin) -> Result<wit::Description, Fault> {
    let (mut store, guest) = open(plugin, "describe", Services::default())?;
    plugin.call(&mut store, "describe", |store| guest.aehost_plugin_strategy().call_describe(store))
}

impl LoadedStrategy {
    pub(crate) fn new(plugin: Plugin, description: StrategyDescription) -> Self {
        Self { inner: Arc::new(Inner { plugin, description }), feasibility: None }
    }

    /// Who it is.
    pub fn name(&self) -> &Name {
        &self.inner.plugin.name
    }

    /// What it says of itself.
    pub fn description(&self) -> &StrategyDescription {
        &self.inner.description
    }

    /// The same strategy, which may ask whether configurations are allowed. The function must be pure.
    #[must_use]
    pub fn with_feasibility(&self, check: Arc<Feasibility>) -> Self {
        Self { inner: self.inner.clone(), feasibility: Some(check) }
    }

    /// Asks a plugin what it says of itself.
    pub(crate) fn ask(plugin: &Plugin) -> Result<StrategyDescription, Fault> {
        let told = told(plugin)?;
        let broken = |fault: Fault| plugin.broken("describe", fault.full());
        Ok(StrategyDescription {
            identity: convert::identity_in(told.identity).map_err(broken)?,
            parameters: convert::parameters_in(told.parameters).map_err(broken)?,
            multi_fidelity: told.multi_fidelity,
        })
    }

    /// Its very words, asked anew for the conformance check.
    pub(crate) fn describe_again(&self) -> Result<String, Fault> {
        Ok(format!("{:?}", told(&self.inner.plugin)?))
    }
}

impl StrategyFactory for LoadedStrategy {
    fn start(&self, problem: &Problem) -> Result<Box<dyn Strategy>, Fault> {
        let plugin = &self.inner.plugin;
        let services = Services { feasibility: self.feasibility.clone(), ..Services::default() };
        let (mut store, guest) = open(plugin, "start", services)?;
        let problem = problem_out(problem);
        let optimizer = plugin
            .call(&mut store, "start", |store| guest.aehost_plugin_strategy().optimizer().call_start(store, &problem))?
            .map_err(|e| plugin.own(e))?;
        Ok(Box::new(Running { inner: self.inner.clone(), store, guest, optimizer, failed: None }))
    }
}

struct Running {
    inner: Arc<Inner>,
    store: Store<State>,
    guest: StrategyPlugin,
    optimizer: ResourceAny,
    failed: Option<Fault>,
}

impl Running {
    fn call<R>(
        &mut self,
        function: &str,
        body: impl FnOnce(wit::GuestOptimizer<'_>, &mut Store<State>, ResourceAny) -> wasmtime::Result<R>,
    ) -> Result<R, Fault> {
        if let Some(fault) = &self.failed {
            return Err(fault.clone());
        }
        let (guest, optimizer) = (&self.guest, self.optimizer);
        let result = self.inner.plugin.call(&mut self.store, function, |store| {
            body(guest.aehost_plugin_strategy().optimizer(), store, optimizer)
        });
        if let Err(fault) = &result {
            self.failed = Some(fault.clone());
        }
        result
    }
}

impl Strategy for Running {
    fn ask(&mut self, count: u32) -> Result<Vec<Proposal>, Fault> {
        let plugin = self.inner.clone();
        let proposals = self
            .call("ask", |guest, store, optimizer| guest.call_ask(store, optimizer, count))?
            .map_err(|e| plugin.plugin.own(e))?;
        let broken = |why: String| plugin.plugin.broken("ask", why);
        if proposals.len() > count as usize {
            return Err(broken(format!("it proposed {} configurations where {count} were asked for", proposals.len())));
        }
        proposals
            .into_iter()
            .map(|p| {
                if !(p.fidelity > 0.0 && p.fidelity <= 1.0) {
                    return Err(broken(format!("fidelity {} of trial {} is outside (0, 1]", p.fidelity, p.trial)));
                }
                if p.trial == 0 {
                    return Err(broken("it proposed trial 0, which is the baseline".into()));
                }
                Ok(Proposal {
                    trial: TrialId(p.trial),
                    configuration: configuration_in(p.configuration).map_err(|f| broken(f.full()))?,
                    fidelity: p.fidelity,
                    why: convert::text(p.why),
                })
            })
            .collect()
    }

    fn tell(&mut self, observations: &[Observation]) -> Result<(), Fault> {
        let told: Vec<wit::Observation> = observations.iter().map(observation_out).collect();
        let plugin = self.inner.clone();
        self.call("tell", |guest, store, optimizer| guest.call_tell(store, optimizer, &told))?
            .map_err(|e| plugin.plugin.own(e))
    }

    /// A strategy that fails here has nothing to say; its next ask tells why.
    fn outlook(&mut self) -> Outlook {
        let told = self.call("outlook", |guest, store, optimizer| guest.call_outlook(store, optimizer));
        told.map(|o| Outlook {
            remaining_gain: o.remaining_gain.filter(|g| g.is_finite()),
            notes: o.notes.into_iter().take(20).map(convert::text).collect(),
        })
        .unwrap_or_default()
    }
}

fn space_out(space: &TechniqueSpace) -> wit::TechniqueSpace {
    let TechniqueSpace { description, parameters } = space;
    wit::TechniqueSpace {
        technique: description.identity.id.clone(),
        stage: convert::stage_out(description.stage),
        parameters: convert::parameters_out(parameters),
        conflicts: description.conflicts.clone(),
        after: description.after.clone(),
        provides: description.provides.clone(),
        requires: description.requires.clone(),
    }
}

fn problem_out(problem: &Problem) -> wit::Problem {
    wit::Problem {
        space: problem.space.iter().map(space_out).collect(),
        objectives: problem
            .objectives
            .iter()
            .map(|o| wit::Objective { metric: o.metric.clone(), direction: convert::direction_out(o.direction) })
            .collect(),
        constraints: problem
            .constraints
            .iter()
            .map(|c| wit::Constraint { metric: c.metric.clone(), at_most: c.at_most, bound: c.bound })
            .collect(),
        facts: convert::facts_out(&problem.facts),
        settings: convert::settings_out(&problem.settings),
        budget: problem.budget,
        seed: problem.seed,
        earlier: problem.earlier.iter().map(earlier_out).collect(),
    }
}

fn earlier_out(study: &EarlierStudy) -> wit::EarlierStudy {
    wit::EarlierStudy {
        name: study.name.clone(),
        model: study.model.clone(),
        device: study.device.clone(),
        observations: study.observations.iter().map(observation_out).collect(),
    }
}

fn observation_out(observation: &Observation) -> wit::Observation {
    wit::Observation {
        trial: observation.trial.0,
        configuration: configuration_out(&observation.configuration),
        fidelity: observation.fidelity,
        outcome: match &observation.outcome {
            Observed::Measured { metrics } => wit::Outcome::Measured(
                metrics
                    .iter()
                    .map(|m| wit::MetricValue {
                        metric: m.metric.clone(),
                        value: m.value,
                        standard_error: m.standard_error,
                    })
                    .collect(),
            ),
            Observed::Infeasible { reason, amount } => {
                wit::Outcome::Infeasible(wit::Violation { reason: reason.clone(), amount: *amount })
            }
            Observed::Failed { message } => wit::Outcome::Failed(message.clone()),
        },
    }
}
