//! strategy-random
