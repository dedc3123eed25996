//! The only home of `unsafe`: one file per kernel interface, each block with its reason.
#![allow(unsafe_code)]
