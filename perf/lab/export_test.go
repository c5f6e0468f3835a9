package lab

// Read-only ethtool commands, for tests.
const (
	EthtoolGetTxChecksum = ethtoolGetTxChecksum
	EthtoolGetTSO        = ethtoolGetTSO
	EthtoolGetGSO        = ethtoolGetGSO
	EthtoolGetGRO        = ethtoolGetGRO
)

// Ethtool runs a command that reads one value.
func Ethtool(h *Host, ifname string, cmd uint32) (uint32, error) { return h.ethtool(ifname, cmd, 0) }
