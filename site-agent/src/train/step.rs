//! One step: the private and the public part side by side on the threads given.
//!
//! A noised part is one piece of work, as its charge is consumed once and its generator drawn from in order; a public part
//! without noise is cut into stripes. Threads take pieces until none is left. Neither part sees how many threads there are: integer
//! sums have no order, and the stripes' shares are added in order.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use fusiondp_dp::{CommittedCharge, PrivateRelease, SecureRng};
use rand::rngs::StdRng;

use super::private_step::{PrivatePoint, PrivateScratch, private_release, record_release};
use super::public_step::{PublicBatch, PublicGradient, PublicScratch, PublicSum};
use super::{Session, TrainError};

/// What one step is computed from besides the session.
pub(super) struct StepWork<'a> {
    /// The parameters, `[P]`.
    pub(super) params: &'a [f32],
    /// What private gradients are projected onto, `[k, P']`; empty where they are not.
    pub(super) directions: &'a [f32],
    /// Records of the public batch and its generator; `None` without a public part.
    pub(super) public: Option<(usize, StdRng)>,
    /// The charge of the private part and its generator; `None` without one.
    pub(super) private: Option<(CommittedCharge, SecureRng)>,
    /// The charge of a public part that is noised, and its generator; `None` without one.
    pub(super) records: Option<(CommittedCharge, SecureRng)>,
}

/// What a step gives.
pub(super) struct StepOutput {
    pub(super) public: Option<PublicGradient>,
    pub(super) private: Option<PrivateRelease>,
    pub(super) records: Option<PrivateRelease>,
}

/// Buffers of one step, kept between steps. Has no `Debug`: they hold patients' values.
pub(super) struct StepScratch {
    private: PrivateScratch,
    records: PrivateScratch,
    /// One per thread.
    public: Vec<PublicScratch>,
}

impl StepScratch {
    /// Empty buffers for a session's model and this many threads.
    pub(super) fn new(session: &Session, threads: NonZeroUsize) -> Self {
        let public = (0..threads.get()).map(|_| PublicScratch::new(session)).collect();
        Self { private: PrivateScratch::new(session), records: PrivateScratch::new(session), public }
    }
}

impl StepWork<'_> {
    /// Computes both parts.
    ///
    /// # Errors
    /// What either part refuses; nothing leaves then, and the charge stays spent.
    pub(super) fn compute(
        self,
        session: &Session,
        scratch: &mut StepScratch,
    ) -> Result<StepOutput, TrainError> {
        let public = match self.public {
            Some((batch, mut rng)) => Some(PublicBatch::draw(session, batch, &mut rng)?),
            None => None,
        };
        let noised = usize::from(self.private.is_some()) + usize::from(self.records.is_some());
        let pieces = Pieces {
            session,
            params: self.params,
            directions: self.directions,
            private: Mutex::new(self.private.map(|(charge, rng)| (charge, rng, &mut scratch.private))),
            release: Mutex::new(None),
            records: Mutex::new(self.records.map(|(charge, rng)| (charge, rng, &mut scratch.records))),
            record_release: Mutex::new(None),
            sum: Mutex::new(public.as_ref().map(|_| PublicSum::new(session))),
            public: public.as_ref(),
            next: AtomicUsize::new(0),
        };
        let count = public.as_ref().map_or(0, PublicBatch::stripes) + noised;
        let threads = count.clamp(1, scratch.public.len());
        let (first, others) = scratch.public[..threads].split_at_mut(1);
        let outcomes = std::thread::scope(|scope| {
            let threads: Vec<_> =
                others.iter_mut().map(|scratch| scope.spawn(|| pieces.work(scratch))).collect();
            let mut outcomes: Vec<_> = first.iter_mut().map(|scratch| pieces.work(scratch)).collect();
            for thread in threads {
                outcomes.push(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            outcomes
        });
        outcomes.into_iter().collect::<Result<(), TrainError>>()?;
        let sum = inner(pieces.sum);
        Ok(StepOutput {
            public: sum.map(PublicSum::finish).transpose()?,
            private: inner(pieces.release),
            records: inner(pieces.record_release),
        })
    }
}

/// The pieces of a step that threads take.
struct Pieces<'a> {
    session: &'a Session,
    params: &'a [f32],
    directions: &'a [f32],
    private: Mutex<Option<(CommittedCharge, SecureRng, &'a mut PrivateScratch)>>,
    release: Mutex<Option<PrivateRelease>>,
    records: Mutex<Option<(CommittedCharge, SecureRng, &'a mut PrivateScratch)>>,
    record_release: Mutex<Option<PrivateRelease>>,
    public: Option<&'a PublicBatch>,
    sum: Mutex<Option<PublicSum>>,
    /// The next stripe that nobody has taken.
    next: AtomicUsize,
}

impl Pieces<'_> {
    /// Takes pieces until none is left. The private part goes first, being the longest.
    fn work(&self, scratch: &mut PublicScratch) -> Result<(), TrainError> {
        let private = locked(&self.private).take();
        if let Some((charge, rng, scratch)) = private {
            let at = PrivatePoint { params: self.params, directions: self.directions };
            let release = private_release(self.session, at, charge, rng, scratch)?;
            *locked(&self.release) = Some(release);
        }
        let records = locked(&self.records).take();
        if let Some((charge, rng, scratch)) = records {
            let release = record_release(self.session, self.params, charge, rng, scratch)?;
            *locked(&self.record_release) = Some(release);
        }
        let Some(public) = self.public else { return Ok(()) };
        loop {
            let stripe = self.next.fetch_add(1, Ordering::Relaxed);
            if stripe >= public.stripes() {
                return Ok(());
            }
            let share = public.stripe(self.session, self.params, stripe, scratch)?;
            if let Some(sum) = locked(&self.sum).as_mut() {
                sum.add(stripe, share);
            }
        }
    }
}

/// The value behind a lock. A thread that panicked while it held the lock ends the step when it is joined.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn inner<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}
