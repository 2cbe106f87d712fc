//! Generated code of the FusionDP wire protocol, and nothing else.
//!
//! The specification is `fusiondp/v1/federation.proto`. Nobody but `fusiondp-protocol` and the gRPC edges of the two
//! services should need these types: the rest of the system speaks in the domain types of `fusiondp-protocol`.

/// Package `fusiondp.v1`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("fusiondp.v1");
}
