//! Failed handshakes in words that an administrator can act on.
//!
//! TLS 1.3 tells the refused end no more than an alert; the refusing end knows the exact reason. Both are translated here
//! and nowhere else.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

/// The library's error inside an I/O error, if that is what it is.
pub(super) fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref::<Error>()
}

/// Why the server refused a client, or the client left.
pub(super) fn of_client(error: &Error) -> String {
    match error {
        Error::NoCertificatesPresented => "the client sent no certificate".to_owned(),
        Error::InvalidCertificate(problem) => format!("the client's {}", certificate_problem(problem)),
        Error::AlertReceived(alert) => {
            format!("the client refused this coordinator: {}", refused_server(*alert))
        }
        Error::PeerIncompatible(
            PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => "the client does not speak TLS 1.3".to_owned(),
        Error::NoApplicationProtocol => "the client does not speak HTTP/2".to_owned(),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => "the client does not speak TLS".to_owned(),
        other => other.to_string(),
    }
}

/// Why the client refused the server, from the client's view, with the remedy.
pub(super) fn of_server(error: &Error) -> Option<String> {
    let text = match error {
        Error::InvalidCertificate(problem @ CertificateError::NotValidForNameContext { presented, .. }) => {
            let presented = if presented.is_empty() { "nobody".to_owned() } else { presented.join(", ") };
            format!(
                "its {} ({presented}); check the address and the coordinator's id in the configuration",
                certificate_problem(problem)
            )
        }
        Error::InvalidCertificate(problem) => {
            format!(
                "its {}; check the address, the CA file of the kit and this machine's clock",
                certificate_problem(problem)
            )
        }
        Error::PeerIncompatible(_) => "it does not speak TLS 1.3; is the address right?".to_owned(),
        Error::InvalidMessage(_) => "it does not speak TLS; are host and port right?".to_owned(),
        Error::NoApplicationProtocol => "it does not speak HTTP/2; are host and port right?".to_owned(),
        _ => return None,
    };
    Some(text)
}

/// Why the server refused the client, from the client's view, with the remedy. The alert is all the client gets to know.
pub(super) fn of_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired => {
            "it requires a certificate and this end sent none; set [tls] certificate and key to the files of the kit"
        }
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "this certificate is signed by another authority; use the kit that this consortium's coordinator provisioned"
        }
        AlertDescription::CertificateExpired => {
            "this certificate has expired or is not valid yet; have a new one provisioned, and check this machine's clock"
        }
        AlertDescription::CertificateUnknown | AlertDescription::AccessDenied => {
            "this certificate names neither a site nor an admin; use the certificate of a site's or admin's kit"
        }
        AlertDescription::UnsupportedCertificate => {
            "this certificate is not made for a client; use the certificate of a site's or admin's kit"
        }
        AlertDescription::BadCertificate => "this certificate is damaged; use the file of the kit unchanged",
        AlertDescription::CertificateRevoked => "this certificate was revoked; have a new one provisioned",
        AlertDescription::ProtocolVersion => "it speaks another version of TLS than 1.3; is the address right?",
        AlertDescription::NoApplicationProtocol => "it does not speak HTTP/2; are host and port right?",
        other => return format!("it ended the handshake with TLS alert {other:?}; its log tells the reason"),
    }
    .to_owned()
}

/// Why a certificate would not be accepted by the authority's own file, with the remedy.
pub(super) fn own_certificate(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "it is signed by another authority; both files must come from the same kit".to_owned()
        }
        Error::InvalidCertificate(CertificateError::ExpiredContext { .. } | CertificateError::Expired) => {
            "it has expired; have a new one provisioned, and check this machine's clock".to_owned()
        }
        Error::InvalidCertificate(
            CertificateError::NotValidYetContext { .. } | CertificateError::NotValidYet,
        ) => "it is not valid yet; check this machine's clock".to_owned(),
        Error::InvalidCertificate(
            CertificateError::InvalidPurposeContext { .. } | CertificateError::InvalidPurpose,
        ) => "it is made for another purpose; use the certificate of this part's kit".to_owned(),
        other => other.to_string(),
    }
}

pub(super) fn certificate_problem(problem: &CertificateError) -> String {
    match problem {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "certificate is signed by an unknown authority".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "certificate is not valid yet".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "certificate is made for another purpose".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "certificate names somebody else".to_owned()
        }
        CertificateError::BadEncoding => "certificate is damaged".to_owned(),
        CertificateError::Other(other) => format!("certificate is not a member's: {}", other.0),
        other => format!("certificate is not acceptable: {other}"),
    }
}

/// The server's view of a client that refused it.
fn refused_server(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "this coordinator's certificate is signed by an authority that the client does not know"
                .to_owned()
        }
        AlertDescription::CertificateExpired => {
            "this coordinator's certificate has expired, or the client's clock is wrong".to_owned()
        }
        AlertDescription::BadCertificate => "the client expects a coordinator of another id".to_owned(),
        AlertDescription::ProtocolVersion => "the client does not speak TLS 1.3".to_owned(),
        other => format!("TLS alert {other:?}"),
    }
}
