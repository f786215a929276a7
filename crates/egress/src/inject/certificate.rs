//! Certificates that servers are shown, with their keys. It opens no connection.

use contract::secret::Secret;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// The certificates of a text: the one that is shown, and those between it and its root.
///
/// # Errors
/// One line.
pub(super) fn chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match read {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) | Err(_) => Err("the certificates are no PEM with certificates".to_owned()),
    }
}

/// The certificates with their key.
///
/// # Errors
/// One line: it is no key, or not that of the first certificate.
pub(super) fn certified(pem: &str, key: &Secret) -> Result<CertifiedKey, String> {
    let chain = chain(pem)?;
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes());
    let key = key.map_err(|_| "the secret is no PEM with an unencrypted private key".to_owned())?;
    CertifiedKey::from_der(chain, key, &default_provider())
        .map_err(|error| format!("the key cannot be used with the certificate: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_goes_with_its_own_key_and_with_nothing_else() {
        let made = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let (own, other) = (made("own"), made("other"));
        let key = |pem: String| Secret::new(pem);
        let pem = own.cert.pem();
        assert!(certified(&pem, &key(own.signing_key.serialize_pem())).is_ok());
        for (chain, key, what) in [
            (
                &pem,
                key(other.signing_key.serialize_pem()),
                "cannot be used",
            ),
            (
                &pem,
                key(pem.clone()),
                "no PEM with an unencrypted private key",
            ),
            (&pem, key("secret".to_owned()), "no PEM with an unencrypted"),
            (
                &"none".to_owned(),
                key(own.signing_key.serialize_pem()),
                "no PEM with certificates",
            ),
        ] {
            let problem = certified(chain, &key).unwrap_err();
            assert!(problem.contains(what), "{problem}");
        }
    }
}
