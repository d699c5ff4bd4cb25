//! NSGA-II (Deb et al., IEEE Transactions on Evolutionary Computation 6(2), 2002) for tens of measurements: constrained
//! domination, crowding, and crossover that keeps stages together. Steady-state (Durillo et al., EMO 2009): every child is
//! bred from all that is known when it is asked for, so results count at once whatever the number of workers.

mod search;

aehost_sdk::strategy!(search::Nsga2);

#[cfg(test)]
mod tests;
