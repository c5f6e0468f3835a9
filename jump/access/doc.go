// Package access reads who may use a jump server: keys in a file such as
// authorized_keys of sshd(8), and tokens, of which a file keeps the hashes.
//
// Files are strict: one bad line is an error with its number, so that nobody is
// let in, or kept out, by a slip of the pen. What is read is never written to
// again; a reload reads anew.
package access
