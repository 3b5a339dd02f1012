// Package approval is dual control over operations that no one person may do alone
// (PCI DSS v4.0.1 3.7.6, 6.5.1): somebody asks, others approve, and only then is it
// done, once.
//
// A request is a signed note (C2SP signed-note): a text that says what is to be
// done to what and why, with a signature of each person who asks or approves. It
// may travel by any way, on paper or to a machine without a network, since nothing
// in it is secret and nothing can be changed. Who may sign is in a [Register].
//
// It promises that the requester never counts as approver; that nobody counts twice;
// that a request is good for exactly the operation, target and parameters that were
// read by those who signed; that it ends; and that a folder's [Ledger] lets it be
// executed once, by one process at a time, though an execution that was cut off may be
// resumed. It does not keep a machine with another folder from executing it.
package approval
