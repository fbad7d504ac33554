//! One signature of a manifest.

use std::time::SystemTime;

use ring::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
};
use ssh_key::public::{KeyData, RsaPublicKey};
use ssh_key::{Algorithm, Fingerprint, HashAlg, PublicKey, SshSig};

use super::{AllowedSigners, NAMESPACE};
use crate::report::printable;

/// Why a signature does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not what `ssh-keygen -Y sign` writes.
    #[error("this is no signature as `ssh-keygen -Y sign` makes it: {0}")]
    Malformed(String),
    /// Made for something else than policies.
    #[error("it was made with `-n {0}`: sign again with `ssh-keygen -Y sign -n {NAMESPACE}`")]
    Namespace(String),
    /// Nobody whom we know.
    #[error("the key {0} is not among the allowed signers")]
    UnknownKey(Fingerprint),
    /// The list says that it may not, or not now.
    #[error("the key {fingerprint} of {signer} {why}")]
    NotAllowed {
        /// The key.
        fingerprint: Fingerprint,
        /// Whose it is.
        signer: String,
        /// What the list says.
        why: String,
    },
    /// It is not for this text.
    #[error(
        "{0} signed something else: the manifest was changed after that, or the signature is damaged"
    )]
    OtherText(String),
    /// This program cannot verify it.
    #[error(
        "a signature by the algorithm {0} cannot be verified: use a key of type ed25519, ecdsa or rsa (2048 bits or more)"
    )]
    Algorithm(String),
    /// One person counts once.
    #[error("{0} has signed already, and counts once")]
    Again(String),
}

/// Who signed the manifest.
pub(super) fn signer<'a>(
    manifest: &str,
    signature: &str,
    allowed: &'a AllowedSigners,
    now: SystemTime,
) -> Result<&'a str, SignatureError> {
    let malformed =
        |error: ssh_key::Error| SignatureError::Malformed(printable(&error.to_string()));
    let signature = SshSig::from_pem(signature.trim()).map_err(malformed)?;
    // what is signed does not cover this number
    if signature.version() != SshSig::VERSION {
        let version = format!("version {} of the format", signature.version());
        return Err(SignatureError::Malformed(version));
    }
    if signature.namespace() != NAMESPACE {
        return Err(SignatureError::Namespace(printable(signature.namespace())));
    }
    let key = signature.public_key();
    let signer = allowed.signer(key, now)?;
    if is_over(&signature, manifest.as_bytes())? {
        Ok(signer)
    } else {
        Err(SignatureError::OtherText(signer.to_owned()))
    }
}

fn is_over(signature: &SshSig, text: &[u8]) -> Result<bool, SignatureError> {
    let algorithm = signature.algorithm();
    if let (KeyData::Rsa(key), Algorithm::Rsa { hash }) = (signature.public_key(), &algorithm) {
        let parameters = match hash {
            Some(HashAlg::Sha256) => &RSA_PKCS1_2048_8192_SHA256,
            Some(HashAlg::Sha512) => &RSA_PKCS1_2048_8192_SHA512,
            // SHA-1, or what is yet to come
            _ => return Err(SignatureError::Algorithm(algorithm.to_string())),
        };
        return Ok(is_over_rsa(signature, key, parameters, text));
    }
    let known = matches!(
        algorithm,
        Algorithm::Ed25519
            | Algorithm::Ecdsa { .. }
            | Algorithm::SkEd25519
            | Algorithm::SkEcdsaSha2NistP256
    );
    if !known {
        return Err(SignatureError::Algorithm(algorithm.to_string()));
    }
    let key = PublicKey::new(signature.public_key().clone(), "");
    Ok(key.verify(NAMESPACE, text, signature).is_ok())
}

fn is_over_rsa(
    signature: &SshSig,
    key: &RsaPublicKey,
    parameters: &RsaParameters,
    text: &[u8],
) -> bool {
    let signed = SshSig::signed_data(NAMESPACE, signature.hash_alg(), text);
    let (Ok(signed), Some(n), Some(e)) =
        (signed, key.n.as_positive_bytes(), key.e.as_positive_bytes())
    else {
        return false;
    };
    let components = RsaPublicKeyComponents { n, e };
    components
        .verify(parameters, &signed, signature.signature_bytes())
        .is_ok()
}
