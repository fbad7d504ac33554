//! The edgefilter daemon and command line, as a library.

pub mod compile;
pub mod dataplane;
pub mod doctor;
pub mod policy;
