//go:build !race

package jump

// bulkSize is a large transfer.
const bulkSize = 1 << 30
