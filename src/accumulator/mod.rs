//! Batches per partition, and the memory they take.

pub mod append;
pub mod batch;
pub mod buffer_pool;
pub mod cuts;
pub mod front;
pub mod inbox;
pub mod seal;
pub mod slab;
pub mod ticket;
