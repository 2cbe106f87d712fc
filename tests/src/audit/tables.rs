//! Canaries in tables of counts: each has two cells of its own, and its bit decides in which of them it lies.

use fusiondp_dp::HistogramStep;

use super::attack::Releasing;
use super::{AuditError, Fault};

/// Canaries of one table, which holds 2^16 cells; more share out over several tables, one each.
const CANARIES: usize = 1 << 15;
/// Records of a unit that counts once for each of them.
const RECORDS: usize = 2;

/// Logarithm of the likelihood ratio of the second cell against the first one, for each canary in its noisy table.
///
/// With counts `a` and `b`, `(0, 1)` against `(1, 0)` under noise of deviation s in either: `(b - a) / s^2`, exactly.
pub(super) fn evidence(
    releasing: &mut Releasing<'_>,
    step: u64,
    signs: &[bool],
) -> Result<Vec<f64>, AuditError> {
    let noise = releasing.series.event.noise_multiplier().get();
    // A second unit in the same cell is how a unit gets past its weight of one: the table itself would not let it.
    let copies = if releasing.fault == Some(Fault::CountedPerRecord) { RECORDS } else { 1 };
    let mut evidence = Vec::with_capacity(signs.len());
    for (part, signs) in signs.chunks(CANARIES).enumerate() {
        let charge = releasing.charges.commit(releasing.charged()?, copies * signs.len())?;
        let random = releasing.random(step, part);
        let mut table = HistogramStep::begin(charge, copies * signs.len(), 2 * signs.len(), random)?;
        for _ in 0..copies {
            for (canary, &sign) in signs.iter().enumerate() {
                table.add_unit(&[2 * canary + usize::from(sign)])?;
            }
        }
        let release = table.release()?;
        let cells = release.counts().as_chunks::<2>().0;
        let unit = HistogramStep::UNIT as f64;
        evidence.extend(cells.iter().map(|[first, second]| (second - first) as f64 / unit / (noise * noise)));
    }
    Ok(evidence)
}
