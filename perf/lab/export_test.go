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

// HoldSweeps keeps every process from making or sweeping labs until the
// returned function is called.
func HoldSweeps() (release func() error, err error) {
	dir, err := lockDir()
	if err != nil {
		return nil, err
	}
	f, err := lockWhole(dir)
	if err != nil {
		return nil, err
	}
	return f.Close, nil
}
