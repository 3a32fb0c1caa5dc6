//! Key secrets: minted from 256 random bits, kept only as a keyed hash.
//!
//! A secret is `wb-` and the 43 base64url characters (RFC 4648 §5, unpadded) of 32 random bytes.
//! The store holds HMAC-SHA256 of it (RFC 2104) under the installation's hash key, so that a copy
//! of the database alone neither shows a secret nor lets one be tried.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// What every secret begins with.
pub const PREFIX: &str = "wb-";
/// Bytes of a shown prefix: `wb-` and six characters of the 43.
const SHOWN_BYTES: usize = PREFIX.len() + 6;

/// The operating system gives no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gives no random bytes: {0}")]
pub struct NoRandomness(#[from] getrandom::Error);

/// A new key's secret, to be shown once, and what is kept of it.
pub struct Minted {
    /// The secret. Whoever holds it spends the key's money.
    pub secret: String,
    /// Its beginning, for people who tell keys apart.
    pub prefix: String,
    /// Its keyed hash, for the store.
    pub hash: [u8; 32],
}

/// Makes a secret.
///
/// # Errors
/// When there is no source of randomness.
pub fn mint(hash_key: &[u8]) -> Result<Minted, NoRandomness> {
    Ok(minted(hash_key, format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random_bytes()?))))
}

/// What is kept of a secret that somebody else has made.
pub fn minted(hash_key: &[u8], secret: String) -> Minted {
    Minted { prefix: prefix(&secret), hash: hash(hash_key, &secret), secret }
}

/// A secret's beginning. Of a foreign secret that is not ours in form, whatever its first
/// characters are.
pub fn prefix(secret: &str) -> String {
    secret.chars().take(SHOWN_BYTES).collect()
}

/// A new hash key: 32 random bytes.
///
/// # Errors
/// When there is no source of randomness.
pub fn hash_key() -> Result<[u8; 32], NoRandomness> {
    random_bytes()
}

/// 256 bits that nobody can guess.
///
/// # Errors
/// When there is no source of randomness.
pub fn random_bytes() -> Result<[u8; 32], NoRandomness> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// HMAC-SHA256 of the secret under a hash key of any length.
pub fn hash(hash_key: &[u8], secret: &str) -> [u8; 32] {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length (RFC 2104 §2)")]
    let mut mac = Hmac::<Sha256>::new_from_slice(hash_key).expect("a key of any length");
    mac.update(secret.as_bytes());
    mac.finalize().into_bytes().into()
}

/// Whether two hashes are the same, in a time that does not tell where they differ.
pub fn same(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_256_bits_in_43_characters_and_never_the_same_twice() {
        let minted = mint(b"key").unwrap();
        assert_eq!(minted.secret.len(), PREFIX.len() + 43);
        assert!(minted.secret.starts_with(&minted.prefix) && minted.prefix.len() == 9);
        assert_eq!(minted.hash, hash(b"key", &minted.secret));
        assert_ne!(minted.secret, mint(b"key").unwrap().secret);
        assert_ne!(hash_key().unwrap(), hash_key().unwrap());
    }

    /// RFC 4231, test cases 2 and 6 (a key longer than a block).
    #[test]
    fn the_hash_is_the_hmac_of_the_standard() {
        let hex = |bytes: [u8; 32]| bytes.map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(
            hex(hash(b"Jefe", "what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex(hash(&[0xaa; 131], "Test Using Larger Than Block-Size Key - Hash Key First")),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    #[test]
    fn hashes_are_equal_only_when_they_are_the_same() {
        assert!(same(&[1, 2], &[1, 2]) && !same(&[1, 2], &[1, 3]) && !same(&[1, 2], &[1]));
    }
}
