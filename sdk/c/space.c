#include "space.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Techniques that are on in a configuration of a large space, on average: each costs accuracy.
static const double TOGETHER = 3;

uint64_t random_bits(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

double random_unit(uint64_t *state) { return (double)(random_bits(state) >> 11) / 0x1p53; }

bool same_text(text a, text b) { return a.len == b.len && memcmp(a.ptr, b.ptr, a.len) == 0; }

static bool contains(const texts *all, text one) {
    for (size_t i = 0; i < all->len; i++) {
        if (same_text(all->ptr[i], one)) return true;
    }
    return false;
}

// FNV-1a.
static uint64_t hash(uint64_t sum, const void *bytes, size_t len) {
    const uint8_t *byte = bytes;
    for (size_t i = 0; i < len; i++) sum = (sum ^ byte[i]) * 0x100000001b3;
    return sum;
}

static uint64_t hash_text(uint64_t sum, text of) { return hash(hash(sum, &of.len, sizeof of.len), of.ptr, of.len); }

static uint64_t hash_value(uint64_t sum, const value *of) {
    sum = hash(sum, &of->tag, sizeof of->tag);
    switch (of->tag) {
    case AEHOST_PLUGIN_COMMON_VALUE_FLAG:
        return hash(sum, &of->val.flag, sizeof of->val.flag);
    case AEHOST_PLUGIN_COMMON_VALUE_INTEGER:
        return hash(sum, &of->val.integer, sizeof of->val.integer);
    case AEHOST_PLUGIN_COMMON_VALUE_REAL:
        return hash(sum, &of->val.real, sizeof of->val.real);
    case AEHOST_PLUGIN_COMMON_VALUE_INTEGERS:
        return hash(sum, of->val.integers.ptr, of->val.integers.len * sizeof *of->val.integers.ptr);
    case AEHOST_PLUGIN_COMMON_VALUE_REALS:
        return hash(sum, of->val.reals.ptr, of->val.reals.len * sizeof *of->val.reals.ptr);
    case AEHOST_PLUGIN_COMMON_VALUE_TEXTS:
        for (size_t i = 0; i < of->val.texts.len; i++) sum = hash_text(sum, of->val.texts.ptr[i]);
        return sum;
    default:
        return hash_text(sum, of->val.text);
    }
}

uint64_t configuration_hash(const configuration *of) {
    uint64_t sum = 0xcbf29ce484222325;
    for (size_t i = 0; i < of->len; i++) {
        const choice *on = &of->ptr[i];
        sum = hash_text(sum, on->technique);
        for (size_t j = 0; j < on->settings.len; j++) {
            sum = hash_text(sum, on->settings.ptr[j].name);
            sum = hash_value(sum, &on->settings.ptr[j].value);
        }
    }
    return sum;
}

// Whether one names the other, or both provide the same.
static bool conflict(const technique *a, const technique *b) {
    if (contains(&a->conflicts, b->technique) || contains(&b->conflicts, a->technique)) return true;
    for (size_t i = 0; i < a->provides.len; i++) {
        if (contains(&b->provides, a->provides.ptr[i])) return true;
    }
    return false;
}

// Whether a technique that is on provides it before this one; techniques are in the order in which they apply.
static bool tag_provided(const problem *of, const bool *on, size_t before, text tag) {
    for (size_t i = 0; i < before; i++) {
        if (on[i] && contains(&of->space.ptr[i].provides, tag)) return true;
    }
    return false;
}

// Decides which techniques are on.
static void select_techniques(const problem *of, const double *point, bool *on) {
    size_t count = of->space.len;
    double share = fmin(TOGETHER / (double)count, 0.5);
    for (size_t i = 0; i < count; i++) on[i] = point[i] < share;
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (on[i] && on[j] && conflict(&of->space.ptr[i], &of->space.ptr[j])) on[point[i] < point[j] ? j : i] = false;
        }
    }
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < count; i++) {
            const technique *one = &of->space.ptr[i];
            for (size_t j = 0; on[i] && j < one->requires_.len; j++) {
                if (!tag_provided(of, on, i, one->requires_.ptr[j])) {
                    on[i] = false;
                    changed = true;
                }
            }
        }
    }
}

static value real(double of) { return (value){AEHOST_PLUGIN_COMMON_VALUE_REAL, {.real = of}}; }
static value integer(int64_t of) { return (value){AEHOST_PLUGIN_COMMON_VALUE_INTEGER, {.integer = of}}; }

// The slot of 0..=last at a share of the way; all are equally wide.
static uint64_t slot(double share, uint64_t last) {
    double at = share * ((double)last + 1);
    return at < (double)last ? (uint64_t)at : last;
}

// Four digits: people read it, and what is between them makes no difference that could be measured.
static double readable(double of) {
    double scale = pow(10, 3 - floor(log10(fabs(of))));
    double rounded = round(of * scale) / scale;
    return isfinite(rounded) ? rounded : of;
}

static double between(double min, double max, bool logarithmic, double share) {
    if (logarithmic) return exp(log(min) * (1 - share) + log(max) * share);
    return min * (1 - share) + max * share;
}

// The member of a domain at a share in [0, 1) of the way from the first to the last, on the domain's own scale.
static value member(const domain *of, double share) {
    switch (of->tag) {
    case AEHOST_PLUGIN_COMMON_DOMAIN_FLAG:
        return (value){AEHOST_PLUGIN_COMMON_VALUE_FLAG, {.flag = share >= 0.5}};
    case AEHOST_PLUGIN_COMMON_DOMAIN_CHOICE:
        return of->val.choice.values.ptr[slot(share, of->val.choice.values.len - 1)];
    case AEHOST_PLUGIN_COMMON_DOMAIN_REAL: {
        const aehost_plugin_common_real_range_t *r = &of->val.real;
        return real(fmin(fmax(readable(between(r->min, r->max, r->log, share)), r->min), r->max));
    }
    default: {
        const aehost_plugin_common_integer_range_t *r = &of->val.integer;
        // Unsigned, for a range may be wider than the largest integer.
        uint64_t last = ((uint64_t)r->max - (uint64_t)r->min) / (uint64_t)r->step;
        uint64_t index = slot(share, last);
        if (r->log) {
            double nearest = round((between((double)r->min, (double)r->max, true, share) - (double)r->min) / (double)r->step);
            index = nearest <= 0 ? 0 : nearest >= (double)last ? last : (uint64_t)nearest;
        }
        return integer((int64_t)((uint64_t)r->min + index * (uint64_t)r->step));
    }
    }
}

// Whether its conditions hold among the settings chosen before it.
static bool active(const parameter *of, const setting *chosen, size_t count) {
    for (size_t i = 0; i < of->active_when.len; i++) {
        const aehost_plugin_common_condition_t *condition = &of->active_when.ptr[i];
        bool holds = false;
        for (size_t j = 0; j < count; j++) {
            if (!same_text(chosen[j].name, condition->parameter)) continue;
            for (size_t k = 0; k < condition->values.len; k++) {
                holds |= hash_value(0, &condition->values.ptr[k]) == hash_value(0, &chosen[j].value);
            }
        }
        if (!holds) return false;
    }
    return true;
}

size_t coordinates(const problem *of) {
    size_t count = of->space.len;
    for (size_t i = 0; i < of->space.len; i++) count += of->space.ptr[i].parameters.len;
    return count;
}

configuration configuration_at(const problem *of, const double *point) {
    size_t count = of->space.len;
    bool *on = malloc(count);
    select_techniques(of, point, on);
    configuration made = {malloc(count * sizeof *made.ptr), 0};
    const double *own = point + count;
    for (size_t i = 0; i < count; i++) {
        const technique *one = &of->space.ptr[i];
        if (on[i]) {
            choice *next = &made.ptr[made.len++];
            next->technique = one->technique;
            next->settings.ptr = malloc(one->parameters.len * sizeof *next->settings.ptr);
            next->settings.len = 0;
            for (size_t j = 0; j < one->parameters.len; j++) {
                const parameter *p = &one->parameters.ptr[j];
                if (active(p, next->settings.ptr, next->settings.len)) {
                    next->settings.ptr[next->settings.len++] = (setting){p->name, member(&p->domain, own[j])};
                }
            }
        }
        own += one->parameters.len;
    }
    free(on);
    return made;
}

void configuration_free(configuration *of) {
    for (size_t i = 0; i < of->len; i++) free(of->ptr[i].settings.ptr);
    free(of->ptr);
}

// Nothing for nothing: empty lists are never freed.
static void *copy(const void *of, size_t bytes) { return bytes == 0 ? NULL : memcpy(malloc(bytes), of, bytes); }

static void copy_text(text *of) { of->ptr = copy(of->ptr, of->len); }

static void copy_value(value *of) {
    switch (of->tag) {
    case AEHOST_PLUGIN_COMMON_VALUE_TEXT:
        copy_text(&of->val.text);
        break;
    case AEHOST_PLUGIN_COMMON_VALUE_INTEGERS:
        of->val.integers.ptr = copy(of->val.integers.ptr, of->val.integers.len * sizeof *of->val.integers.ptr);
        break;
    case AEHOST_PLUGIN_COMMON_VALUE_REALS:
        of->val.reals.ptr = copy(of->val.reals.ptr, of->val.reals.len * sizeof *of->val.reals.ptr);
        break;
    case AEHOST_PLUGIN_COMMON_VALUE_TEXTS:
        of->val.texts.ptr = copy(of->val.texts.ptr, of->val.texts.len * sizeof *of->val.texts.ptr);
        for (size_t i = 0; i < of->val.texts.len; i++) copy_text(&of->val.texts.ptr[i]);
        break;
    }
}

configuration configuration_copy(const configuration *of) {
    configuration made = {copy(of->ptr, of->len * sizeof *of->ptr), of->len};
    for (size_t i = 0; i < made.len; i++) {
        choice *on = &made.ptr[i];
        copy_text(&on->technique);
        on->settings.ptr = copy(on->settings.ptr, on->settings.len * sizeof *on->settings.ptr);
        for (size_t j = 0; j < on->settings.len; j++) {
            copy_text(&on->settings.ptr[j].name);
            copy_value(&on->settings.ptr[j].value);
        }
    }
    return made;
}

static bool holds(const exports_aehost_plugin_strategy_constraint_t *limit, double measured) {
    return limit->at_most ? measured <= limit->bound : measured >= limit->bound;
}

bool admitted(const configuration *of, const constraints *limits) {
    bool on_memory = false;
    for (size_t i = 0; i < limits->len; i++) {
        text metric = limits->ptr[i].metric;
        on_memory |= metric.len > 7 && memcmp(metric.ptr, "memory.", 7) == 0;
    }
    if (!on_memory) return true;
    // The same list has a type of its own where it is imported.
    aehost_plugin_feasibility_list_choice_t asked = {of->ptr, of->len};
    strategy_plugin_list_tuple2_string_f64_t known;
    error refused;
    if (!aehost_plugin_feasibility_check(&asked, &known, &refused)) {
        aehost_plugin_common_error_free(&refused);
        return false;
    }
    bool admitted = true;
    for (size_t i = 0; i < known.len; i++) {
        for (size_t j = 0; j < limits->len; j++) {
            if (same_text(limits->ptr[j].metric, known.ptr[i].f0)) admitted &= holds(&limits->ptr[j], known.ptr[i].f1);
        }
    }
    strategy_plugin_list_tuple2_string_f64_free(&known);
    return admitted;
}
