//! Whose a site's ledger key is: what the site states when it registers, and the key that it enrolls with.

use fusiondp_protocol::{Digest, Enrolment, ProblemType, SignedKeyStatement, SiteId};

use super::errors::ApiError;
use crate::receipts::key::{BoundKey, KeyStatementError};
use crate::shared::Core;
use crate::store::{MAX_KEYS_PER_CERTIFICATE, StatementReceipt};

/// Who calls, as the connection's certificate says.
pub(super) struct Caller {
    pub(super) site: SiteId,
    /// SHA-256 of the certificate in DER form.
    pub(super) certificate: Digest,
}

/// Whether the key that a site enrolls with is bound to the certificate it calls with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binding {
    /// It is, or nobody has a certificate here.
    Settled,
    /// The site has stated nothing under this certificate.
    Unstated,
}

/// Keeps what a site states, after every check that somebody with the receipts will make, and that the certificate is the one of
/// this connection.
pub(super) async fn keep_statement(
    core: &Core,
    caller: &Caller,
    signed: &SignedKeyStatement,
) -> Result<(), ApiError> {
    let Some(authority) = &core.settings.authority else {
        return Err(invalid("this coordinator has no certificates to check a key statement with; send none"));
    };
    let bound = BoundKey::verified(signed, &caller.site, authority)
        .map_err(|error: KeyStatementError| invalid(&format!("{error}; {REMEDY}")))?;
    if bound.certificate != caller.certificate {
        return Err(invalid(&format!(
            "the key statement is under certificate {}, this connection's is {}; {REMEDY}",
            bound.certificate, caller.certificate
        )));
    }
    match core.store.keep_key_statement(&caller.site, signed, core.clock.now_ms()).await? {
        StatementReceipt::Kept => Ok(()),
        StatementReceipt::TooManyKeys => Err(invalid(&format!(
            "site {} has stated {MAX_KEYS_PER_CERTIFICATE} other ledger keys under certificate {}, and a ledger keeps one key \
             for ever; restart the agent with the state_dir of one of them, or with a new certificate for this site",
            caller.site, caller.certificate
        ))),
    }
}

/// A site enrolls with the key that it has stated, and with no other.
pub(super) async fn check_enrolment(
    core: &Core,
    caller: &Caller,
    enrolment: &Enrolment,
) -> Result<Binding, ApiError> {
    if core.settings.authority.is_none() {
        return Ok(Binding::Settled);
    }
    let statements = core.store.statements_under(&caller.site, caller.certificate).await?;
    let mut keys = statements.iter().map(|signed| signed.statement.ledger_key);
    match keys.next_back() {
        None => Ok(Binding::Unstated),
        Some(newest) if newest == enrolment.ledger_key || keys.any(|key| key == enrolment.ledger_key) => {
            Ok(Binding::Settled)
        }
        Some(newest) => Err(invalid(&format!(
            "EnrolRequest.ledger_key is {}, the key that site {} has stated under its certificate is {newest}; {REMEDY}",
            enrolment.ledger_key, caller.site
        ))),
    }
}

/// Warns in a study's report of a key that is bound to no certificate, and of one that is not the key of earlier studies.
pub(super) async fn note(
    core: &Core,
    site: &SiteId,
    enrolment: &Enrolment,
    binding: Binding,
) -> Result<(), ApiError> {
    let (study, now_ms) = (&enrolment.study_id, core.clock.now_ms());
    if binding == Binding::Unstated {
        tracing::warn!(%site, %study, "the site's ledger key is bound to no certificate");
        core.store.record_warning(study, Some(site), UNSTATED, now_ms).await?;
    }
    // A ledger has one key for ever, so another one means another ledger: a new installation, or somebody else's.
    let Some(other) = core.store.study_with_other_key(site, &enrolment.ledger_key).await? else {
        return Ok(());
    };
    let message = format!(
        "its ledger is signed with another key than in study {other}: the site keeps a new ledger, which may not count what \
         the old one has charged"
    );
    tracing::warn!(%site, %study, other = %other, "the site's ledger key has changed");
    Ok(core.store.record_warning(study, Some(site), &message, now_ms).await?)
}

/// What the report says of a site whose agent makes no key statements.
const UNSTATED: &str = "its agent has not stated whose its ledger key is, as older ones do not: until a newer one has \
                        connected, `receipts verify --ca` finds the key bound to no certificate";

/// What helps where a statement and the certificate in use do not belong together.
const REMEDY: &str =
    "restart the agent with the certificate of this site's kit, so that it states its key under that one";

fn invalid(detail: &str) -> ApiError {
    ApiError::problem(ProblemType::KeyStatementInvalid, detail)
}
