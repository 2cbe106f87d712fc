//! Identity of one update.

use rand::CryptoRng;

use crate::params::hex_bytes;

hex_bytes! {
    /// Sixteen random bytes that name one update, so that a repeated upload is recognized.
    UpdateId, 16, "update_id"
}

impl UpdateId {
    /// A fresh id; two are equal with probability 2^-128.
    #[must_use]
    pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        Self::from_bytes(bytes)
    }
}
