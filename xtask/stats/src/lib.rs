//! Statistics that verdicts are made with, one method per file, each with its source. Pure: samples in, numbers out; all randomness comes
//! from a seed. No function here panics, whatever the samples: it returns `None` where a result has no meaning.

mod bootstrap;
mod change;
mod committed;
mod density;
mod duet;
mod estimate;
mod holm;
mod low;
mod mann_whitney;
mod normal;
mod outliers;
mod permutation;
mod quantile;
mod shift;
mod stream;
mod timings;
mod verdict;
mod wilson;

pub use bootstrap::{RESAMPLES, moving_block, moving_block_length, moving_block_ratio, paired_log_ratio, resampled};
pub use change::log_ratio;
pub use committed::{CALIBRATION_RUNS, COMMITTED_SAMPLES, committed};
pub use density::density;
pub use duet::{Duet, Metric, Pair, Plan, Side, Step};
pub use estimate::{Estimate, Estimates};
pub use holm::holm;
pub use low::{low_fifth, low_mean, lowest};
pub use mann_whitney::mann_whitney;
pub use normal::upper_tail;
pub use outliers::{OUTLIER_SCORE, median_absolute_deviation, outliers};
pub use permutation::{PERMUTATIONS, Permuted, paired};
pub use quantile::{median, quantile};
pub use shift::hodges_lehmann;
pub use stream::stream;
pub use timings::{Kind, Timings};
pub use verdict::{Better, Decision, RUN_ALPHA, Thresholds, Verdict, hold_together};
pub use wilson::wilson;
