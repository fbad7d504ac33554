//! Approval of policies: a manifest names every file of a policy by its hash and carries a serial number; people sign it
//! with `ssh-keygen -Y sign -n edgefilter`.
//!
//! Owns what a manifest and a list of signers look like and what makes enough signatures. It never changes anything, and
//! trusts nothing of what it is given but the list of signers.

mod files;
mod manifest;
mod signature;
mod signers;

#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::Bundle;

pub use files::read;
pub use manifest::{Manifest, ManifestError};
pub use signature::SignatureError;
pub use signers::{AllowedSigners, SignersError};

/// The namespace of signatures (`ssh-keygen -n`).
pub const NAMESPACE: &str = "edgefilter";
/// Most signatures that are looked at.
pub const SIGNATURES: usize = 64;

/// What is sent with a policy to show that people approved it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// The text that was signed.
    pub manifest: String,
    /// Armored signatures, as `ssh-keygen -Y sign` writes them.
    pub signatures: Vec<String>,
}

/// A policy that enough people signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approved {
    /// The manifest's serial number.
    pub serial: u64,
    /// People whose signatures count, each once.
    pub signers: Vec<String>,
}

/// The last manifest that was accepted: older ones are not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Its serial number.
    pub serial: u64,
    /// Digest of the policy that it stands for.
    pub digest: String,
}

/// Why a policy is not approved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalError {
    /// There is nothing.
    #[error(
        "the policy is not signed, and {required} must have signed it: make POLICY.manifest with `edgefilter manifest`, \
         and have it signed with `ssh-keygen -Y sign -n {NAMESPACE}`"
    )]
    Unsigned {
        /// How many are needed.
        required: u32,
    },
    /// The manifest is no manifest, or that of another policy.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// An older policy, perhaps a withdrawn one.
    #[error(
        "the manifest's serial number is {serial}, and {last} was accepted before: sign it again with a higher one, or go \
         back with `edgefilter rollback`"
    )]
    Replayed {
        /// Of this manifest.
        serial: u64,
        /// Of the one that was accepted last.
        last: u64,
    },
    /// Not enough people.
    #[error("{}", few(*.required, .signers, .problems))]
    Few {
        /// How many are needed.
        required: u32,
        /// Whose signatures count.
        signers: Vec<String>,
        /// What is wrong with the others: the signature's number, from 1, and why.
        problems: Vec<(usize, SignatureError)>,
    },
}

fn few(required: u32, signers: &[String], problems: &[(usize, SignatureError)]) -> String {
    let mut text = match signers {
        [] => {
            format!("the policy is signed by nobody who counts, and {required} must have signed it")
        }
        _ => format!(
            "the policy is signed by {} of the {required} who must have signed it: {}",
            signers.len(),
            signers.join(", ")
        ),
    };
    for (number, problem) in problems {
        // Writing into a String cannot fail.
        let _ = write!(text, "; signature {number}: {problem}");
    }
    text
}

/// Whether `required` different people have signed this policy, and it is no older one than the `last` that was accepted.
/// Signatures that do not count are no harm beside enough that do.
///
/// # Errors
/// Why not.
pub fn verify(
    bundle: &Bundle,
    approval: Option<&Approval>,
    allowed: &AllowedSigners,
    required: u32,
    last: Option<&Accepted>,
    now: SystemTime,
) -> Result<Approved, ApprovalError> {
    let approval = approval.ok_or(ApprovalError::Unsigned { required })?;
    let manifest = Manifest::parse(&approval.manifest)?;
    manifest.check(bundle)?;
    let mut signers: Vec<String> = Vec::new();
    let mut problems = Vec::new();
    for (index, signature) in approval.signatures.iter().take(SIGNATURES).enumerate() {
        match signature::signer(&approval.manifest, signature, allowed, now) {
            Ok(signer) if signers.iter().any(|known| known == signer) => {
                let again = SignatureError::Again(signer.to_owned());
                problems.push((index + 1, again));
            }
            Ok(signer) => signers.push(signer.to_owned()),
            Err(error) => problems.push((index + 1, error)),
        }
    }
    if signers.len() < required as usize {
        return Err(ApprovalError::Few {
            required,
            signers,
            problems,
        });
    }
    let serial = manifest.serial;
    if let Some(last) = last
        && (serial < last.serial || (serial == last.serial && bundle.digest() != last.digest))
    {
        let last = last.serial;
        return Err(ApprovalError::Replayed { serial, last });
    }
    Ok(Approved { serial, signers })
}
