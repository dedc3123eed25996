//! From addresses to names: address spaces, unwinding of dumped stacks, symbols.
//!
//! [`Namer`] is the one entry. It is fed what processes map, in order, and raw stacks;
//! it gives back [`StackId`](crate::model::StackId)s and the definitions behind them.
