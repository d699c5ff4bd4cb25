// The configurations that a problem allows: a strategy says how far along its domain each parameter lies, and gets a
// configuration that is inside the space and honours conditions, conflicts and requirements. Its texts are those of the
// problem, not copies of them.
#ifndef AEHOST_SPACE_H
#define AEHOST_SPACE_H

#include "strategy_plugin.h"

// The generated names without what all of them begin with.
typedef strategy_plugin_string_t text;
typedef strategy_plugin_list_string_t texts;
typedef aehost_plugin_common_error_t error;
typedef aehost_plugin_common_value_t value;
typedef aehost_plugin_common_setting_t setting;
typedef aehost_plugin_common_domain_t domain;
typedef aehost_plugin_common_parameter_t parameter;
typedef aehost_plugin_feasibility_choice_t choice;
typedef exports_aehost_plugin_strategy_list_choice_t configuration;
typedef exports_aehost_plugin_strategy_technique_space_t technique;
typedef exports_aehost_plugin_strategy_problem_t problem;
typedef exports_aehost_plugin_strategy_proposal_t proposal;
typedef exports_aehost_plugin_strategy_observation_t observation;
typedef exports_aehost_plugin_strategy_list_constraint_t constraints;

// Random numbers that depend on nothing but the seed (splitmix64): moves `state` on, and gives 64 bits.
uint64_t random_bits(uint64_t *state);
// Uniform in [0, 1).
double random_unit(uint64_t *state);

// How many numbers place a configuration: one a technique, and one a parameter.
size_t coordinates(const problem *of);

// The configuration at a point of the unit cube, which has one coordinate a technique, in the order of the problem, and then
// one a parameter. A technique is on where its coordinate is small, so that at most three are on average; of those that exclude
// one another the one with the smallest coordinate stays, and what lacks its requirements goes. A parameter is as far along its
// domain as its coordinate says. Free it with `configuration_free`.
configuration configuration_at(const problem *of, const double *point);
// What the host frees of a proposal itself: texts are copied.
configuration configuration_copy(const configuration *of);
void configuration_free(configuration *of);

// Equal for equal configurations; for others it differs, but once in 2^64.
uint64_t configuration_hash(const configuration *of);

// Whether a configuration breaks no limit that is known without a measurement. The host is asked only where there is a limit on
// memory: its answer costs applying the configuration, and what cannot be applied it refuses unmeasured anyway.
bool admitted(const configuration *of, const constraints *limits);

bool same_text(text a, text b);

#endif
