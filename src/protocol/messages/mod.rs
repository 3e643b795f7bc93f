//! A file per API. Structs carry the fields of the newest version; where an older version lacks
//! one, decoding gives the default that Kafka's schema names and encoding leaves it out.

pub mod api_versions;
pub mod create_topics;
pub mod fetch;
pub mod init_producer_id;
pub mod list_offsets;
pub mod metadata;
pub mod produce;

pub use api_versions::*;
pub use create_topics::*;
pub use fetch::*;
pub use init_producer_id::*;
pub use list_offsets::*;
pub use metadata::*;
pub use produce::*;
