//! The study: what may be chosen, what was measured, what follows from it, and the loop that goes from one to the next.
//! It sees strategies and workers only as traits, knows no model and no plugin, and survives being killed at any moment.

mod analysis;
mod conditions;
mod config;
mod confirmation;
mod constraint;
mod doubt;
mod earlier;
mod event;
mod figures;
#[cfg(test)]
mod fixtures;
mod importance;
pub mod metrics;
mod model;
mod observed;
mod points;
mod run;
mod sample;
mod space;
mod stats;
mod store;
mod student;
mod timings;
mod traits;
mod weight;

pub use analysis::{Analysis, Contenders, Recommendation, TrialAnalysis, pareto_json};
pub use conditions::{Companion, Conditions, DeclaredPower, Reference};
pub use config::{
    ACCURACY, BudgetSection, CalibrationSection, ConfigError, EnergySection, EvaluatorSection, Overrides,
    StrategySection, StudyFile, StudySection, TimeLimit,
};
pub use constraint::{Constraint, ConstraintError};
pub use earlier::EarlierStudy;
pub use event::{Asked, Event};
pub use figures::{Efficiency, Figures, Violation};
pub use importance::{Importance, ParameterImportance};
pub use model::*;
pub use observed::history;
pub use run::{Finished, Limits, RunError, Session, problem, run};
pub use sample::subset;
pub use space::{Space, SpaceError, narrowed};
pub use stats::{
    Comparison, Drop, Estimate, accuracy_drop, compare, median, median_estimate, percentile, transformed_mean,
    weighted_mean,
};
pub use store::{RunLock, Store, StoreError, StudySummary};
pub use timings::TimingsSummary;
pub use traits::*;
pub use weight::{Weight, WeightError};
