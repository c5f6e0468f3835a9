//go:build race

package jump

// bulkSize is a large transfer, for the race detector.
const bulkSize = 256 << 20
