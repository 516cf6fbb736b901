//! Messages on the wire: invocations, what a message carries of its past, and the messages that follow from
//! it.
//!
//! Calls: text, retry. Pure.

pub mod names;
pub mod header;
pub mod envelope;
pub mod decode;
pub mod subject;
pub mod target;
pub mod form;
pub mod timer;
pub(crate) mod gzip;
pub mod successor;
pub mod arrival;
pub mod record;
pub mod answer;
pub(crate) mod http_headers;
pub mod posting;
pub mod header_block;
pub mod kept_block;
pub mod letter;
pub mod operation;
pub mod audit;
pub mod pause;
pub mod call;
