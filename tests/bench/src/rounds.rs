//! Taking turns, and what several rounds come to. Pure, but for calling what is measured.

use anyhow::Result;

/// Values of several rounds.
#[derive(Clone, Debug, Default)]
pub struct Rounds(pub Vec<f64>);

impl Rounds {
    /// The median.
    pub fn median(&self) -> f64 {
        let mut values = self.0.clone();
        values.sort_unstable_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() {
            0 => f64::NAN,
            length if length % 2 == 0 => f64::midpoint(values[middle - 1], values[middle]),
            _ => values[middle],
        }
    }

    /// The least and the most.
    pub fn spread(&self) -> [f64; 2] {
        let least = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        [least, most]
    }

    /// Each round's value as a multiple of another's in the same round: what the machine did meanwhile concerns both.
    #[must_use]
    pub fn beside(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(value, other)| value / other).collect())
    }

    /// The same in another unit.
    #[must_use]
    pub fn times(&self, factor: f64) -> Self {
        Self(self.0.iter().map(|value| value * factor).collect())
    }
}

/// Measures all of `rigs` in each of `rounds` rounds. Every other round goes backwards, so that what gets slower or faster with time
/// favours nobody.
///
/// # Errors
/// Those of the measurement.
pub fn interleaved<R>(
    rigs: &mut [R],
    rounds: usize,
    mut measure: impl FnMut(&mut R) -> Result<f64>,
) -> Result<Vec<Rounds>> {
    let mut found = vec![Rounds::default(); rigs.len()];
    for round in 0..rounds {
        for turn in 0..rigs.len() {
            let index = if round % 2 == 0 { turn } else { rigs.len() - 1 - turn };
            found[index].0.push(measure(&mut rigs[index])?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((Rounds(vec![3.0, 1.0, 2.0]).median() - 2.0).abs() < f64::EPSILON);
        assert!((Rounds(vec![4.0, 1.0, 2.0, 3.0]).median() - 2.5).abs() < f64::EPSILON);
        assert_eq!(Rounds(vec![3.0, 1.0, 2.0]).spread(), [1.0, 3.0]);
    }

    #[test]
    fn everybody_has_a_turn_in_each_round() {
        let mut turns = Vec::new();
        let mut rigs = ['a', 'b', 'c'];
        let found = interleaved(&mut rigs, 2, |rig| {
            turns.push(*rig);
            Ok(turns.len() as f64)
        })
        .unwrap();
        assert_eq!(turns, ['a', 'b', 'c', 'c', 'b', 'a']);
        assert_eq!(found[0].0, [1.0, 6.0]);
        assert_eq!(found[0].beside(&found[2]).0, [1.0 / 3.0, 1.5]);
    }
}
