// Package adminapi lets people on the host administer a running key service or
// vault, each by a Unix socket in its data folder: identities and questions about
// permissions of the one, keys, jobs on keys and suspension of the other.
//
// It promises that only the user that the service runs as, and root, are let in,
// told by the kernel and not by the client; that every operation is recorded under
// the name of that user; and that a secret in an answer is not kept. It is the
// protocol between the parts of one release, not an interface for others.
package adminapi
