// A sampler of low discrepancy: configurations at the points of a Halton sequence, which fill the space more evenly than random
// draws do. Digits are scrambled and points are rotated at random (Owen: A randomized Halton algorithm in R, 2017), as in many
// dimensions neighbouring coordinates would go in step otherwise, and for another seed to give another sequence.
#include "space.h"

#include <stdio.h>
#include <stdlib.h>

// Points in a row that may give nothing new or nothing allowed before the space counts as used up.
static const uint64_t POINTS = 2000;

// One dimension of the sequence.
struct axis {
    uint64_t base, multiplier;
    double rotation;
};

struct exports_aehost_plugin_strategy_optimizer_t {
    problem problem;
    struct axis *axes;
    double *point;
    uint64_t points, proposed;
    // Hashes of all configurations that came up so far.
    uint64_t *seen;
    size_t seen_count, seen_room;
};
typedef struct exports_aehost_plugin_strategy_optimizer_t optimizer;

static uint64_t prime_after(uint64_t number) {
    for (bool prime = false; !prime;) {
        number++;
        prime = true;
        for (uint64_t divisor = 2; prime && divisor * divisor <= number; divisor++) prime = number % divisor != 0;
    }
    return number;
}

// The index with its digits scrambled and mirrored at the point.
static double radical_inverse(uint64_t index, const struct axis *axis) {
    double sum = 0, place = 1;
    for (; index > 0; index /= axis->base) {
        place /= (double)axis->base;
        sum += (double)(index % axis->base * axis->multiplier % axis->base) * place;
    }
    return sum;
}

// Notes a configuration; whether it is new.
static bool note(optimizer *self, uint64_t hash) {
    for (size_t i = 0; i < self->seen_count; i++) {
        if (self->seen[i] == hash) return false;
    }
    if (self->seen_count == self->seen_room) {
        self->seen_room = 2 * self->seen_room + 64;
        self->seen = realloc(self->seen, self->seen_room * sizeof *self->seen);
    }
    self->seen[self->seen_count++] = hash;
    return true;
}

// The next configuration that is new and allowed; whether there is one.
static bool next(optimizer *self, configuration *found) {
    for (uint64_t i = 0; i < POINTS; i++) {
        self->points++;
        for (size_t axis = 0; axis < coordinates(&self->problem); axis++) {
            double at = radical_inverse(self->points, &self->axes[axis]) + self->axes[axis].rotation;
            self->point[axis] = at < 1 ? at : at - 1;
        }
        *found = configuration_at(&self->problem, self->point);
        if (note(self, configuration_hash(found)) && admitted(found, &self->problem.constraints)) return true;
        configuration_free(found);
    }
    return false;
}

void exports_aehost_plugin_strategy_describe(exports_aehost_plugin_strategy_description_t *ret) {
    *ret = (exports_aehost_plugin_strategy_description_t){0};
    strategy_plugin_string_dup(&ret->identity.id, "halton");
    strategy_plugin_string_dup(&ret->identity.version, "0.1.0");
    strategy_plugin_string_dup(&ret->identity.summary, "Fills the space evenly, whatever was measured.");
    strategy_plugin_string_dup(&ret->identity.reference, "Owen: A randomized Halton algorithm in R, 2017");
}

bool exports_aehost_plugin_strategy_static_optimizer_start(
    problem *of, exports_aehost_plugin_strategy_own_optimizer_t *ret, error *err) {
    (void)err;
    size_t count = coordinates(of);
    optimizer *self = calloc(1, sizeof *self);
    // It is ours now, and what it points to with it.
    self->problem = *of;
    self->axes = malloc(count * sizeof *self->axes);
    self->point = malloc(count * sizeof *self->point);
    uint64_t random = of->seed, prime = 1;
    for (size_t i = 0; i < count; i++) {
        prime = prime_after(prime);
        self->axes[i] = (struct axis){prime, 1 + random_bits(&random) % (prime - 1), random_unit(&random)};
    }
    // The baseline is known.
    note(self, configuration_hash(&(configuration){0}));
    *ret = exports_aehost_plugin_strategy_optimizer_new(self);
    return true;
}

bool exports_aehost_plugin_strategy_method_optimizer_ask(
    optimizer *self, uint32_t count, exports_aehost_plugin_strategy_list_proposal_t *ret, error *err) {
    (void)err;
    ret->ptr = malloc(count * sizeof *ret->ptr);
    configuration found;
    for (ret->len = 0; ret->len < count && next(self, &found); configuration_free(&found)) {
        proposal *made = &ret->ptr[ret->len++];
        made->trial = ++self->proposed;
        made->configuration = configuration_copy(&found);
        made->fidelity = 1;
        char why[64];
        snprintf(why, sizeof why, "point %llu of the Halton sequence", (unsigned long long)self->points);
        strategy_plugin_string_dup(&made->why, why);
    }
    if (ret->len == 0) free(ret->ptr);
    return true;
}

bool exports_aehost_plugin_strategy_method_optimizer_tell(
    optimizer *self, exports_aehost_plugin_strategy_list_observation_t *observations, error *err) {
    (void)self, (void)err;
    exports_aehost_plugin_strategy_list_observation_free(observations);
    return true;
}

void exports_aehost_plugin_strategy_method_optimizer_outlook(optimizer *self, exports_aehost_plugin_strategy_outlook_t *ret) {
    char note[96];
    snprintf(note, sizeof note, "%llu of %llu points of the sequence were new and allowed", (unsigned long long)self->proposed,
             (unsigned long long)self->points);
    *ret = (exports_aehost_plugin_strategy_outlook_t){.notes = {malloc(sizeof *ret->notes.ptr), 1}};
    strategy_plugin_string_dup(ret->notes.ptr, note);
}

void exports_aehost_plugin_strategy_optimizer_destructor(optimizer *self) {
    exports_aehost_plugin_strategy_problem_free(&self->problem);
    free(self->axes);
    free(self->point);
    free(self->seen);
    free(self);
}
