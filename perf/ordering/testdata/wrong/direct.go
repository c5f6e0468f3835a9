package main

//go:noinline
func (r *ring) direct() uint32 { return *r.flags }
