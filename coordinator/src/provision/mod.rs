//! Sets a consortium up: its authority, and one folder per participant with everything its IT needs.
//!
//! | module | holds |
//! |---|---|
//! | [`consortium`] | the consortium file: who takes part, and where the coordinator is |
//! | `authority` | the certificate authority, made once |
//! | `certificate` | keys and certificates |
//! | `kit` | one participant's folder |
//! | `text` | the files for people, from `templates/` |
//! | [`report`] | what was done |
//!
//! ```text
//! OUT/ca/                ca.pem ca.key                         stays with whoever runs the consortium, best offline
//! OUT/coordinator/       coordinator.pem .key ca.pem coordinator.toml consortium.toml
//! OUT/admin/             admin.pem admin.key ca.pem admin.toml
//! OUT/sites/<id>/        site.pem site.key ca.pem site.toml README.md
//! ```
//!
//! Running it again adds what is missing and replaces nothing: keys, certificates and configuration files that exist stay
//! byte for byte. The one exception is the coordinator's copy of the consortium file, its list of admitted sites. A run
//! that was interrupted is completed by the next one: files appear whole or not at all, and a key without a certificate
//! gets its certificate.

pub mod consortium;
pub mod report;

mod authority;
mod certificate;
mod kit;
mod text;

use std::fs;
use std::path::{Path, PathBuf};

use fusiondp_runtime::Role;
use fusiondp_runtime::files::{FileError, PARTIAL_SUFFIX, create_private_folder, write_atomic};
use fusiondp_runtime::tls::TlsFilesError;

use authority::Authority;
use certificate::Subject;
use kit::Kit;

pub use consortium::{ConsortiumError, ConsortiumFile, FieldError};
pub use report::ProvisionReport;

/// Id in the admin's certificate.
pub const ADMIN_ID: &str = "admin";

/// Why provisioning stopped. Everything written before stays valid; a later run goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A folder cannot be listed.
    #[error("cannot list {}: {source}", path.display())]
    List {
        /// Which folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Kits without the authority that signed them: a new authority would split the consortium.
    #[error(
        "{} was provisioned before, but the authority {} is missing; put it back, or choose an empty folder for a new \
         consortium", kit.display(), authority.display()
    )]
    AuthorityMissing {
        /// A kit that exists.
        kit: PathBuf,
        /// Where the authority's certificate belongs.
        authority: PathBuf,
    },
    /// The authority's key is needed and absent.
    #[error("{} is needed to sign a certificate for {subject}; put it back for this run", key.display())]
    AuthorityKeyMissing {
        /// Where the key belongs.
        key: PathBuf,
        /// Whom the certificate is for.
        subject: String,
    },
    /// The authority's files do not serve.
    #[error("{}: {problem}", path.display())]
    AuthorityUnusable {
        /// Which file.
        path: PathBuf,
        /// What is wrong, with the remedy.
        problem: String,
    },
    /// A certificate without its key.
    #[error("{} has no key {}; put it back, or delete the certificate to have a new pair made", certificate.display(), key.display())]
    KeyMissing {
        /// The certificate.
        certificate: PathBuf,
        /// Where its key belongs.
        key: PathBuf,
    },
    /// A key file that holds no usable key.
    #[error("{} is no PKCS #8 private key ({problem}); put the right file back, or delete it to have a new one made", path.display())]
    KeyUnusable {
        /// Which file.
        path: PathBuf,
        /// Why; never the content.
        problem: String,
    },
    /// An existing kit is inconsistent.
    #[error("the kit in {} cannot be used: {source}", folder.display())]
    KitDamaged {
        /// Which kit.
        folder: PathBuf,
        /// Why.
        source: TlsFilesError,
    },
    /// An existing kit belongs to somebody else.
    #[error("{} is the certificate of {found}, expected {expected}; move it away to have the right one made", path.display())]
    KitOfAnother {
        /// The certificate.
        path: PathBuf,
        /// Whom it names.
        found: String,
        /// Whom it should name.
        expected: String,
    },
    /// An existing kit trusts another authority.
    #[error("{} is not this consortium's authority {}; move the kit away to have a new one made", path.display(), authority.display())]
    OtherAuthority {
        /// The kit's copy.
        path: PathBuf,
        /// The authority of this folder.
        authority: PathBuf,
    },
    /// The certificate library refuses.
    #[error("cannot make the certificate of {subject}: {source}")]
    Signing {
        /// Whom it is for.
        subject: String,
        /// Why.
        source: rcgen::Error,
    },
    /// The certificate's life would be over before it begins.
    #[error("the validity of a certificate for {subject} lies outside the years a certificate can state")]
    Validity {
        /// Whom it is for.
        subject: String,
    },
}

/// Writes the authority and all kits of a consortium below `out`, or adds what is missing there.
///
/// `now_ms` is the time that validity counts from, Unix milliseconds; certificates are backdated by five minutes for
/// clocks that lag.
///
/// # Errors
/// [`ProvisionError`], naming the file and the remedy. Nothing that exists has been replaced.
pub fn provision(
    consortium: &ConsortiumFile,
    out: &Path,
    now_ms: u64,
) -> Result<ProvisionReport, ProvisionError> {
    let mut report = ProvisionReport::new(out);
    create_private_folder(out)?;
    let kits = kits(consortium, out);
    refuse_orphans(out, &kits)?;
    let authority = Authority::open_or_create(consortium, &out.join("ca"), now_ms, &mut report)?;
    for kit in &kits {
        kit.complete(consortium, &authority, now_ms, &mut report)?;
    }
    update_site_list(consortium, &out.join("coordinator"), &mut report)?;
    note_removed_sites(consortium, &out.join("sites"), &mut report)?;
    note_leftovers(out, &kits, &mut report)?;
    Ok(report)
}

fn kits(consortium: &ConsortiumFile, out: &Path) -> Vec<Kit> {
    let coordinator = Kit {
        folder: out.join("coordinator"),
        stem: "coordinator",
        subject: Subject {
            id: consortium.coordinator().id().to_owned(),
            role: Role::Coordinator,
            hosts: consortium.coordinator().hosts(),
        },
        documents: vec![("coordinator.toml", text::coordinator_toml(consortium))],
    };
    let admin = Kit {
        folder: out.join("admin"),
        stem: "admin",
        subject: Subject { id: ADMIN_ID.to_owned(), role: Role::Admin, hosts: Vec::new() },
        documents: vec![("admin.toml", text::admin_toml(consortium))],
    };
    let sites = consortium.sites().iter().map(|site| Kit {
        folder: out.join("sites").join(site.id()),
        stem: "site",
        subject: Subject { id: site.id().to_owned(), role: Role::Site, hosts: Vec::new() },
        documents: vec![
            ("site.toml", text::site_toml(consortium, site)),
            ("README.md", text::site_readme(consortium, site)),
        ],
    });
    [coordinator, admin].into_iter().chain(sites).collect()
}

fn refuse_orphans(out: &Path, kits: &[Kit]) -> Result<(), ProvisionError> {
    let authority = out.join("ca").join(authority::CERTIFICATE);
    match kits.iter().find(|kit| kit.is_begun()) {
        Some(kit) if !authority.exists() => {
            Err(ProvisionError::AuthorityMissing { kit: kit.folder.clone(), authority })
        }
        _ => Ok(()),
    }
}

/// The coordinator admits the sites of its copy; adding a site means replacing it.
fn update_site_list(
    consortium: &ConsortiumFile,
    folder: &Path,
    report: &mut ProvisionReport,
) -> Result<(), ProvisionError> {
    let path = folder.join("consortium.toml");
    let existed = path.exists();
    if existed && fs::read(&path).is_ok_and(|bytes| bytes == consortium.text().as_bytes()) {
        report.kept();
        return Ok(());
    }
    write_atomic(&path, consortium.text().as_bytes())?;
    if existed {
        report.updated(&path)
    } else {
        report.created(&path)
    }
    Ok(())
}

fn note_removed_sites(
    consortium: &ConsortiumFile,
    folder: &Path,
    report: &mut ProvisionReport,
) -> Result<(), ProvisionError> {
    for path in list(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !consortium.sites().iter().any(|site| site.id() == name) {
            report.removed_site(name);
        }
    }
    Ok(())
}

fn note_leftovers(out: &Path, kits: &[Kit], report: &mut ProvisionReport) -> Result<(), ProvisionError> {
    let authority = out.join("ca");
    for folder in kits.iter().map(|kit| kit.folder.as_path()).chain([authority.as_path()]) {
        for path in list(folder)? {
            if path.to_string_lossy().ends_with(PARTIAL_SUFFIX) {
                report.leftover(path);
            }
        }
    }
    Ok(())
}

/// Entries of a folder in order; none if it does not exist.
fn list(folder: &Path) -> Result<Vec<PathBuf>, ProvisionError> {
    let failed = |source| ProvisionError::List { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()).map_err(failed))
        .collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    Ok(paths)
}
