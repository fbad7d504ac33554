//! A figure measured several times: its median and its quartiles.

use serde::Serialize;

/// Median and quartiles.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Spread {
    /// Half of the samples are below.
    pub median: f64,
    /// A quarter of them.
    pub lower: f64,
    /// Three quarters of them.
    pub upper: f64,
}

impl Spread {
    /// Of these samples.
    pub fn of(samples: &[f64]) -> Self {
        Self {
            median: quantile(samples, 0.5),
            lower: quantile(samples, 0.25),
            upper: quantile(samples, 0.75),
        }
    }

    /// Of the ratios of two things in the same rounds.
    pub fn of_ratios(these: &[f64], to_those: &[f64]) -> Self {
        let pairs = these.iter().zip(to_those);
        Self::of(&pairs.map(|(this, that)| this / that).collect::<Vec<_>>())
    }
}

/// Between the two samples next to it (Hyndman and Fan, type 7).
pub fn quantile(samples: &[f64], part: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = part * (sorted.len().max(1) - 1) as f64;
    let at = |index: f64| sorted.get(index as usize).copied().unwrap_or(f64::NAN);
    let (below, above) = (at(place.floor()), at(place.ceil()));
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::{Spread, quantile};

    #[test]
    fn quantiles_lie_between_samples() {
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found}");
        near(quantile(&[3.0, 1.0, 2.0], 0.5), 2.0);
        near(quantile(&[1.0, 2.0, 3.0, 4.0], 0.5), 2.5);
        near(quantile(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.25), 2.0);
        assert!(quantile(&[], 0.5).is_nan());
        near(Spread::of_ratios(&[2.0, 9.0], &[1.0, 3.0]).median, 2.5);
    }
}
