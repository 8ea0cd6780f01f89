//! placeholder

/// Why a repository could not be used.
#[derive(Debug, thiserror::Error)]
#[error("placeholder")]
#[non_exhaustive]
pub enum RepositoryError {}
