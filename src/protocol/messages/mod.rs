//! A file per API. Structs carry the fields of the newest version; where an older version lacks one, decoding gives
//! the default that Kafka's schema names and encoding leaves it out.

pub mod api_versions;
pub mod metadata;
pub mod produce;

pub use api_versions::*;
pub use metadata::*;
pub use produce::*;
