// Command wrong accesses rings as one must not: see ordering_test.go.
package main

type ring struct {
	prod, cons, flags *uint32
	own, seen, mask   uint32
	slots             []uint64
}

// plainly has the names of package sync/atomic, and none of its instructions.
type plainly struct{}

func (plainly) LoadUint32(p *uint32) uint32     { return *p }
func (plainly) StoreUint32(p *uint32, v uint32) { *p = v }

func main() {
	r := &ring{prod: new(uint32), cons: new(uint32), flags: new(uint32), slots: make([]uint64, 1)}
	println(r.right(), r.direct(), r.plain(), r.early(), r.late(), r.forgotten(1))
}
