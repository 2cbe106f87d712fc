//! Who calls, as the certificate says, and whether that role may.

use fusiondp_protocol::{Digest, ProblemType, SiteId};
use fusiondp_runtime::{PeerConnection, Role, peer_connection};
use tonic::Request;

use super::errors::ApiError;
use super::keys::Caller;
use crate::shared::Core;

/// The site that calls.
pub(super) fn site<T>(core: &Core, request: &Request<T>) -> Result<SiteId, ApiError> {
    let peer = peer(request, Role::Site)?;
    let id = peer.identity.id();
    let known = id.parse().ok().filter(|id| core.settings.consortium.sites.contains(id));
    let site = known.ok_or_else(|| {
        let consortium = &core.settings.consortium.name;
        let detail = format!(
            "site {id} is not a member of consortium {consortium}; add it to the coordinator's consortium file and \
             restart the coordinator"
        );
        refused(peer, ProblemType::UnknownSite, detail)
    })?;
    core.presence.seen(&site);
    Ok(site)
}

/// The site that calls, with the certificate that says so.
pub(super) fn caller<T>(core: &Core, request: &Request<T>) -> Result<Caller, ApiError> {
    let site = site(core, request)?;
    let fingerprint = *peer(request, Role::Site)?.identity.fingerprint();
    Ok(Caller { site, certificate: Digest::from_bytes(fingerprint) })
}

/// Checks that an administrator calls.
pub(super) fn admin<T>(request: &Request<T>) -> Result<(), ApiError> {
    peer(request, Role::Admin).map(|_| ())
}

/// Where the call comes from.
pub(super) fn address<T>(request: &Request<T>) -> String {
    peer_connection(request).map_or_else(String::new, |peer| peer.address.to_string())
}

fn peer<T>(request: &Request<T>, role: Role) -> Result<&PeerConnection, ApiError> {
    let Some(peer) = peer_connection(request) else {
        let detail = "the connection carries no certificate of the consortium; use the files of the kit";
        return Err(ApiError::problem(ProblemType::NotAuthenticated, detail));
    };
    let found = peer.identity.role();
    if found != role {
        let detail = format!(
            "{} calls with a certificate of role {found}, this call needs role {role}; use the kit of that role",
            peer.identity.id()
        );
        return Err(refused(peer, ProblemType::WrongRole, detail));
    }
    Ok(peer)
}

/// The refusal, and a line for whoever watches this end: somebody with a valid certificate went beyond what it permits.
fn refused(peer: &PeerConnection, kind: ProblemType, detail: String) -> ApiError {
    let (id, address) = (peer.identity.id(), peer.address);
    tracing::warn!(peer = id, %address, problem = kind.as_str(), detail, "call refused");
    ApiError::problem(kind, detail)
}
