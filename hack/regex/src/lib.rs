//! The interface of `regex` on `regex-lite`.
//!
//! libcontainer and oci-spec match a handful of ASCII patterns, none of them on
//! the way of a container that does not ask for resctrl. For that the full
//! engine's automata and Unicode tables would be a tenth of our binary, and the
//! pointers in its tables are relocated at every start.
pub use regex_lite::*;
