//! The part of a model that reads dense input: one network, or the mean of several.

use std::ops::Range;

use super::{ModelError, View};
use crate::kernel::Matrix;
use crate::network::{Dropout, Mlp, NetworkError, Tape, Weights};
use crate::real::Real;

/// Most networks of a tower: each costs as much as a tower of one.
const MAX_MEMBERS: usize = 64;

/// Networks of one shape whose parameters follow each other and whose outputs are averaged.
#[derive(Debug, Clone)]
pub(super) struct Tower {
    network: Mlp,
    members: usize,
}

impl Tower {
    /// A tower of `members` networks.
    ///
    /// # Errors
    /// None, or more than 64.
    pub(super) fn new(network: Mlp, members: usize) -> Result<Self, ModelError> {
        if !(1..=MAX_MEMBERS).contains(&members) {
            return Err(ModelError::Members { members, largest: MAX_MEMBERS });
        }
        Ok(Self { network, members })
    }

    /// The network of a member, and of a model that is no more than one.
    pub(super) fn network(&self) -> &Mlp {
        &self.network
    }

    /// Every member.
    pub(super) fn members(&self) -> Range<usize> {
        0..self.members
    }

    /// Number of parameters of all members.
    pub(super) fn parameters(&self) -> usize {
        self.network.parameters() * self.members
    }

    /// What the names of a member's parameters start with.
    pub(super) fn prefix(&self, member: usize) -> String {
        if self.members == 1 { "tower.".to_owned() } else { format!("tower.{member}.") }
    }

    /// Fills `params` with initial values, others for each member; the first has those of a tower of one.
    pub(super) fn initialise<F: Real>(&self, seed: u64, params: &mut [F]) {
        for member in self.members() {
            self.network.initialise(member_seed(seed, member), &mut params[self.range(member)]);
        }
    }

    /// Takes over the weights of every member from a parameter vector; passes over these parameters read them.
    pub(super) fn load<F: Real>(&self, params: &[F], weights: &mut Vec<Weights<F>>) {
        weights.resize_with(self.members, Weights::default);
        for (member, weights) in weights.iter_mut().enumerate() {
            weights.load(&self.network, &params[self.range(member)]);
        }
    }

    /// Runs a member over a block of rows; its logits are the tape's output.
    pub(super) fn run<F: Real>(
        &self,
        params: &[F],
        weights: &[Weights<F>],
        member: usize,
        block: Matrix<'_, F>,
        dropout: Option<Dropout>,
        tape: &mut Tape<F>,
    ) {
        let dropout = dropout.map(|dropout| dropout.of_member(member));
        self.network.run(&params[self.range(member)], &weights[member], block, dropout, tape);
    }

    /// Adds a member's output to the mean over all of them.
    pub(super) fn add_output<F: Real>(&self, tape: &Tape<F>, mean: &mut [F]) {
        let share = F::of(1.0 / self.members as f64);
        mean.iter_mut().zip(tape.output()).for_each(|(mean, &output)| *mean += share * output);
    }

    /// Adds the gradient of a member that has run over `block`, given the derivative by its logits, to that of the tower.
    pub(super) fn add_gradient<F: Real>(
        &self,
        params: &[F],
        member: usize,
        block: Matrix<'_, F>,
        d_logits: &[F],
        tape: &mut Tape<F>,
        gradient: &mut [F],
    ) {
        self.network.propagate(&params[self.range(member)], d_logits, None, tape);
        self.network.accumulate(block, tape, &mut gradient[self.range(member)]);
    }

    /// The parameters of a member.
    pub(super) fn params_of<'p, F>(&self, params: &'p [F], member: usize) -> &'p [F] {
        &params[self.range(member)]
    }

    /// Checks the dense values of a view, and lends them.
    pub(super) fn check<'v, F: Real>(
        &self,
        params: &[F],
        view: &'v View<F>,
    ) -> Result<Matrix<'v, F>, NetworkError> {
        self.network.check(&params[self.range(0)], view.dense.view())
    }

    fn range(&self, member: usize) -> Range<usize> {
        let length = self.network.parameters();
        member * length..(member + 1) * length
    }
}

/// Seed of a member's initial values: the study's for the first, far apart for the others.
fn member_seed(seed: u64, member: usize) -> u64 {
    seed.wrapping_add((member as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
